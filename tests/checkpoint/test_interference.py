from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotweld.checkpoint.interference import Interference

LONG = 1000.0


def told(*, quiet: list[float], saves: list[list[float]], background: float = LONG) -> float | None:
    interference = Interference()
    for beside in saves:
        for seconds in quiet:
            interference.step(seconds, disturbed=False)
        for seconds in beside:
            interference.step(seconds, disturbed=True)
        interference.saved(background)
    return interference.seconds


def test_what_steps_beside_a_save_take_longer_is_what_it_costs() -> None:
    assert told(quiet=[1.0] * 10, saves=[[1.3, 1.1, 1.0]] * 3) == pytest.approx(0.4)
    assert told(quiet=[1.0] * 10, saves=[[1.0, 1.0]] * 3) == 0.0
    assert told(quiet=[1.0] * 10, saves=[[]] * 3) == 0.0


def test_too_few_saves_or_steps_say_nothing() -> None:
    assert Interference().seconds is None
    assert told(quiet=[1.0] * 10, saves=[[2.0]] * 2) is None
    assert told(quiet=[1.0], saves=[[2.0]] * 3) is None
    assert told(quiet=[], saves=[[2.0]] * 30) is None


def test_an_evaluation_now_and_then_counts_for_nothing() -> None:
    quiet = [1.0] * 18 + [9.0, 9.0]
    assert told(quiet=quiet, saves=[[1.1] * 18 + [9.0, 9.0]] * 3) == pytest.approx(2.0)
    assert told(quiet=quiet, saves=[[1.2], [9.0], [1.2], [1.2]]) == pytest.approx(0.2)


def test_a_save_costs_no_more_than_it_lasts() -> None:
    assert told(quiet=[1.0] * 10, saves=[[50.0]] * 3, background=0.25) == 0.25


def test_a_save_that_failed_is_forgotten() -> None:
    interference = Interference()
    for _ in range(3):
        for _ in range(10):
            interference.step(1.0, disturbed=False)
        interference.step(50.0, disturbed=True)
        interference.forget()
        interference.step(1.5, disturbed=True)
        interference.saved(LONG)
    assert interference.seconds == 0.5


def test_a_program_that_changes_its_pace_is_followed() -> None:
    interference = Interference()
    for pace in (1.0, 5.0, 5.0, 5.0, 5.0):
        for _ in range(20):
            interference.step(pace, disturbed=False)
        interference.step(pace + 0.5, disturbed=True)
        interference.saved(LONG)
    assert interference.seconds == 0.5


@given(st.integers(0, 2**32), st.floats(0, 0.5), st.integers(1, 60))
def test_noise_is_mostly_averaged_out(seed: int, extra: float, steps: int) -> None:
    chance = random.Random(seed)

    def pace(more: float) -> float:
        return chance.uniform(0.95, 1.05) + more

    saves = [[pace(extra) for _ in range(steps)] for _ in range(5)]
    found = told(quiet=[pace(0.0) for _ in range(20)], saves=saves)
    assert found == pytest.approx(extra * steps, abs=0.07 * steps)


@given(st.lists(st.tuples(st.floats(0, 1e6), st.booleans(), st.sampled_from(["go on", "saved", "failed"]))))
def test_it_is_never_negative_and_never_breaks(history: list[tuple[float, bool, str]]) -> None:
    interference = Interference()
    for seconds, disturbed, then in history:
        interference.step(seconds, disturbed=disturbed)
        if then == "saved":
            interference.saved(1.9)
        elif then == "failed":
            interference.forget()
        assert interference.seconds is None or 0 <= interference.seconds <= 1.9
