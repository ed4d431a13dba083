from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotweld.checkpoint.arrays import Kind
from spotweld.checkpoint.distributed.planning import Box, Item, Piece
from spotweld.checkpoint.distributed.shards import (
    Share,
    array_paths,
    layout_of,
    leaves_in,
    merge,
    renumbered,
    state_node,
)
from spotweld.checkpoint.format import Chunk, LeafRecord, Manifest, Pack
from spotweld.checkpoint.tree import unflatten
from spotweld.errors import Corrupt, StateMismatch
from spotweld.values.digests import checksum


def share(rank: int, pieces: list[tuple[int, Box]], own: int) -> Share:
    """One pack with a chunk for every leaf: the pieces, then ``own`` leaves of the rank's, then its generators'."""
    shapes = [box.shape for _, box in pieces] + [(rank + 1,)] * (own + 1)
    leaves = tuple(LeafRecord(Kind.TORCH, "uint8", shape, number, 0) for number, shape in enumerate(shapes))
    chunks = tuple(
        Chunk(0, 4096 * number, 4096, 4096, checksum(bytes([rank, number]))) for number in range(len(shapes))
    )
    packs = (Pack(f"runs/r/packs/00000001-{rank:04d}-00000000", 4096 * len(shapes)),)
    first = len(pieces)
    tree = {"dict": [[str(at), {"leaf": first + at}] for at in range(own)]}
    return Share(tuple(Piece(*piece) for piece in pieces), tree, {"leaf": first + own}, leaves, chunks, packs)


def manifest(items: list[Item], shares: list[Share], parts: object = None) -> Manifest:
    whole = merge(items, shares)
    parts = parts or {"list": [{"leaf": number} for number in range(len(items))]}
    state = state_node(parts, whole.sharded, whole.own)
    made = Manifest(1, "0", "r", 1, 0, 3, 1, 0.0, state, {"list": whole.rng}, whole.leaves, whole.chunks, whole.packs)
    return msgspec.json.decode(msgspec.json.encode(made), type=Manifest)


def whole_item(*shape: int) -> Item:
    return Item(Kind.TORCH, "uint8", shape, False, None)


def sharded_item(*shape: int) -> Item:
    return Item(Kind.TORCH, "uint8", shape, True, None)


def two_ranks() -> Manifest:
    return manifest(
        [sharded_item(5, 2), whole_item(3)],
        [share(0, [(0, Box((0, 0), (3, 2)))], 1), share(1, [(0, Box((3, 0), (2, 2))), (1, Box((0,), (3,)))], 0)],
    )


def test_shares_become_one_manifest() -> None:
    found = two_ranks()
    layout = layout_of(found)
    first, second = unflatten(layout.parts, layout.leaves)  # type: ignore[misc]
    assert [(shard.box.offsets, found.leaves[shard.leaf].shape) for shard in first.shards] == [
        ((0, 0), (3, 2)),
        ((3, 0), (2, 2)),
    ]
    assert (first.shape, first.sharded, second.shape, second.sharded) == ((5, 2), True, (3,), False)
    assert found.leaves[0].shape == (3, 2)
    assert found.leaves[1].shape == (3,)


def test_a_shard_stands_where_its_array_does() -> None:
    parts = {"dict": [["model", {"dict": [["w", {"leaf": 0}], ["b", {"leaf": 1}]]}]]}
    items = [sharded_item(5, 2), whole_item(3)]
    shares = [share(0, [(0, Box((0, 0), (3, 2)))], 1), share(1, [(0, Box((3, 0), (2, 2))), (1, Box((0,), (3,)))], 0)]
    found = manifest(items, shares, parts)
    paths, layout = array_paths(found.state), layout_of(found)
    assert [paths[shard.leaf] for shard in layout.leaves[0].shards] == ["model.w", "model.w"]
    assert paths[1] == "model.b"
    (own,) = leaves_in(layout.own[0])
    assert paths[own] == "own[0].0"
    assert array_paths(parts) == {0: "model.w", 1: "model.b"}


def test_every_leaf_still_has_its_chunk() -> None:
    found = two_ranks()
    layout = layout_of(found)
    for rank, node in enumerate(layout.rng):
        (leaf,) = leaves_in(node)
        chunk = found.chunks[found.leaves[leaf].chunk]
        assert found.leaves[leaf].shape == (rank + 1,)
        assert found.packs[chunk.pack].key.endswith(f"-{rank:04d}-00000000")
    (own,) = leaves_in(layout.own[0])
    assert found.leaves[own].shape == (1,)


