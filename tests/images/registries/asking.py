"""A served layout, asked over one connection; and one that another process serves."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from spotweld.images.registries.distribution import Distribution
from spotweld.images.registries.distribution_client import Client
from spotweld.images.registries.serving import reachable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from spotweld.images.registries.layouts import Layout

UPLOADS = "/v2/a/b/blobs/uploads/"


class Answered:
    """What came back."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status, self.body = response.status, response.read()
        self.headers = {name.lower(): value for name, value in response.getheaders()}

    @property
    def code(self) -> str:
        """The specification's word for a refusal."""
        (error,) = json.loads(self.body)["errors"]
        assert error["message"]
        return str(error["code"])


class Asking:
    """A layout, the address under which it is served, and one connection to it."""

    def __init__(self, layout: Layout, host: str) -> None:
        self.layout, self.host = layout, host
        self.connection = http.client.HTTPConnection(host, timeout=20)

    def __call__(self, method: str, path: str, body: object = None, **headers: str) -> Answered:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request(method, path, body=body, headers=sent, encode_chunked=not isinstance(body, bytes))  # type: ignore[arg-type]
        return Answered(self.connection.getresponse())

    def raw(self, data: bytes) -> bytes:
        """All that is answered to these bytes, on a connection of their own."""
        with socket.create_connection(("127.0.0.1", int(self.host.rpartition(":")[2])), timeout=20) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def begin(self) -> str:
        """Where a new upload goes."""
        answer = self("POST", UPLOADS)
        assert (answer.status, answer.headers["range"]) == (202, "0-0")
        return answer.headers["location"]


@contextmanager
def asking(layout: Layout) -> Iterator[Asking]:
    with reachable(layout) as host:
        made = Asking(layout, host)
        yield made
        made.connection.close()


def leftovers(layout: Layout) -> list[Path]:
    return list(layout.folder.rglob(".~*"))


def patient(host: str, slept: list[float]) -> Distribution:
    return Distribution(Client(f"http://{host}", lambda _: None, sleep=slept.append, patience=20))


SERVER = """
import sys, time
from pathlib import Path
from spotweld.images.registries.layouts import Layout
from spotweld.images.registries.serving import reachable
with reachable(Layout(Path(sys.argv[1]))) as host:
    print(host, flush=True)
    time.sleep(300)
"""


@contextmanager
def elsewhere(layout: Layout) -> Iterator[tuple[Asking, subprocess.Popen[str]]]:
    """The layout served by another process."""
    served = subprocess.Popen([sys.executable, "-c", SERVER, str(layout.folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert served.stdout
        made = Asking(layout, served.stdout.readline().strip())
        yield made, served
        made.connection.close()
    finally:
        served.kill()
        served.communicate()
