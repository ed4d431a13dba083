from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import pytest

from spotweld import Checkpointer
from spotweld.checkpoint import events as told
from spotweld.errors import UsageError
from spotweld.runs.comparing import compare, final_state, metrics
from spotweld.runs.following import Told
from spotweld.store.opening import open_store

if TYPE_CHECKING:
    from spotweld.store.objects import Objects

SIZE = 1000


@pytest.fixture
def objects() -> Objects:
    return open_store("memory:")


def train(objects: Objects, run: str, flip: tuple[str, int, int] | None = None, seed: int = 1) -> None:
    """A run of three steps; ``flip``: one bit of one part is another one in the end."""
    random.seed(seed)
    parts = {"weights": np.zeros(SIZE, np.float32), "moment": np.zeros(SIZE, np.float64)}
    checkpointer = Checkpointer(parts, store=objects, run=run, every=1, notices=[])
    for step in checkpointer.steps(3):
        for part in parts.values():
            part[:] += step
        if flip is not None and step == 2:
            name, byte, bit = flip
            parts[name].view(np.uint8)[byte] ^= 1 << bit


def test_two_runs_of_the_same_training_have_the_same_state(objects: Objects) -> None:
    train(objects, "a")
    train(objects, "b", seed=2)
    assert compare((final_state(objects, "a"), final_state(objects, "b")), ({}, {})).state == ()


@pytest.mark.parametrize("flip", [("weights", 0, 0), ("weights", 4 * SIZE - 1, 7), ("moment", 8 * SIZE - 8, 0)])
def test_one_bit_of_a_difference_is_found_and_named(objects: Objects, flip: tuple[str, int, int]) -> None:
    train(objects, "a")
    train(objects, "b", flip)
    assert compare((final_state(objects, "a"), final_state(objects, "b")), ({}, {})).state == (flip[0],)


def test_a_run_without_a_checkpoint_cannot_be_compared(objects: Objects) -> None:
    with pytest.raises(UsageError):
        final_state(objects, "nobody")


def curve(*points: tuple[int, float | None]) -> list[Told]:
    return [Told(1, told.Metrics(0.0, step, {"loss": value})) for step, value in points]


def test_one_bit_of_a_logged_value_is_found() -> None:
    a, b = curve((0, 0.1), (1, 0.2)), curve((0, 0.1), (1, float(np.nextafter(0.2, 1))))
    assert compare(({}, {}), (metrics(a), metrics(b))).metrics == ("loss from step 1 on",)
    assert compare(({}, {}), (metrics(a), metrics(a))).metrics == ()


def test_zero_and_minus_zero_differ_and_values_that_are_no_numbers_are_the_same() -> None:
    assert compare(({}, {}), (metrics(curve((0, 0.0))), metrics(curve((0, -0.0))))).metrics != ()
    assert compare(({}, {}), (metrics(curve((0, None))), metrics(curve((0, None))))).metrics == ()


def test_of_a_step_that_was_done_again_the_last_value_counts() -> None:
    assert metrics(curve((5, 0.3), (6, 0.2), (5, 0.4))) == metrics(curve((5, 0.4), (6, 0.2)))


def test_values_that_went_with_a_machine_are_counted_and_are_no_difference() -> None:
    difference = compare(
        ({}, {}), (metrics(curve((0, 1.0), (3, 2.0))), metrics(curve(*((s, s and 2.0) for s in range(1, 4)))))
    )
    assert (difference.metrics, difference.missing) == ((), 3)


def test_a_metric_that_only_one_run_has_is_a_difference() -> None:
    difference = compare(({}, {}), (metrics(curve((0, 1.0))), {}))
    assert difference.metrics == ("loss, which only one of the runs has",)