@given(st.data())
def test_whatever_the_ranks_hold_is_found_again(data: st.DataObject) -> None:
    ranks, items = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 4))
    pieces: list[list[tuple[int, Box]]] = [[] for _ in range(ranks)]
    wanted = []
    for number in range(items):
        cuts = sorted(data.draw(st.lists(st.integers(1, 9), max_size=3, unique=True)))
        edges = [0, *cuts, 10]
        wanted.append({(start, end - start) for start, end in pairwise(edges)})
        for start, length in sorted(wanted[-1]):
            pieces[data.draw(st.integers(0, ranks - 1))].append((number, Box((start,), (length,))))
    for one in pieces:
        one.sort(key=lambda piece: piece[0])
    shares = [share(rank, one, data.draw(st.integers(0, 2))) for rank, one in enumerate(pieces)]
    found = manifest([sharded_item(10)] * items, shares)
    layout = layout_of(found)
    for number, boxes in enumerate(wanted):
        shards = layout.leaves[number].shards
        assert {(shard.box.offsets[0], found.leaves[shard.leaf].shape[0]) for shard in shards} == boxes
    assert sorted(
        [*leaves_in([*layout.own, *layout.rng]), *(s.leaf for i in range(items) for s in layout.leaves[i].shards)]
    ) == [*range(len(found.leaves))]


def test_a_single_processs_checkpoint_is_told_apart() -> None:
    with pytest.raises(StateMismatch, match="not saved by a process group"):
        layout_of(msgspec.structs.replace(two_ranks(), state={"dict": []}))
    with pytest.raises(StateMismatch):
        layout_of(msgspec.structs.replace(two_ranks(), state={"tuple": ["other", {"dict": []}]}))


def damaged(sharded: object) -> Manifest:
    good = two_ranks()
    state = msgspec.json.decode(msgspec.json.encode(good.state))
    state["tuple"][1]["dict"][1][1] = sharded
    return msgspec.structs.replace(good, state=state)


def row(number: int, shape: list[int], *places: tuple[list[int], int]) -> list[object]:
    return [
        number,
        {"tuple": [{"tuple": shape}, {"list": [{"tuple": [{"tuple": at}, leaf]} for at, leaf in places]}]},
    ]


@pytest.mark.parametrize(
    "sharded",
    [
        {"list": []},
        {"dict": [["0", None]]},
        {"dict": [[-1, None]]},
        {"dict": [[0, None]]},
        {"dict": [row(0, [5, 2])]},
        {"dict": [row(0, [5, 2], ([0, 0], 0))]},
        {"dict": [row(0, [5, 2], ([0, 0], 0), ([4, 0], 2))]},
        {"dict": [row(0, [5, 2], ([0, 0], 0), ([-1, 0], 2))]},
        {"dict": [row(0, [5, 2], ([0, 0], 0), ([3], 2))]},
        {"dict": [row(0, [5, 2], ([0, 0], 0), ([3, 0], 99))]},
        {"dict": [row(0, [5, 2], ([0, 0], 0), ([3, 0], -1))]},
        {"dict": [row(99, [5, 2], ([0, 0], 0), ([3, 0], 2))]},
        {"dict": [row(0, ["5", 2], ([0, 0], 0), ([3, 0], 2))]},
        {"leaf": 0},
        7,
    ],
)
def test_a_table_of_shards_that_contradicts_itself_is_damage(sharded: object) -> None:
    with pytest.raises(Corrupt):
        layout_of(damaged(sharded))


def test_a_leaf_that_is_not_there_is_damage() -> None:
    good = two_ranks()
    for bad in ({"leaf": 99}, {"leaf": -1}, {"leaf": "0"}, {"leaf": True}):
        state = msgspec.json.decode(msgspec.json.encode(good.state))
        state["tuple"][1]["dict"][0][1] = bad
        with pytest.raises(Corrupt):
            layout_of(msgspec.structs.replace(good, state=state))
    with pytest.raises(Corrupt, match="generators"):
        layout_of(msgspec.structs.replace(good, rng={"list": []}))


def test_numbers_are_changed_in_leaves_alone() -> None:
    node = {"dict": [["leaf", {"leaf": 1}], [1, {"list": [1, {"leaf": 0}, {"float": "00"}]}]]}
    assert renumbered(node, [7, 8]) == {
        "dict": [["leaf", {"leaf": 8}], [1, {"list": [1, {"leaf": 7}, {"float": "00"}]}]]
    }
    assert Box((), ()).volume == 1
