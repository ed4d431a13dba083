"""Which rank stores which part of which array: a pure function of what the ranks hold.

An *item* is an array of the state; all ranks walk the state alike and so number its items alike. A rank holds a *box*
of each item: the whole of a plain array, the local shard of a ``DTensor``, or nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from spotweld.checkpoint.arrays import Kind, itemsize
from spotweld.errors import StateMismatch, UnsupportedState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


SMALL = 2**20
"""Bytes: what is smaller and held by several ranks is the first one's to store. Little would be gained by spreading it,
and where the ranks' values differ, as those of a batch norm do under DDP, it is rank 0's that go on."""


class Box(msgspec.Struct, frozen=True, array_like=True):
    """A part of an array."""

    offsets: tuple[int, ...]
    """Where it begins, in every dimension."""
    shape: tuple[int, ...]

    @property
    def volume(self) -> int:
        """Elements."""
        return math.prod(self.shape)


class Item(msgspec.Struct, frozen=True, array_like=True):
    """An array of the state, as one rank sees it."""

    kind: Kind
    dtype: str
    shape: tuple[int, ...]
    """Of the whole."""
    sharded: bool
    """It is a ``DTensor``, be it on one rank."""
    box: Box | None
    """What the rank holds."""


class View(msgspec.Struct, frozen=True):
    """What one rank sees of the state that all ranks share."""

    values: str
    """Digest of everything but the arrays."""
    items: tuple[Item, ...]


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """What a rank has to store."""

    item: int
    box: Box


def assign(views: Sequence[View], paths: Sequence[str]) -> list[list[Piece]]:
    """By rank: the pieces that it stores, by item. Every element is stored once, and what is large is spread evenly.

    Args:
        views: of the ranks.
        paths: of the items, for errors.

    Raises:
        StateMismatch: the ranks differ in what they should share.
        UnsupportedState: the ranks together do not hold the whole of an item.
    """
    _compare(views, paths)
    load = [0] * len(views)
    mine: list[list[Piece]] = [[] for _ in views]
    for number, item in enumerate(views[0].items):
        holders: dict[Box, list[int]] = {}
        for rank, view in enumerate(views):
            box = view.items[number].box
            # An empty array has one empty box; an empty box of another array is nothing.
            if box is not None and (box.volume or not math.prod(item.shape)):
                holders.setdefault(box if box.volume else Box((0,) * len(item.shape), item.shape), []).append(rank)
        _check_whole(item, holders, paths[number])
        for box, ranks in holders.items():
            size = box.volume * itemsize(item.kind, item.dtype)
            owner = ranks[0] if size < SMALL else min(ranks, key=lambda rank: (load[rank], rank))
            load[owner] += size
            mine[owner].append(Piece(number, box))
    return mine


def overlap(one: Box, other: Box) -> Box | None:
    """What both contain, in the coordinates of the whole; None: nothing."""
    starts = tuple(max(*pair) for pair in zip(one.offsets, other.offsets, strict=True))
    ends = (
        min(a + length, b + width)
        for a, length, b, width in zip(one.offsets, one.shape, other.offsets, other.shape, strict=True)
    )
    shape = tuple(end - start for start, end in zip(starts, ends, strict=True))
    return Box(starts, shape) if all(length > 0 for length in shape) else None


def apart(boxes: Iterable[Box]) -> bool:
    """Whether no two of them, of one array, have an element in common."""
    near: list[Box] = []
    for box in sorted((one for one in boxes if one.volume), key=lambda one: one.offsets):
        near = [one for one in near if not box.shape or one.offsets[0] + one.shape[0] > box.offsets[0]]
        if any(overlap(one, box) is not None for one in near):
            return False
        near.append(box)
    return True


def _compare(views: Sequence[View], paths: Sequence[str]) -> None:
    first = views[0]
    for rank, view in enumerate(views):
        for number, (ours, theirs) in enumerate(zip(first.items, view.items, strict=False)):
            if (ours.kind, ours.dtype, ours.shape, ours.sharded) != (
                theirs.kind,
                theirs.dtype,
                theirs.shape,
                theirs.sharded,
            ):
                raise _differ(rank, f"{paths[number]} is {_words(ours)} on rank 0 and {_words(theirs)} on rank {rank}")
        if len(view.items) != len(first.items) or view.values != first.values:
            raise _differ(rank, "names or plain values in it are others than on rank 0")


def _differ(rank: int, why: str) -> StateMismatch:
    return StateMismatch(
        f"Rank {rank} has another state than rank 0", why, "What every rank has for itself goes into `per_rank`."
    )


def _words(item: Item) -> str:
    return f"{'a DTensor' if item.sharded else 'an array'} of {item.dtype} {list(item.shape)}"


def _check_whole(item: Item, holders: dict[Box, list[int]], path: str) -> None:
    inside = all(
        offset >= 0 and offset + length <= limit
        for box in holders
        for offset, length, limit in zip(box.offsets, box.shape, item.shape, strict=True)
    )
    if not inside or sum(box.volume for box in holders) != math.prod(item.shape) or not apart(holders):
        raise UnsupportedState(f"{path} cannot be saved", "the ranks together do not hold every element of it once")
