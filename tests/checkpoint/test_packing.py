from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spotweld.checkpoint.arrays import ALIGNMENT
from spotweld.checkpoint.packing import PACK_LIMIT, Slice, plan

LIMIT = 1024
sizes = st.lists(st.integers(0, 300) | st.integers(0, 5000), max_size=30)


@given(sizes, st.sets(st.integers(0, 30)))
def test_every_byte_lies_in_exactly_one_place(sizes: list[int], parts: set[int]) -> None:
    layout = plan(sizes, parts, limit=LIMIT, large=512, part=128)
    assert len(layout.starts) == len(layout.slices) == len(sizes)
    before = 0
    for first, end in layout.packs:
        assert before <= first < end <= first + LIMIT
        assert first % ALIGNMENT == 0
        before = end
    assert before == layout.size
    free = 0
    for size, start, slices in zip(sizes, layout.starts, layout.slices, strict=True):
        assert start % ALIGNMENT == 0
        assert start >= free
        free = start + size
        at = start
        for piece in slices:
            first, end = layout.packs[piece.pack]
            assert first + piece.offset == at
            assert at + piece.size <= end
            assert piece.size > 0
            at += piece.size
        assert at == start + size


@given(sizes)
def test_a_large_leaf_shares_its_packs_with_nobody(sizes: list[int]) -> None:
    layout = plan(sizes, limit=LIMIT, large=512)
    users: dict[int, set[int]] = {}
    for leaf, slices in enumerate(layout.slices):
        for piece in slices:
            users.setdefault(piece.pack, set()).add(leaf)
    for leaf, slices in enumerate(layout.slices):
        if sizes[leaf] >= 512:
            assert all(users[piece.pack] == {leaf} for piece in slices)


def test_small_leaves_share_a_pack_and_a_large_part_begins_another() -> None:
    assert len(plan([100] * 50).packs) == 1
    assert len(plan([100, 100], {0, 1}, part=50).packs) == 2
    assert len(plan([100, 100], {0, 1}, part=500).packs) == 1


def test_a_leaf_larger_than_a_pack_is_split() -> None:
    layout = plan([PACK_LIMIT * 2 + 10])
    assert layout.slices == ((Slice(0, 0, PACK_LIMIT), Slice(1, 0, PACK_LIMIT), Slice(2, 0, 10)),)


def test_nothing_makes_no_pack() -> None:
    assert plan([]).packs == plan([0, 0]).packs == ()
