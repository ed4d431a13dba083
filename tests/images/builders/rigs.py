"""Machines to build on: each has a builder with an empty storage of its own, and can be taken away."""

from __future__ import annotations

import http.server
import os
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
import time
import traceback
import urllib.parse
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Self

import msgspec

from spotweld.images.builders.buildah import Buildah
from spotweld.images.builders.builder import Solve
from spotweld.images.builders.buildkit import BuildKit, ladder_of
from spotweld.images.builders.ladder import salt_of, stages
from spotweld.images.builders.restocking import unfindable
from spotweld.images.dockerfiles.dockerfile import parse
from spotweld.images.dockerfiles.ignore import read
from spotweld.images.registries.opening import open_registry
from spotweld.images.steps.context import Context
from spotweld.images.steps.keys import references, step_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from spotweld.images.builders.builder import Builder

KINDS = ("buildah", "buildkit")
DOCKER = Path(os.environ.get("SPOTWELD_DOCKER", Path(__file__).parents[3] / ".venv" / "docker")) / "bin"
"""Where ``scripts/fetch-docker`` has put dockerd and buildx."""
FILES = {"one": "1\n", "two": "2\n"}
"""The context of the fixture ``three_stages``."""
NAMES = ("a1", "a2", "a3", "b1", "b2", "b3", "c1", "c2", "c3")
"""Of its RUNs."""
_ANY = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"
_NAMESPACES = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--"]


