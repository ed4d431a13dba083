from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
import torch

from spotweld.checkpoint.arrays import Leaf, allocate, build, copy_part, flat
from spotweld.checkpoint.rng import capture_rng, restore_rng
from spotweld.checkpoint.tree import flatten, unflatten
from spotweld.errors import StateMismatch

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _leave_no_trace() -> Iterator[None]:
    state = capture_rng()
    yield
    restore_rng(state)


def through_json(states: Any) -> Any:  # noqa: ANN401
    leaves: list[Leaf] = []
    node = flatten(states, "rng", leaves)
    values = []
    for leaf in leaves:
        memory = allocate(leaf.size)
        if leaf.size:
            copy_part(flat(leaf), 0, memory)
        values.append(build(leaf.kind, leaf.dtype, leaf.shape, memory))
    return unflatten(msgspec.json.decode(msgspec.json.encode(node)), values)


def draw() -> list[Any]:
    normal = np.random.standard_normal()  # noqa: NPY002
    return [random.random(), random.gauss(0, 1), random.getrandbits(70), normal, torch.rand(3).tolist()]


def test_every_generator_goes_on_where_it_was() -> None:
    random.gauss(0, 1)  # leaves half a pair behind, which is state as well
    np.random.standard_normal()  # noqa: NPY002
    states = through_json(capture_rng())
    first = [draw() for _ in range(700)]
    restore_rng(states)
    assert [draw() for _ in range(700)] == first


def test_capturing_draws_nothing() -> None:
    states = capture_rng()
    first = draw()
    restore_rng(states)
    capture_rng()
    capture_rng()
    assert draw() == first


def test_another_bit_generator_is_captured_as_well() -> None:
    before = np.random.get_bit_generator()
    np.random.set_bit_generator(np.random.PCG64(5))
    try:
        states = through_json(capture_rng())
        first = np.random.random(5).tolist()  # noqa: NPY002
        restore_rng(states)
        assert np.random.random(5).tolist() == first  # noqa: NPY002
    finally:
        np.random.set_bit_generator(before)


def test_a_generator_of_another_sort_is_a_mismatch() -> None:
    states = through_json(capture_rng())
    states["numpy"]["bit_generator"] = "SFC64"
    with pytest.raises(StateMismatch, match="generator"):
        restore_rng(states)
    with pytest.raises(StateMismatch):
        restore_rng({"python": {"version": 9, "words": b"", "spare": None}})
    with pytest.raises(StateMismatch):
        restore_rng(torch.zeros(2))


def test_where_nothing_was_captured_the_own_seeds_stay() -> None:
    random.seed(3)
    expected = random.Random(3).random()
    restore_rng({})
    assert random.random() == expected
