"""A TCP proxy in front of a server that makes its link slow, flaky, or gone for a while."""

from __future__ import annotations

import random
import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE = 2**15


class Link:
    """How the link is now; may be changed at any time.

    Requests are told apart by their first bytes alone, so a client must not send one before the former is answered.
    """

    def __init__(self, port: int) -> None:
        self.rate = float("inf")
        """Bytes a second, of all connections together."""
        self.refused = self.cut = self.lost = 0.0
        """Shares of requests: answered by 503; cut off in the middle; done, and the answer lost."""
        self.away = threading.Event()
        """While it is set, connections are cut off."""
        self.requests = self.harmed = 0
        self._port, self._dice, self._lock = port, random.Random(7), threading.Lock()
        self._free_at = 0.0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), name="proxy", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(("127.0.0.1", self._port)) as server:
            lost = threading.Event()
            back = threading.Thread(target=self._answer, args=(server, client, lost), name="proxy", daemon=True)
            back.start()
            while data := client.recv(_PIECE):
                if data.split(b" ", 1)[0] in {b"GET", b"PUT", b"POST", b"HEAD", b"DELETE"} and self._harm(client, lost):
                    break
                if self.away.is_set():
                    break
                self._wait(len(data))
                server.sendall(data)
            if lost.is_set():
                time.sleep(0.2)  # for the request to be done
            for end in (client, server):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            back.join(10)

    def _harm(self, client: socket.socket, lost: threading.Event) -> bool:
        """Whether the connection ends here; perhaps only its answer will."""
        with self._lock:
            self.requests += 1
            dice = self._dice.random()
            self.harmed += dice < self.refused + self.cut + self.lost
        if dice < self.refused:
            client.sendall(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return True
        if dice < self.refused + self.cut:
            return True
        if dice < self.refused + self.cut + self.lost:
            lost.set()
        return False

    def _answer(self, server: socket.socket, client: socket.socket, lost: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(_PIECE):
                if lost.is_set() or self.away.is_set():
                    client.shutdown(socket.SHUT_RDWR)
                    return
                self._wait(len(data))
                client.sendall(data)

    def _wait(self, size: int) -> None:
        with self._lock:
            now = time.monotonic()
            self._free_at = max(now, self._free_at) + size / self.rate
            pause = self._free_at - now
        time.sleep(max(0.0, pause))


@contextmanager
def link_to(port: int) -> Iterator[Link]:
    """A proxy for a server on 127.0.0.1."""
    link = Link(port)
    try:
        yield link
    finally:
        link.close()