class Machine(msgspec.Struct):
    """One machine. ``folder`` is all of its disk."""

    kind: str
    folder: Path
    daemon: subprocess.Popen[bytes] | None = None

    def builder(self) -> Builder:
        """Its builder."""
        if self.kind == "buildah":
            return Buildah(self.folder)
        return BuildKit((str(DOCKER / "docker-buildx"),), f"unix://{self.folder}/socket", network="host")

    def start(self, solve: Solve, out: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        """Begin to build in another process, which may be killed. `building` says what goes to ``out``."""
        told = [self.kind, str(self.folder), msgspec.json.encode(solve, enc_hook=str).decode()]
        return subprocess.Popen(
            [sys.executable, "-m", "tests.images.builders.building", *told],
            cwd=_root(),
            stdout=out,
            text=True,
        )

    def kill(self) -> None:
        """Take it away with all that runs on it."""
        if self.daemon is not None:
            self.daemon.kill()
            self.daemon.wait()


@contextmanager
def machine(kind: str, folder: Path, *, network: bool = True) -> Iterator[Machine]:
    """A fresh machine until the block ends; without ``network``, a daemon cannot reach this one's."""
    folder.mkdir()
    if kind == "buildah":
        yield Machine(kind, folder)
        return
    (folder / "daemon.json").write_text('{"features": {"containerd-snapshotter": true}, "userland-proxy": false}')
    with (folder / "log").open("wb") as log, ExitStack() as stack:
        # Of its own, because a socket's path can have 104 bytes only.
        running = stack.enter_context(TemporaryDirectory(prefix="d", ignore_cleanup_errors=True))
        command = [str(DOCKER / "dockerd"), f"--config-file={folder}/daemon.json", f"--host=unix://{folder}/socket"]
        command += [f"--data-root={folder}/data", f"--exec-root={running}", f"--pidfile={folder}/pid"]
        command += ["--bridge=none", "--iptables=false", "--ip6tables=false"]
        daemon = subprocess.Popen(
            [
                "setpriv",
                "--pdeathsig",
                "KILL",
                *_NAMESPACES[:1],
                *([] if network else ["--net"]),
                *_NAMESPACES[1:],
                *command,
            ],
            stdout=log,
            stderr=log,
            env={**os.environ, "TMPDIR": str(folder)},
            start_new_session=True,
        )
        made = Machine(kind, folder, daemon)
        stack.callback(made.kill)
        eventually(lambda: daemon.poll() is not None or "API listen on" in (folder / "log").read_text())
        assert daemon.poll() is None, (folder / "log").read_text()
        yield made


class Counter:
    """A server that instructions call, so that it is known how often each really ran.

    Attributes:
        calls: the names that were called, in order: ``begin/NAME`` and ``end/NAME``.
        hook: is called with each name, and says whether it is answered.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.hook: Callable[[str], bool] = lambda _: True
        counter = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def handle(self) -> None:
                counter.note(f"{self.client_address[1]} is there")
                super().handle()

            def do_GET(self) -> None:
                name = urllib.parse.unquote(self.path.lstrip("/"))
                counter.calls.append(name)
                if not counter.hook(name):
                    self.close_connection = True
                    counter.note(f"{self.client_address[1]} {name}: not answered")
                    return
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, form: str, *args: object) -> None:
                counter.note(f"{self.client_address[1]} {form % args}")

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, _: object, client: tuple[str, int]) -> None:
                counter.note(f"{client[1]} {traceback.format_exc()}")

        self._log: list[str] = []
        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        # pytest shows this if the test fails.
        sys.stdout.write("\n".join(["", f"the counter at {self.url}:", *self._log, ""]))

    def note(self, line: str) -> None:
        """Add a line to its log."""
        self._log.append(f"{time.time():.3f} {line}")

    def run(self, name: str, command: str = "true") -> str:
        """A RUN that says when it begins and when it ends."""
        return f"RUN wget -q -O - {self.url}/begin/{name} && {command} && wget -q -O - {self.url}/end/{name}"


class Gate:
    """Stands between builders and a registry.

    Args:
        registry: the registry's host and port.

    Attributes:
        host: its own.
        hook: is called with the first line of what clients send, and says whether the registry gets it.
    """

    def __init__(self, registry: str) -> None:
        self.hook: Callable[[str], bool] = lambda _: True
        target, _, port = registry.partition(":")
        gate = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with socket.create_connection((target, int(port))) as there:
                    threading.Thread(target=_pour, args=(there, self.request), daemon=True).start()
                    _pour(self.request, there, lambda data: gate.hook(data.partition(b"\r\n")[0].decode("latin-1")))

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _pour(source: socket.socket, into: socket.socket, may_go: Callable[[bytes], bool] = lambda _: True) -> None:
    try:
        while (data := source.recv(1 << 16)) and may_go(data):
            into.sendall(data)
        into.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def until_durable(kind: str, solve: Solve, line: int) -> None:
    """Wait until the instruction at ``line``, which has ended, is in the registry. Most of buildah's are at once."""
    if kind == "buildkit":
        tags = {rung.line: rung.tags[0] for rung in ladder_of(solve)}
    else:
        document = parse(solve.dockerfile.read_text())
        named = unfindable(document, stages(document, salt_of(solve), solve.keys))
        tags = {document.stages[stage].instructions[number].line: tag for (stage, number), tag in named.items()}
    host, _, name = solve.cache.partition("/")
    if line in tags:
        eventually(lambda: _answers(f"http://{host}/v2/{name}/manifests/{tags[line]}"))


def keyed(solve: Solve) -> Solve:
    """The same with the content keys of its instructions."""
    document = parse(solve.dockerfile.read_text())
    host = solve.cache.partition("/")[0]
    context = Context(solve.context, read(solve.context, solve.dockerfile))
    names = [one.name for one in references(document, solve.args, "linux/amd64")]
    bases = {name: open_registry(host).resolve(name.removeprefix(f"{host}/"), "latest") for name in names}
    steps = step_keys(document, context, solve.args, bases, "linux/amd64")
    return msgspec.structs.replace(solve, keys=tuple((step.stage, step.number, step.key) for step in steps))


def make_base(registry: str, folder: Path) -> str:
    """Put an image with a shell into the registry; gives its reference."""
    shutil.copy(shutil.which("busybox") or "", folder / "busybox")
    (folder / "Dockerfile").write_text(
        'FROM scratch\nCOPY busybox /bin/busybox\nRUN ["/bin/busybox", "--install", "-s", "/bin"]\n'
    )
    image = f"{registry}/base"
    Buildah(folder / "machine").solve(Solve(folder, folder / "Dockerfile", f"{registry}/base-cache", image=image))
    return image


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until it does."""
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def _answers(url: str) -> bool:
    try:
        request = urllib.request.Request(url, headers={"Accept": _ANY})
        with urllib.request.urlopen(request, timeout=5):
            return True
    except OSError:
        return False


def _root() -> Path:
    return Path(__file__).parents[3]
