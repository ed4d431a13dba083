"""A snapshot: the state between two steps, copied into memory of our own while training stands still."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from spotweld.checkpoint.arrays import Leaf, allocate, fill
from spotweld.checkpoint.packing import Layout, plan
from spotweld.checkpoint.rng import capture_rng
from spotweld.checkpoint.state import take
from spotweld.checkpoint.tree import Node, flatten

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spotweld.values.clocks import Clock


class Snapshot(msgspec.Struct, frozen=True):
    """Captured, not yet durable."""

    step: int
    state: Node
    rng: Node
    leaves: tuple[Leaf, ...]
    """Without their sources: the program goes on and changes those."""
    layout: Layout
    data: memoryview
    """The leaves' bytes; the staging memory's, so only good until the next capture."""
    began: float
    """By the monotonic clock."""
    stall: float
    """Seconds that the capture took."""


class Staging:
    """Memory that is reused from save to save: fresh memory costs five to ten times as much to write to."""

    def __init__(self) -> None:
        self._memory = memoryview(bytearray())

    def take(self, size: int) -> memoryview:
        """``size`` bytes with undefined content."""
        if self._memory.nbytes < size:
            self._memory = memoryview(bytearray())  # let the old one go first
            self._memory = allocate(size)
        return self._memory[:size]


def describe(state: Mapping[str, object]) -> tuple[Node, Node, list[Leaf], set[int]]:
    """The state's tree, the generators' tree, all leaves, and which of them begin a part of the state.

    Raises:
        UnsupportedState: the state holds something that cannot be stored.
    """
    leaves: list[Leaf] = []
    parts: set[int] = set()
    pairs: list[list[Node]] = []
    for name, value in take(state).items():
        parts.add(len(leaves))
        pairs.append([name, flatten(value, name, leaves)])
    parts.add(len(leaves))
    return {"dict": pairs}, flatten(capture_rng(), "rng", leaves), leaves, parts


def capture(state: Mapping[str, object], step: int, staging: Staging, clock: Clock) -> Snapshot:
    """Copy the state. The former snapshot in the same staging memory is overwritten.

    Raises:
        UnsupportedState: the state holds something that cannot be stored.
    """
    began = clock.monotonic()
    tree, rng, leaves, parts = describe(state)
    layout = plan([leaf.size for leaf in leaves], parts)
    data = staging.take(layout.size)
    end = 0
    for leaf, start in zip(leaves, layout.starts, strict=True):
        data[end:start] = bytes(start - end)  # equal states make equal packs, so the gaps must not hold old bytes
        end = start + leaf.size
        fill(leaf, data[start:end])
    bare = tuple(Leaf(leaf.kind, leaf.dtype, leaf.shape, leaf.size, None) for leaf in leaves)
    return Snapshot(step, tree, rng, bare, layout, data, began, clock.monotonic() - began)
