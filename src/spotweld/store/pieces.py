"""Bytes that lie in several places: one object is often written from many buffers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from spotweld.values.digests import Data

Pieces: TypeAlias = Data | Sequence[Data]
"""Bytes in one buffer, or in several that follow one another."""


def views(data: Pieces) -> list[memoryview]:
    """The pieces one by one, as bytes; empty ones are left out."""
    pieces = [data] if isinstance(data, (bytes, bytearray, memoryview)) else data
    return [view for piece in pieces if (view := memoryview(piece).cast("B"))]


def joined(data: Pieces) -> Data:
    """All in one buffer; copied only if there are several."""
    if isinstance(data, (bytes, bytearray, memoryview)):
        return data
    return data[0] if len(data) == 1 else b"".join(data)


def size_of(data: Pieces) -> int:
    """Bytes in all."""
    return sum(view.nbytes for view in views(data))
