"""Whether two runs came to the same result, bit for bit."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import msgspec

from spotweld.checkpoint import events as told
from spotweld.checkpoint.arrays import flat, in_place
from spotweld.checkpoint.directory.comparing import directory_state
from spotweld.checkpoint.restoring import find_newest
from spotweld.checkpoint.tree import flatten
from spotweld.errors import UsageError
from spotweld.runs.following import Told
from spotweld.store.heads import read_head
from spotweld.values.digests import Digest, digest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spotweld.checkpoint.arrays import Leaf
    from spotweld.store.objects import Objects

Metrics = dict[str, dict[int, bytes]]
"""Each metric's last value at each step, as the eight bytes of its float: the bits are what is compared."""


class Difference(msgspec.Struct, frozen=True):
    """How two runs compare. Neither names nor metrics: they are the same."""

    state: tuple[str, ...]
    """Names in the final state whose values differ; at most ten."""
    metrics: tuple[str, ...]
    """Metrics that differ, each with the first step at which it does."""
    missing: int = 0
    """Values that only one of the two has: a machine that goes without a warning takes the last ones along untold."""


def final_state(objects: Objects, run: str) -> dict[str, Digest]:
    """A digest of every top-level entry of a run's newest checkpoint.

    The optimizer's moments and the sampler's position are in it as well as the weights. The random generators' states
    are not: a program that does not seed one of them and does not use it either starts each time with another. Of a
    directory, what is in it takes the place of the entries.

    Raises:
        UsageError: the run has no checkpoint.
        CheckpointError: none of them is whole.
        StoreError: the store failed.
    """
    head = read_head(objects, run)
    directory = directory_state(objects, run, head.kept) if head is not None else None
    if directory is not None:
        return directory
    found = find_newest(objects, run, head.kept) if head is not None else None
    if found is None:
        raise UsageError(f"the run {run} has no checkpoint that could be compared")
    return {name: _digest(value) for name, value in found.state.items()}


def metrics(process: Iterable[object]) -> Metrics:
    """The final curve of every metric: where a step was done again, its last value counts."""
    found: Metrics = {}
    for happening in process:
        if isinstance(happening, Told) and isinstance(happening.event, told.Metrics):
            for name, value in happening.event.values.items():
                number = float("nan") if value is None else value
                found.setdefault(name, {})[happening.event.step] = struct.pack("<d", number)
    return found


def compare(states: tuple[dict[str, Digest], dict[str, Digest]], curves: tuple[Metrics, Metrics]) -> Difference:
    """What differs between two runs."""
    one, other = states
    differing = [name for name in sorted(one.keys() | other.keys()) if one.get(name) != other.get(name)]
    first, second = curves
    wrong, missing = [], 0
    for name in sorted(first.keys() | second.keys()):
        a, b = first.get(name, {}), second.get(name, {})
        common = a.keys() & b.keys()
        missing += len(a.keys() ^ b.keys())
        step = min((step for step in common if a[step] != b[step]), default=None)
        if step is not None:
            wrong.append(f"{name} from step {step} on")
        elif not common:
            wrong.append(f"{name}, which only one of the runs has")
    return Difference(tuple(differing[:10]), tuple(wrong), missing)


def _digest(value: object) -> Digest:
    leaves: list[Leaf] = []
    tree = flatten(value, "", leaves)
    parts = [msgspec.json.encode([tree, [(leaf.kind, leaf.dtype, leaf.shape) for leaf in leaves]])]
    parts += [digest(in_place(flat(leaf)) or b"").encode() for leaf in leaves]
    return digest(b"\n".join(parts))
