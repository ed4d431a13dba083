"""Which bytes go into which pack: a pure function of the leaves' sizes, so that unchanged parts make unchanged packs.

A snapshot lays its leaves one after another into one stretch of memory. Packs are slices of that stretch: small leaves
share one, a large leaf has its own, and one that is larger than a pack is split.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from spotweld.checkpoint.arrays import ALIGNMENT

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

PACK_LIMIT = 64 * 2**20
"""Bytes in a pack, at most."""
_LARGE = 16 * 2**20
"""A leaf of this size stands alone, so that it is not written again because its neighbour changed."""
_PART = 2**20
"""A part of the state (the model, the optimizer) begins a new pack if the pack before has this size."""


class Slice(msgspec.Struct, frozen=True):
    """Where a piece of a leaf lies."""

    pack: int
    offset: int
    """Bytes from the start of the pack."""
    size: int


class Layout(msgspec.Struct, frozen=True):
    """Where every leaf lies."""

    size: int
    """Bytes of the whole stretch."""
    starts: tuple[int, ...]
    """Of each leaf, from the start of the stretch; multiples of ``ALIGNMENT``."""
    packs: tuple[tuple[int, int], ...]
    """Start and end of each pack in the stretch."""
    slices: tuple[tuple[Slice, ...], ...]
    """The pieces of each leaf in order; none for an empty one."""


def plan(
    sizes: Sequence[int],
    parts: Collection[int] = (),
    *,
    limit: int = PACK_LIMIT,
    large: int = _LARGE,
    part: int = _PART,
) -> Layout:
    """Lay leaves of these sizes (bytes) into packs, in order.

    Args:
        sizes: of the leaves.
        parts: the leaves that begin a part of the state.
        limit: bytes in a pack, at most; a multiple of ``ALIGNMENT``.
        large: a leaf of this size has packs of its own.
        part: a leaf in ``parts`` begins a new pack if the pack before it has this size.
    """
    starts: list[int] = []
    slices: list[tuple[Slice, ...]] = []
    packs: list[tuple[int, int]] = []
    at, first = 0, 0  # the end of the last leaf; the start of the open pack, which is empty while first == at

    def close() -> None:
        nonlocal first, at
        if at > first:
            packs.append((first, at))
        first = at = _aligned(at)

    for index, size in enumerate(sizes):
        start = _aligned(at)
        if size and (start - first + size > limit or size >= large or (index in parts and at - first >= part)):
            close()
            start = at
        starts.append(start)
        pieces = []
        while start + size > first + limit:
            pieces.append(Slice(len(packs), start - first, limit))
            size -= limit  # noqa: PLW2901
            at = start = start + limit
            close()
        if size:
            pieces.append(Slice(len(packs), start - first, size))
            at = start + size
        slices.append(tuple(pieces))
        if sizes[index] >= large:
            close()
    close()
    return Layout(packs[-1][1] if packs else 0, tuple(starts), tuple(packs), tuple(slices))


def _aligned(at: int) -> int:
    return -(-at // ALIGNMENT) * ALIGNMENT
