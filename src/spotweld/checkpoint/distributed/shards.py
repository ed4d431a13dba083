"""How a group's state lies in a manifest, and how the shares of its ranks become one.

``state`` of a single process is a dict; a group's is the tuple ``("group", {...})`` with these entries:

- ``parts``: the state that all ranks share, as a tree. Leaf ``i`` of the manifest, for every ``i`` in this tree, is the
  whole array, or its first shard if it is in ``sharded``.
- ``sharded``: ``{i: (shape, [(offsets, leaf), ...])}``: the whole's shape, and every shard's place in it. A shard's
  own shape is its leaf's.
- ``own``: what every rank has for itself, by rank.

``rng`` is the list of the ranks' generators.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from spotweld.checkpoint.distributed.planning import Box, Item, Piece, apart
from spotweld.checkpoint.format import Chunk, LeafRecord, Manifest, Pack
from spotweld.checkpoint.tree import Node, flatten, leaf_paths, unflatten
from spotweld.errors import Corrupt, StateMismatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_TAG = "group"


class Share(msgspec.Struct, frozen=True):
    """What one rank has stored. Its leaves, chunks and packs are numbered from 0."""

    pieces: tuple[Piece, ...]
    """The first leaves, in order."""
    own: Any
    """What the rank has for itself, as a tree."""
    rng: Any
    leaves: tuple[LeafRecord, ...]
    chunks: tuple[Chunk, ...]
    packs: tuple[Pack, ...]


class Whole(msgspec.Struct, frozen=True):
    """All shares, as the manifest has them."""

    sharded: Any
    """A tree."""
    own: list[Any]
    """Trees by rank."""
    rng: list[Any]
    """Trees by rank."""
    leaves: tuple[LeafRecord, ...]
    chunks: tuple[Chunk, ...]
    packs: tuple[Pack, ...]


class Shard(msgspec.Struct, frozen=True):
    """A stored part of an array."""

    box: Box
    leaf: int


class Stored(msgspec.Struct, frozen=True):
    """An array in a checkpoint."""

    shape: tuple[int, ...]
    """Of the whole."""
    dtype: str
    shards: tuple[Shard, ...]
    sharded: bool
    """It was a ``DTensor``."""

    @property
    def leaf(self) -> int:
        """The leaf that stands for it in the tree."""
        return self.shards[0].leaf


class Layout(msgspec.Struct, frozen=True):
    """A group's state in a manifest, checked."""

    parts: Node
    """The shared state."""
    leaves: tuple[Stored, ...]
    """The arrays in it, by number."""
    own: tuple[Node, ...]
    """By rank."""
    rng: tuple[Node, ...]
    """By rank."""


def merge(items: Sequence[Item], shares: Sequence[Share]) -> Whole:
    """Join what the ranks have stored. Leaf ``i`` is then the first shard of item ``i``.

    Args:
        items: the arrays that they share.
        shares: by rank; together they have every item.
    """
    packs: dict[str, Pack] = {}
    chunks: list[Chunk] = []
    records: list[LeafRecord] = []
    where: list[list[int]] = []
    shards: list[list[tuple[Piece, int]]] = [[] for _ in items]
    for share in shares:
        first, at = len(chunks), len(records)
        packs |= {pack.key: pack for pack in share.packs}
        places = {key: number for number, key in enumerate(packs)}
        to = [places[pack.key] for pack in share.packs]
        chunks += [_moved(chunk, to) for chunk in share.chunks]
        records += [msgspec.structs.replace(leaf, chunk=first + leaf.chunk) for leaf in share.leaves]
        where.append(list(range(at, len(records))))
        for number, piece in enumerate(share.pieces):
            shards[piece.item].append((piece, at + number))
    order = [found[0][1] for found in shards]
    order += sorted(set(range(len(records))) - set(order))
    new = {old: number for number, old in enumerate(order)}
    table = {
        number: (item.shape, [(piece.box.offsets, new[leaf]) for piece, leaf in shards[number]])
        for number, item in enumerate(items)
        if item.sharded
    }
    own = [renumbered(share.own, [new[old] for old in olds]) for share, olds in zip(shares, where, strict=True)]
    rng = [renumbered(share.rng, [new[old] for old in olds]) for share, olds in zip(shares, where, strict=True)]
    leaves = tuple(records[old] for old in order)
    return Whole(flatten(table, "sharded", []), own, rng, leaves, tuple(chunks), tuple(packs.values()))


def state_node(parts: Node, sharded: Node, own: Sequence[Node]) -> Node:
    """The ``state`` of a manifest."""
    return {"tuple": [_TAG, {"dict": [["parts", parts], ["sharded", sharded], ["own", {"list": [*own]}]]}]}


