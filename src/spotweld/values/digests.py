"""Digests: what immutable bytes must be.

A digest is written as its algorithm, a colon and hexadecimal digits. ``blake3:`` and 64 digits names things: BLAKE3
(https://github.com/BLAKE3-team/BLAKE3-specs) is a cryptographic hash that one core computes at 3-5 GB/s, about three
times as fast as SHA-256. ``xxh3:`` and 32 digits tells damage in the bulk of a checkpoint: XXH3-128
(https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md) runs at the speed of memory, and no accident goes
unnoticed by 128 bits; but whoever wants to can make two texts that share one, so no name is ever trusted for it.
``docs/decisions/0005-two-digests.md`` has the figures.
"""

from __future__ import annotations

import re
from typing import NewType, TypeAlias

import xxhash
from blake3 import blake3

Digest = NewType("Digest", str)
Data: TypeAlias = bytes | bytearray | memoryview

_FORM = re.compile(r"blake3:[0-9a-f]{64}|xxh3:[0-9a-f]{32}")


def digest(data: Data) -> Digest:
    """The digest of ``data``."""
    return Digest("blake3:" + blake3(data).hexdigest())


def checksum(data: Data) -> Digest:
    """The quick digest of ``data``, against accidents."""
    return Digest("xxh3:" + xxhash.xxh3_128_hexdigest(data))


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
    return name.partition(":")[2]
