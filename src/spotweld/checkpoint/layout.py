"""Which bytes go into which chunk: a pure function of the leaves' sizes, so that unchanged parts make unchanged chunks.

A large leaf has chunks of its own, one after another. Small leaves of the same group share one. A chunk's size is a
multiple of ``BLOCK``, so that it can be written from where it lies; what its leaves do not fill is zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from spotweld.checkpoint.arrays import ALIGNMENT

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

CHUNK = 4 * 2**20
"""Bytes in a chunk, at most: the unit of sharing, of checking, of compressing and of reading."""
BLOCK = 4096
"""A chunk's size is a multiple of this."""
SMALL = 256 * 2**10
"""A leaf below this size shares its chunk: it would cost a digest and a line in the manifest of its own."""


# Thousands of these live from save to save, here and in `format`: tracked by the garbage collector, they would bring on
# whole collections while the training stands still.
class Part(msgspec.Struct, frozen=True, gc=False):
    """A piece of a leaf within a chunk."""

    leaf: int
    start: int
    """Bytes from the leaf's start."""
    offset: int
    """Bytes from the chunk's start."""
    size: int


class Plan(msgspec.Struct, frozen=True, gc=False):
    """What one chunk holds."""

    size: int
    """Bytes, the zeros at its end included."""
    parts: tuple[Part, ...]
    """In order, without overlap."""


class Layout(msgspec.Struct, frozen=True):
    """Where every leaf lies."""

    chunks: tuple[Plan, ...]
    places: tuple[tuple[int, int], ...]
    """Of each leaf: the chunk in which it begins, and where in that; (0, 0) for an empty one."""

    @property
    def size(self) -> int:
        """Bytes of all chunks."""
        return sum(plan.size for plan in self.chunks)


def lay_out(sizes: Sequence[int], groups: Sequence[Hashable], *, small: int = SMALL) -> Layout:
    """Lay leaves of these sizes (bytes) into chunks.

    Args:
        sizes: of the leaves.
        groups: of the leaves; small ones of one group share chunks.
        small: bytes from which on a leaf is large.
    """
    chunks: list[Plan | None] = []
    places: list[tuple[int, int]] = []
    open_: dict[Hashable, tuple[int, list[Part], int]] = {}
    for leaf, (size, group) in enumerate(zip(sizes, groups, strict=True)):
        if size == 0:
            places.append((0, 0))
        elif size >= small:
            places.append((len(chunks), 0))
            for start in range(0, size, CHUNK):
                part = Part(leaf, start, 0, min(CHUNK, size - start))
                chunks.append(Plan(_blocks(part.size), (part,)))
        else:
            number, parts, end = open_.get(group, (-1, [], CHUNK))
            offset = -(-end // ALIGNMENT) * ALIGNMENT
            if offset + size > CHUNK:
                if parts:
                    chunks[number] = Plan(_blocks(end), tuple(parts))
                number, parts, offset = len(chunks), [], 0
                chunks.append(None)
            parts.append(Part(leaf, 0, offset, size))
            open_[group] = number, parts, offset + size
            places.append((number, offset))
    for number, parts, end in open_.values():
        chunks[number] = Plan(_blocks(end), tuple(parts))
    return Layout(tuple(plan for plan in chunks if plan is not None), tuple(places))


def _blocks(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
