"""An image layout for programs that only speak with registry servers: builders, skopeo.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md. There are no credentials: whoever can connect to
a port of this machine's loopback can read and write the layout's images while it is served. What can only come from a
web page in a browser is refused: a host's name that is not this machine's, and anything that names an origin.
"""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager, suppress
from functools import partial
from socket import SHUT_RDWR, SHUT_WR
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from zlib import crc32

from spotweld.images.registries.answering import Handler
from spotweld.images.registries.layouts import Layout
from spotweld.images.registries.references import HUB
from spotweld.images.registries.uploads import Uploads

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from typing import Any

    from spotweld.images.registries.registry import Registry

_HUB_API = "registry-1.docker.io"
_LINGER = 2.0
"""Seconds for which somebody who was refused is listened to."""
_PORTS = (20_000, 12_000)
"""The first of those that layouts are served on, and how many."""


@contextmanager
def reachable(registry: Registry) -> Iterator[str]:
    """The ``HOST[:PORT]`` under which builders reach a registry until the block ends.

    A server has its own. A layout is served on this machine's loopback, for as long as the block lasts; any number of
    processes may do that at once.
    """
    if not isinstance(registry, Layout):
        host = urlsplit(registry.url).netloc
        yield HUB if host == _HUB_API else host
        return
    server = _Server(registry)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="spotweld-layout", daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.hang_up()


def _usual_port(layout: Layout) -> int:
    """The same for a layout each time: builders remember by host and port what a registry has, and send it once only.

    Below those that Linux gives to whoever asks for any.
    """
    first, count = _PORTS
    return first + crc32(str(layout.folder).encode(errors="surrogateescape")) % count


class _Server(ThreadingMixIn, TCPServer):
    request_queue_size = 128
    allow_reuse_address = True

    def __init__(self, layout: Layout) -> None:
        self._uploads = Uploads(layout)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        handler = partial(Handler, layout, self._uploads)
        try:
            super().__init__(("127.0.0.1", _usual_port(layout)), handler)
        except OSError:
            # Somebody else has it: another build of this project, most likely.
            super().__init__(("127.0.0.1", 0), handler)

    def hang_up(self) -> None:
        """End all connections, wait until nobody writes any more, and forget what has not arrived whole."""
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(SHUT_RDWR)
        self.server_close()
        self._uploads.drop_all()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        with self._lock:
            self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        assert not isinstance(request, tuple)  # noqa: S101  that is a datagram's
        # Whoever still sends loses the answer when the connection is closed before all of it was read.
        with suppress(OSError):
            request.shutdown(SHUT_WR)
            request.settimeout(_LINGER)
            end = time.monotonic() + _LINGER
            while request.recv(2**16) and time.monotonic() < end:
                pass
        with self._lock:
            self._open.discard(request)
        self.close_request(request)

    def handle_error(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        """Say nothing of connections that broke: whoever broke them knows, or is gone."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)
