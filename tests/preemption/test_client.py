"""The client against servers that break HTTP itself."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from spotweld.preemption.metadata_client import LARGEST, Client

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def saying(said: bytes, *, dribble: bool = False) -> Iterator[str]:
    """A server that answers one connection with these bytes and hangs up, or goes on byte by byte for ever."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                with suppress(OSError):
                    connection.sendall(said)
                    while dribble and not over.wait(0.01):
                        connection.sendall(b"x")

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        over.set()
        thread.join()


def test_a_whole_answer_is_read_with_and_without_a_length() -> None:
    for header in (b"Content-Length: 4\r\n", b""):
        with saying(b"HTTP/1.1 200 OK\r\nETag: 7\r\n" + header + b"\r\nTRUE") as url:
            answer = Client(url).ask("GET", "/", {}, 20)
        assert answer is not None
        assert (answer.status, answer.headers["etag"], answer.body) == (200, "7", b"TRUE")


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\x00\xff\n\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nTRUE",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nTRUE",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (LARGEST + 1),
    ],
    ids=["nothing", "noise", "ssh", "status", "headers", "header", "short", "chunk", "huge"],
)
def test_a_broken_answer_is_none(said: bytes) -> None:
    with saying(said) as url:
        assert Client(url).ask("GET", "/", {}, 20) is None


def test_a_body_that_never_ends_is_given_up() -> None:
    with saying(b"HTTP/1.1 200 OK\r\n\r\n", dribble=True) as url:
        assert Client(url).ask("GET", "/", {}, 0.1) is None


def test_nobody_there_is_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    assert Client(url).ask("GET", "/", {}, 20) is None


def test_a_base_that_is_no_address_is_none() -> None:
    for base in ("https://127.0.0.1", "http://", "127.0.0.1:port"):
        assert Client(base).ask("GET", "/", {}, 1) is None


def test_a_closed_client_asks_nobody() -> None:
    with saying(b"HTTP/1.1 200 OK\r\n\r\nTRUE") as url:
        client = Client(url)
        client.close()
        assert client.ask("GET", "/", {}, 20) is None
