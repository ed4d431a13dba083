"""The body of an HTTP request, piece by piece (https://www.rfc-editor.org/rfc/rfc9112#section-6)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message
    from io import BufferedIOBase

_PIECE = 2**20
_LINE = 4096
_TRAILERS = 100
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;.*)?\r?\n")


class Malformed(ValueError):
    """Where the body ends cannot be known, so nothing that follows can be understood."""


class CutOff(ConnectionError):
    """The other side went away in the middle of it."""


def body(stream: BufferedIOBase, headers: Message) -> Iterator[bytes]:
    """The bytes after a request's headers, and not one of the next request's.

    Raises:
        Malformed: they are not as the headers say; at the first piece.
        CutOff: there are fewer.
    """
    coding = headers.get_all("Transfer-Encoding", [])
    lengths = set(headers.get_all("Content-Length", []))
    if coding:
        if lengths or [one.strip().lower() for one in coding] != ["chunked"]:
            raise Malformed("Transfer-Encoding is not chunked alone")
        yield from _chunks(stream)
    elif lengths:
        length = lengths.pop().strip()
        if lengths or not re.fullmatch("[0-9]{1,18}", length):
            raise Malformed("Content-Length is not one number")
        yield from _bytes(stream, int(length))


def _bytes(stream: BufferedIOBase, left: int) -> Iterator[bytes]:
    while left:
        piece = stream.read1(min(left, _PIECE))
        if not piece:
            raise CutOff(f"{left} bytes are missing")
        left -= len(piece)
        yield piece


def _chunks(stream: BufferedIOBase) -> Iterator[bytes]:
    while True:
        begun = _CHUNK.fullmatch(_line(stream))
        if not begun:
            raise Malformed("a chunk does not begin with its size")
        size = int(begun[1], 16)
        if size == 0:
            break
        yield from _bytes(stream, size)
        if _line(stream).strip():
            raise Malformed("a chunk is longer than its size")
    for _ in range(_TRAILERS):
        if not _line(stream).strip():
            return
    raise Malformed("too many trailers")


def _line(stream: BufferedIOBase) -> bytes:
    line = stream.readline(_LINE)
    if not line.endswith(b"\n") and len(line) < _LINE:
        raise CutOff("a line is missing")
    return line