def renumbered(node: Node, to: Sequence[int]) -> Node:
    """The same tree with other numbers for its leaves."""
    if isinstance(node, list):
        return [renumbered(one, to) for one in node]
    if isinstance(node, dict):
        return {tag: to[one] if tag == "leaf" else renumbered(one, to) for tag, one in node.items()}
    return node


def leaves_in(node: Node) -> Iterator[int]:
    """The numbers of a tree's leaves."""
    if isinstance(node, list):
        for one in node:
            yield from leaves_in(one)
    elif isinstance(node, dict):
        for tag, one in node.items():
            if tag == "leaf":
                yield one
            else:
                yield from leaves_in(one)


def of_group(manifest: Manifest) -> bool:
    """Whether a group saved it."""
    match manifest.state:
        case {"tuple": [str(tag), *_]}:
            return tag == _TAG
        case _:
            return False


def array_paths(state: Node) -> dict[int, str]:
    """Where in a state each leaf stands, by the leaf's number; in a group's every shard stands where its array does.

    Args:
        state: of a manifest that was checked, or of a single process.
    """
    match state:
        case {"tuple": [str(tag), {"dict": [["parts", parts], ["sharded", table], ["own", own]]}]} if tag == _TAG:
            found = leaf_paths(own, "own") | leaf_paths(parts)
            for number, (_, places) in _table(unflatten(table, ())).items():
                found |= {leaf: found[number] for _, leaf in places}
            return found
        case _:
            return leaf_paths(state)


def layout_of(manifest: Manifest) -> Layout:
    """What ``state_node`` was given.

    Raises:
        StateMismatch: a single process saved it.
        Corrupt: it contradicts itself.
    """
    match manifest.state:
        case {"tuple": [str(tag), {"dict": [["parts", parts], ["sharded", table], ["own", {"list": own}]]}]}:
            fine = tag == _TAG
        case _:
            fine = False
    if not fine:
        why, todo = "a single process did, which has no ranks", "Use the code that wrote it, or another run name."
        raise StateMismatch("The checkpoint was not saved by a process group", why, todo)
    match manifest.rng:
        case {"list": [*rng]} if len(rng) == len(own):
            pass
        case _:
            raise _damaged("it has other generators than ranks")
    leaves = [_whole(number, record) for number, record in enumerate(manifest.leaves)]
    try:
        for number, (shape, places) in _table(unflatten(table, ())).items():
            leaves[number] = _sharded(number, shape, places, manifest.leaves)
    except (TypeError, ValueError, IndexError) as error:
        raise _damaged(f"sharded: {error}") from None
    if not all(type(leaf) is int and 0 <= leaf < len(leaves) for leaf in leaves_in([parts, own, rng])):
        raise _damaged("a leaf that it does not have")
    return Layout(parts, tuple(leaves), tuple(own), tuple(rng))


def _moved(chunk: Chunk, to: Sequence[int]) -> Chunk:
    base = _moved(chunk.base, to) if chunk.base else None
    return msgspec.structs.replace(chunk, pack=to[chunk.pack], base=base)


def _table(value: Any) -> Mapping[int, Any]:  # noqa: ANN401
    if not isinstance(value, dict) or not all(type(number) is int and number >= 0 for number in value):
        msg = "not a table of leaves"
        raise ValueError(msg)
    return value


def _whole(number: int, record: LeafRecord) -> Stored:
    box = Box((0,) * len(record.shape), record.shape)
    return Stored(record.shape, record.dtype, (Shard(box, number),), sharded=False)


def _sharded(
    number: int,
    shape: tuple[int, ...],
    places: Sequence[tuple[tuple[int, ...], int]],
    leaves: Sequence[LeafRecord],
) -> Stored:
    first = leaves[number]
    shards = []
    for offsets, leaf in places:
        record = leaves[leaf]
        inside = zip(offsets, record.shape, shape, strict=True)
        alike = (record.kind, record.dtype) == (first.kind, first.dtype)
        if leaf < 0 or not alike or not all(at >= 0 and at + length <= limit for at, length, limit in inside):
            msg = f"leaf {leaf} is no part of leaf {number}'s array"
            raise ValueError(msg)
        shards.append(Shard(Box(offsets, record.shape), leaf))
    boxes = [shard.box for shard in shards]
    if shards[0].leaf != number or sum(box.volume for box in boxes) != math.prod(shape) or not apart(boxes):
        msg = f"its shards do not make up leaf {number}'s array"
        raise ValueError(msg)
    return Stored(shape, first.dtype, tuple(shards), sharded=True)


def _damaged(why: str) -> Corrupt:
    return Corrupt("The checkpoint's tree is damaged", why)
