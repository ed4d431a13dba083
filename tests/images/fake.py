"""A registry server that keeps to the specification in what Debian's does not, and goes wrong on purpose."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import re
import threading
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator


class Fake:
    """What the server holds and does; may be changed at any time."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.uploads: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.authorizations: list[tuple[str, str | None]] = []
        self.cut: list[int] = []
        """After how many bytes of a PATCH to break the connection, one PATCH after the other."""
        self.cut_reads: list[int] = []
        """The same for the blobs that it sends."""
        self.answers: list[tuple[str, int, dict[str, str], str]] = []
        """``METHOD path`` (a pattern), and what to answer instead: each is used once."""
        self.always: list[tuple[str, int, dict[str, str], str]] = []
        """The same, used every time."""
        self.elsewhere = ""
        """The URL of another server that has the blobs."""
        self.basic = self.bearer = ""
        """``USER:PASSWORD`` to ask for: directly, or in exchange for a token."""
        self.token = "token-1"
        self.challenges: list[str] = []
        """What to ask with for either, each in a header of its own; empty: the usual."""
        self.services: list[str] = []
        """For which tokens were asked."""
        self.proxied: list[str | None] = []
        """The ``Proxy-Authorization`` of each request."""
        self.url = ""


@contextmanager
def fake() -> Iterator[Fake]:
    """Run one until the block ends."""
    state = Fake()
    handler = type("Handler", (_Handler,), {"state": state})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="fake")
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Fake

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        request = f"{self.command} {url.path}"
        state = self.state
        state.requests.append(request)
        state.authorizations.append((request, self.headers.get("Authorization")))
        state.proxied.append(self.headers.get("Proxy-Authorization"))
        if self.command == "CONNECT":
            state.requests[-1] = f"CONNECT {self.path}"
            return self._say(502)
        length = int(self.headers.get("Content-Length", "0"))
        if self.command == "PATCH" and state.cut:
            body = self.rfile.read(min(state.cut.pop(0), length))
            state.uploads[url.path.rpartition("/")[2]] += body
            self.close_connection = True
            return None
        body = self.rfile.read(length)
        for number, (pattern, status, headers, text) in enumerate(state.answers):
            if re.fullmatch(pattern, request):
                del state.answers[number]
                return self._say(status, text.encode(), headers)
        for pattern, status, headers, text in state.always:
            if re.fullmatch(pattern, request):
                return self._say(status, text.encode(), headers)
        if url.path == "/token":
            return self._token(body, url.query)
        if not self._may():
            return None
        match re.fullmatch(r"/v2/(?:(.+)/(blobs|manifests|blobs/uploads|tags)/([^/]*))?", url.path):
            case re.Match() as found if found[2]:
                repository, kind, name = found.groups()
                return getattr(self, f"_{kind.replace('/', '_')}")(repository, name, body, parse_qs(url.query))
        return self._say(200, b"{}")

    do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = do_CONNECT = do_GET  # noqa: N815

    def _say(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _token(self, body: bytes, query: str) -> None:
        form = parse_qs(body.decode())
        basic = "Basic " + base64.b64encode(self.state.bearer.encode()).decode()
        self.state.services += {**parse_qs(query), **form}.get("service", [])
        right = form.get("refresh_token") == ["refresh"] or self.headers.get("Authorization") == basic
        if not right or "scope" not in {**parse_qs(query), **form}:
            return self._say(401, b'{"errors":[{"code":"UNAUTHORIZED","message":"wrong password"}]}')
        return self._say(200, json.dumps({"token": self.state.token}).encode())

    def _may(self) -> bool:
        state, shown = self.state, self.headers.get("Authorization")
        if state.basic and shown != "Basic " + base64.b64encode(state.basic.encode()).decode():
            return self._ask('Basic realm="fake"')
        if state.bearer and shown != f"Bearer {state.token}":
            return self._ask(f'Bearer realm="{state.url}/token",service="fake"')
        return True

    def _ask(self, usual: str) -> bool:
        self.send_response(401)
        for challenge in self.state.challenges or [usual]:
            self.send_header("WWW-Authenticate", challenge)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False

    def _blobs(self, _repository: str, name: str, _body: bytes, _query: dict[str, list[str]]) -> None:
        state = self.state
        if state.elsewhere:
            return self._say(307, b"", {"Location": f"{state.elsewhere}{self.path}"})
        data = state.blobs.get(name)
        if data is None:
            return self._say(404)
        start = int((re.match(r"bytes=(\d+)-", self.headers.get("Range", "")) or [0, 0])[1])
        if start > 0 and start >= len(data):
            return self._say(416)
        headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if "Range" in self.headers else {}
        if state.cut_reads and self.command == "GET":
            self.send_response(206 if headers else 200)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            self.wfile.write(data[start : start + state.cut_reads.pop(0)])
            self.close_connection = True
            return None
        return self._say(206 if headers else 200, data[start:], headers)

    def _manifests(self, repository: str, name: str, body: bytes, _query: dict[str, list[str]]) -> None:
        held = self.state.manifests
        if self.command == "PUT":
            digest = "sha256:" + hashlib.sha256(body).hexdigest()
            held[repository, name] = held[repository, digest] = (self.headers["Content-Type"], body)
            return self._say(201)
        if (repository, name) not in held:
            return self._say(404)
        if self.command == "DELETE":
            del held[repository, name]
            return self._say(202)
        kind, data = held[repository, name]
        return self._say(200, data, {"Content-Type": kind})

    def _tags(self, repository: str, _name: str, _body: bytes, _query: dict[str, list[str]]) -> None:
        tags = [name for at, name in self.state.manifests if at == repository and ":" not in name]
        self._say(200, json.dumps({"name": repository, "tags": tags}).encode())

    def _blobs_uploads(self, repository: str, name: str, body: bytes, query: dict[str, list[str]]) -> None:
        uploads = self.state.uploads
        if self.command == "POST":
            name = uuid.uuid4().hex
            uploads[name] = b""
        elif name not in uploads:
            return self._say(404, b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}')
        elif self.command == "DELETE":
            del uploads[name]
            return self._say(204)
        if self.command in {"PATCH", "PUT"} and body:
            extent = self.headers.get("Content-Range", f"0-{len(body) - 1}")
            if extent != f"{len(uploads[name])}-{len(uploads[name]) + len(body) - 1}":
                return self._say(416)
            uploads[name] += body
        if self.command == "PUT":
            data = uploads.pop(name)
            digest = "sha256:" + hashlib.sha256(data).hexdigest()
            if query["digest"] != [digest]:
                return self._say(400, b'{"errors":[{"code":"DIGEST_INVALID","message":"not the digest"}]}')
            self.state.blobs[digest] = data
            return self._say(201)
        headers = {"Location": f"/v2/{repository}/blobs/uploads/{name}", "Range": f"0-{max(0, len(uploads[name]) - 1)}"}
        return self._say(204 if self.command == "GET" else 202, b"", headers)
