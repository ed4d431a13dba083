"""Laying leaves into chunks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spotweld.checkpoint.arrays import ALIGNMENT
from spotweld.checkpoint.layout import BLOCK, CHUNK, lay_out

SIZES = st.lists(
    st.one_of(st.integers(0, 300), st.integers(200_000, 300_000), st.integers(CHUNK - 3, 3 * CHUNK + 3)), max_size=30
)


@given(SIZES, st.integers(1, 3))
def test_every_byte_of_every_leaf_lies_in_one_place(sizes: list[int], groups: int) -> None:
    layout = lay_out(sizes, [leaf % groups for leaf in range(len(sizes))])
    seen: dict[int, list[tuple[int, int]]] = {}
    for plan in layout.chunks:
        assert 0 < plan.size <= CHUNK
        assert plan.size % BLOCK == 0
        end = 0
        for part in plan.parts:
            assert part.size > 0
            assert part.offset >= end
            assert part.offset % ALIGNMENT == 0
            end = part.offset + part.size
            seen.setdefault(part.leaf, []).append((part.start, part.size))
        assert plan.size - BLOCK < end <= plan.size
    for leaf, size in enumerate(sizes):
        at = 0
        for start, length in seen.get(leaf, []):
            assert start == at
            at += length
        assert at == size


@given(SIZES)
def test_a_leaf_is_found_from_its_place_alone(sizes: list[int]) -> None:
    layout = lay_out(sizes, [0] * len(sizes))
    for leaf, (size, place) in enumerate(zip(sizes, layout.places, strict=True)):
        at, (chunk, offset) = 0, place
        while at < size:
            plan = layout.chunks[chunk]
            (part,) = [part for part in plan.parts if part.leaf == leaf]
            assert (part.start, part.offset) == (at, offset)
            assert part.size == min(size - at, plan.size - offset)
            at, chunk, offset = at + part.size, chunk + 1, 0


@given(SIZES)
def test_large_leaves_are_alone(sizes: list[int]) -> None:
    for plan in lay_out(sizes, [0] * len(sizes)).chunks:
        assert len(plan.parts) == 1 or all(sizes[part.leaf] < 256 * 1024 for part in plan.parts)


def test_small_leaves_of_different_groups_do_not_share() -> None:
    layout = lay_out([100] * 6, [0, 1, 0, 1, 2, 0])
    assert [[part.leaf for part in plan.parts] for plan in layout.chunks] == [[0, 2, 5], [1, 3], [4]]


def test_an_empty_state_has_no_chunks() -> None:
    assert lay_out([], []).size == 0
    assert lay_out([0, 0], [0, 0]).places == ((0, 0), (0, 0))
