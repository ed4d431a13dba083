"""A metadata service as three clouds speak it: AWS IMDSv2, GCP, and Azure scheduled events, on loopback.

The local provider runs one on each of its machines; the tests run them with faults. Protocols after the clouds' public
documentation: AWS "Spot Instance interruption notices" and "Use IMDSv2", GCP "Query VM metadata", Azure "Scheduled
Events for Linux VMs".
"""

from __future__ import annotations

import secrets
import threading
from collections import deque
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, NamedTuple, Self
from urllib.parse import parse_qsl, urlsplit

import msgspec

from spotweld.preemption.notices import Kind
from spotweld.values.clocks import SystemClock, iso

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spotweld.values.clocks import Clock

MACHINE = "spotweld-machine"
"""The machine's own name among the resources of an Azure event."""
LONGEST_TOKEN = 21600
"""Seconds: the longest life that AWS gives a token."""


class Faults(msgspec.Struct, frozen=True):
    """What a metadata service does wrong; as constructed, nothing."""

    status: int | None = None
    """Answer everything with this status."""
    body: bytes | None = None
    """Answer everything with this body: garbage, or far too much."""
    stall: float = 0.0
    """Seconds of silence before every answer."""
    redirect: str | None = None
    """Send everybody to this URL."""
    early: bool = False
    """Long polls are answered at once."""
    without_etag: bool = False
    """GCP's answers carry no ETag."""
    neighbours: tuple[str, ...] = ()
    """Other machines for which Azure announces a preemption."""


class _Said(NamedTuple):
    """What is announced now."""

    terminate: float | None = None
    rebalance: float | None = None
    changes: int = 1


class _Answer(NamedTuple):
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}


