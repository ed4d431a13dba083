"""Reading JSON that somebody else wrote."""

from __future__ import annotations

from typing import TypeVar

import msgspec

T = TypeVar("T")


def read_json(data: bytes | msgspec.Raw, kind: type[T]) -> T | None:
    """``data`` as a ``kind``; None if it is anything else, however broken or deep."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
