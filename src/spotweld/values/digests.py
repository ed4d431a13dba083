"""Digests: the names of immutable bytes.

A digest is written ``blake3:<64 hex digits>``. BLAKE3 (https://github.com/BLAKE3-team/BLAKE3-specs) is a cryptographic
hash that one core computes at 3-5 GB/s, about three times as fast as SHA-256.
"""

from __future__ import annotations

import re
from typing import NewType, TypeAlias

from blake3 import blake3

Digest = NewType("Digest", str)
Data: TypeAlias = bytes | bytearray | memoryview

_FORM = re.compile(r"blake3:[0-9a-f]{64}")


def digest(data: Data) -> Digest:
    """The digest of ``data``."""
    return Digest("blake3:" + blake3(data).hexdigest())


def parse_digest(text: str) -> Digest:
    """Check that ``text`` has a digest's form.

    Raises:
        ValueError: it has not.
    """
    if not _FORM.fullmatch(text):
        msg = f"not a digest: {text[:80]!r}"
        raise ValueError(msg)
    return Digest(text)


def hex_of(name: Digest) -> str:
    """The digits alone, fit for a path."""
    return name.removeprefix("blake3:")
