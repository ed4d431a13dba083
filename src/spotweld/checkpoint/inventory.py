"""What a checkpoint holds, whoever saved it: parts by name, and whole arrays, stored in one piece or in several.

A group's checkpoint (``distributed.shards``) is seen as if a single process had saved it: the parts that the ranks
share are its parts, and one more, ``ranks``, is the list of what every rank has for itself.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import msgspec

from spotweld.checkpoint.arrays import itemsize
from spotweld.checkpoint.distributed.fetching import want
from spotweld.checkpoint.distributed.planning import Box
from spotweld.checkpoint.distributed.shards import Shard, layout_of
from spotweld.checkpoint.format import LeafRecord
from spotweld.checkpoint.reading import read_wants
from spotweld.checkpoint.tree import Node, unflatten
from spotweld.errors import Corrupt, StateMismatch

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from spotweld.checkpoint.devices import Place
    from spotweld.checkpoint.format import Manifest
    from spotweld.checkpoint.reading import Want
    from spotweld.store.objects import Objects

RANKS = "ranks"
"""The part with what every rank of a group has for itself; ``ranks#2`` if the program has one of that name."""


class Inventory(msgspec.Struct, frozen=True):
    """What a checkpoint holds."""

    state: Node
    """A tree of parts; its leaves have the manifest's numbers."""
    leaves: tuple[LeafRecord, ...]
    """The manifest's; where that has the first shard of an array, the whole array, which begins in the same chunk."""
    shards: dict[int, tuple[Shard, ...]]
    """Of those arrays that are stored in several."""

    def pieces(self, number: int) -> tuple[Shard, ...]:
        """Where an array's parts lie in it, and which leaves of the manifest they are."""
        shape = self.leaves[number].shape
        return self.shards.get(number) or (Shard(Box((0,) * len(shape), shape), number),)


def inventory_of(manifest: Manifest) -> Inventory:
    """Look into a manifest.

    Raises:
        Corrupt: its tree contradicts itself, or shards do not make up their array.
    """
    state = manifest.state
    unflatten(state, manifest.leaves)  # a damaged tree is found now
    if isinstance(state, dict) and "dict" in state:
        return Inventory(state, manifest.leaves, {})
    try:
        return _of_group(manifest)
    except StateMismatch:
        raise Corrupt("The checkpoint's tree is damaged", "its state has no parts") from None


def fill(objects: Objects, manifest: Manifest, inventory: Inventory, memory: Mapping[int, Place]) -> None:
    """Read whole arrays. What lies there when an error is raised is undefined.

    Args:
        objects: the store.
        manifest: of the checkpoint, verified.
        inventory: the same checkpoint's.
        memory: by number: where the bytes of each array are wanted; all of its size.

    Raises:
        Corrupt, NotFound, Unavailable: as ``reading.read``.
    """
    wanted: dict[int, list[Want]] = defaultdict(list)
    for number, into in memory.items():
        record = inventory.leaves[number]
        width = itemsize(record.kind, record.dtype)
        for shard in inventory.pieces(number):
            want(manifest, shard.leaf, 0, _runs(shard.box, record.shape, width, into), wanted)
    read_wants(objects, manifest, wanted)


def _of_group(manifest: Manifest) -> Inventory:
    layout = layout_of(manifest)
    match layout.parts:
        case {"dict": [*parts]}:
            pass
        case _:
            raise Corrupt("The checkpoint's tree is damaged", "its state has no parts")
    if any(own != {"dict": []} for own in layout.own):
        parts.append([_free([name for name, _ in parts]), {"list": [*layout.own]}])
    pairs = list(zip(manifest.leaves, layout.leaves, strict=True))
    leaves = tuple(msgspec.structs.replace(record, shape=stored.shape) for record, stored in pairs)
    shards = {number: stored.shards for number, (_, stored) in enumerate(pairs) if len(stored.shards) > 1}
    return Inventory({"dict": parts}, leaves, shards)


def _free(taken: Collection[Any]) -> str:
    names = itertools.chain([RANKS], (f"{RANKS}#{number}" for number in itertools.count(2)))
    return next(name for name in names if name not in taken)


def _runs(box: Box, shape: tuple[int, ...], width: int, into: Place) -> Iterator[Place]:
    """The memory of a part of an array, in the order in which the part itself has its elements."""
    if not box.volume:
        return
    inner = max(0, len(shape) - 1)  # dimensions from here on lie together
    while inner and box.shape[inner] == shape[inner]:
        inner -= 1
    strides = [math.prod(shape[at + 1 :]) * width for at in range(len(shape))]
    first = sum(at * stride for at, stride in zip(box.offsets, strides, strict=True))
    size = math.prod(box.shape[inner:]) * width
    for index in itertools.product(*(range(length) for length in box.shape[:inner])):
        start = first + sum(at * stride for at, stride in zip(index, strides, strict=False))
        yield into[start : start + size]
