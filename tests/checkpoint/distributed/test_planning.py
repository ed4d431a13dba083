from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotweld.checkpoint.arrays import Kind
from spotweld.checkpoint.distributed.planning import SMALL, Box, Item, View, apart, assign, overlap
from spotweld.errors import StateMismatch, UnsupportedState


def item(shape: tuple[int, ...], box: Box | None, *, sharded: bool = True, dtype: str = "float32") -> Item:
    return Item(Kind.TORCH, dtype, shape, sharded, box)


def plain(shape: tuple[int, ...]) -> Item:
    return item(shape, Box((0,) * len(shape), shape), sharded=False)


def test_what_is_replicated_is_stored_once_and_spread_evenly() -> None:
    views = [View("v", tuple(plain((SMALL // 4,)) for _ in range(6)))] * 3
    plans = assign(views, ["x"] * 6)
    assert sorted(piece.item for plan in plans for piece in plan) == [0, 1, 2, 3, 4, 5]
    assert [len(plan) for plan in plans] == [2, 2, 2]


def test_what_is_small_and_replicated_is_rank_0s() -> None:
    views = [View("v", (plain((SMALL // 4,)), plain((SMALL // 4 - 1,)), plain((1,)), plain((SMALL // 4,))))] * 2
    plans = assign(views, ["x"] * 4)
    assert [[piece.item for piece in plan] for plan in plans] == [[0, 1, 2], [3]]


def test_every_rank_stores_its_shard() -> None:
    views = [View("v", (item((7, 3), Box((at, 0), (length, 3))),)) for at, length in ((0, 4), (4, 3), (7, 0))]
    plans = assign(views, ["x"])
    assert [[piece.box.shape for piece in plan] for plan in plans] == [[(4, 3)], [(3, 3)], []]


def test_shards_of_replicas_are_stored_once() -> None:
    halves = [Box((0,), (5,)), Box((5,), (5,))]
    plans = assign([View("v", (item((10,), halves[rank % 2]),)) for rank in range(4)], ["x"])
    assert sorted(piece.box.offsets for plan in plans for piece in plan) == [(0,), (5,)]


def test_an_empty_array_and_a_scalar_are_stored_once() -> None:
    views = [View("v", (item((0, 3), Box((0, 0), (0, 3))), plain(())))] * 2
    plans = assign(views, ["x", "y"])
    assert sorted(piece.item for plan in plans for piece in plan) == [0, 1]


def test_a_rank_outside_of_the_mesh_stores_nothing() -> None:
    plans = assign([View("v", (item((2,), box),)) for box in (Box((0,), (2,)), None)], ["x"])
    assert [len(plan) for plan in plans] == [1, 0]


def test_an_array_of_which_a_part_is_nowhere_is_refused() -> None:
    with pytest.raises(UnsupportedState, match=r"model\.w cannot be saved"):
        assign([View("v", (item((4,), Box((0,), (3,))),))], ["model.w"])


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (View("w", (plain((4,)),)), "names or plain values"),
        (View("v", ()), "names or plain values"),
        (View("v", (plain((5,)),)), r"model\.w is an array of float32 \[4\] on rank 0 and an array of float32 \[5\]"),
        (View("v", (item((4,), Box((0,), (4,))),)), "a DTensor"),
    ],
)
def test_ranks_that_differ_are_told_apart(other: View, why: str) -> None:
    with pytest.raises(StateMismatch, match=why) as raised:
        assign([View("v", (plain((4,)),)), other], ["model.w"])
    assert "Rank 1" in str(raised.value)


boxes = st.integers(1, 3).flatmap(
    lambda dims: st.tuples(
        *(st.tuples(*(st.tuples(st.integers(0, 5), st.integers(0, 5)) for _ in range(dims))) for _ in range(2))
    )
)


@given(boxes)
def test_an_overlap_is_what_both_contain(pair: tuple[tuple[tuple[int, int], ...], ...]) -> None:
    one, other = (Box(tuple(at for at, _ in box), tuple(length for _, length in box)) for box in pair)

    def cells(box: Box) -> set[tuple[int, ...]]:
        found: set[tuple[int, ...]] = {()}
        for at, length in zip(box.offsets, box.shape, strict=True):
            found = {(*cell, place) for cell in found for place in range(at, at + length)}
        return found

    both = overlap(one, other)
    assert (cells(both) if both else set()) == cells(one) & cells(other)
    assert both is None or math.prod(both.shape) == both.volume


boxes = st.tuples(*[st.tuples(st.integers(0, 4), st.integers(0, 3)) for _ in range(2)]).map(
    lambda pairs: Box(tuple(start for start, _ in pairs), tuple(length for _, length in pairs))
)


@given(st.lists(boxes, max_size=6))
def test_boxes_are_apart_if_no_element_is_in_two(found: list[Box]) -> None:
    elements = [
        (row, column)
        for box in found
        for row in range(box.offsets[0], box.offsets[0] + box.shape[0])
        for column in range(box.offsets[1], box.offsets[1] + box.shape[1])
    ]
    assert apart(found) == (len(elements) == len(set(elements)))
    assert not apart([Box((), ()), Box((), ())])