class MetadataServer:
    """Serves on 127.0.0.1 from ``start`` until ``stop``; also a context manager.

    Args:
        port: where to listen; 0: any free port.
        machine: the name of the machine that it stands beside.
        clock: by which tokens expire and events start.
    """

    def __init__(self, port: int = 0, *, machine: str = MACHINE, clock: Clock | None = None) -> None:
        self.machine = machine
        self.faults = Faults()
        """May be replaced at any time."""
        self.asked: deque[str] = deque(maxlen=1000)
        """The latest requests, as ``METHOD path``."""
        self._clock = clock or SystemClock()
        self._said = _Said()
        self._changed = threading.Condition()
        self._stopping = False
        self._tokens: dict[str, float] = {}
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.service = self
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="spotweld-metadata", daemon=True
        )

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``, known before ``start``."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> None:
        """Begin to answer. Once."""
        self._thread.start()

    def stop(self) -> None:
        """Hang up on everybody and free the port. A second call does nothing."""
        with self._changed:
            if self._stopping:
                return
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def announce(self, kind: Kind, deadline: float) -> None:
        """Say from now on that the machine will be taken at ``deadline`` (seconds since 1970 UTC), or may be.

        Only AWS knows a rebalance recommendation; for it the deadline is the time at which it was given.
        """
        with self._changed:
            if kind is Kind.TERMINATE:
                self._say(self._said._replace(terminate=deadline))
            else:
                self._say(self._said._replace(rebalance=deadline))

    def withdraw(self) -> None:
        """Say from now on that nothing will happen to the machine."""
        with self._changed:
            self._say(_Said(changes=self._said.changes))

    def forget_tokens(self) -> None:
        """Make every AWS token invalid, as a restart of the service does."""
        self._tokens.clear()

    def _say(self, said: _Said) -> None:
        self._said = said._replace(changes=said.changes + 1)
        self._changed.notify_all()

    def _hold(self, seconds: float, unless_changed_from: int | None = None) -> None:
        """Wait; no longer than until the server stops, or until what it says has changed."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._stopping or unless_changed_from not in {None, self._said.changes}, seconds
            )

    def answer(self, method: str, target: str, headers: Mapping[str, str]) -> _Answer:
        """What a client gets for this request; ``headers`` has lower-case names."""
        self.asked.append(f"{method} {target}")
        faults = self.faults
        if faults.stall:
            self._hold(faults.stall)
        if faults.redirect is not None:
            return _Answer(302, b"", {"Location": faults.redirect})
        if faults.status is not None or faults.body is not None:
            return _Answer(faults.status or 200, faults.body or b"")
        url = urlsplit(target)
        query = dict(parse_qsl(url.query))
        if url.path.startswith("/latest/"):
            return self._aws(method, url.path, headers)
        if url.path.startswith("/computeMetadata/"):
            return self._gcp(url.path, query, headers)
        if url.path.startswith("/metadata/"):
            return self._azure(url.path, query, headers)
        return _Answer(404)

    def _aws(self, method: str, path: str, headers: Mapping[str, str]) -> _Answer:
        now = self._clock.monotonic()
        if path == "/latest/api/token":
            if method != "PUT":
                return _Answer(405)
            life = headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
            if not (life.isdecimal() and 1 <= int(life) <= LONGEST_TOKEN):
                return _Answer(400)
            token = secrets.token_urlsafe(32)
            self._tokens[token] = now + int(life)
            return _Answer(200, token.encode(), {"X-aws-ec2-metadata-token-ttl-seconds": life})
        if self._tokens.get(headers.get("x-aws-ec2-metadata-token", ""), now) <= now:
            return _Answer(401)
        said = self._said
        if path == "/latest/meta-data/spot/instance-action" and said.terminate is not None:
            return _json({"action": "terminate", "time": iso(said.terminate)})
        if path == "/latest/meta-data/events/recommendations/rebalance" and said.rebalance is not None:
            return _json({"noticeTime": iso(said.rebalance)})
        return _Answer(404)

    def _gcp(self, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> _Answer:
        if headers.get("metadata-flavor") != "Google":
            return _Answer(403)
        if path != "/computeMetadata/v1/instance/preempted":
            return _Answer(404)
        if query.get("wait_for_change") == "true" and not self.faults.early:
            known = self._said.changes
            if query.get("last_etag") in {None, _etag(known)}:
                self._hold(float(query.get("timeout_sec", "3600")), known)
        said = self._said
        answered = {"Metadata-Flavor": "Google", "Content-Type": "application/text"}
        if not self.faults.without_etag:
            answered["ETag"] = _etag(said.changes)
        return _Answer(200, b"FALSE" if said.terminate is None else b"TRUE", answered)

    def _azure(self, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> _Answer:
        if headers.get("metadata", "").lower() != "true" or not query.get("api-version"):
            return _Answer(400)
        if path == "/metadata/instance/compute/name" and query.get("format") == "text":
            return _Answer(200, self.machine.encode(), {"Content-Type": "text/plain"})
        if path != "/metadata/scheduledevents":
            return _Answer(404)
        said = self._said
        now = self._clock.now()
        events = [] if said.terminate is None else [_event(self.machine, said.terminate, now)]
        events += [_event(neighbour, now + 30, now) for neighbour in self.faults.neighbours]
        return _json({"DocumentIncarnation": said.changes, "Events": events})


def _json(value: object) -> _Answer:
    return _Answer(200, msgspec.json.encode(value), {"Content-Type": "application/json"})


def _etag(changes: int) -> str:
    return f"{changes:016x}"


def _event(machine: str, deadline: float, now: float) -> dict[str, object]:
    """One of Azure's scheduled events; its id depends on the machine and the deadline alone."""
    started = deadline <= now
    return {
        "EventId": f"{machine}-{deadline:.3f}",
        "EventType": "Preempt",
        "ResourceType": "VirtualMachine",
        "Resources": [machine],
        "EventStatus": "Started" if started else "Scheduled",
        "NotBefore": "" if started else formatdate(deadline, usegmt=True),
        "Description": "",
        "EventSource": "Platform",
        "DurationInSeconds": -1,
    }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 32
    service: MetadataServer

    def handle_error(self, *_: object) -> None:
        """A client that hung up is no event."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._respond()

    def do_PUT(self) -> None:
        self._respond()

    def _respond(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.service.answer(self.command, self.path, headers)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""
