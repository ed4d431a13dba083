from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from spotweld.checkpoint.cadence import (
    LONGEST,
    MEAN_LIFE,
    SHORTEST,
    Cost,
    Situation,
    due,
    interval,
    latest,
    median,
    retry_after,
    young_daly,
)
from spotweld.project.nouns import EveryAuto, EverySeconds, EverySteps

costs = st.builds(Cost, st.floats(0, 100), st.floats(0, 1000))
situations = st.builds(
    Situation,
    step=st.integers(1, 1000),
    saved_step=st.integers(0, 1000),
    since=st.floats(0, 10_000),
    costs=st.lists(costs, max_size=5).map(tuple),
    hazard=st.none() | st.floats(0.001, 1000),
    risky=st.booleans(),
)
QUIET = Situation(step=10, saved_step=0, since=0.0, costs=(Cost(0.1, 1.0),), hazard=None, risky=False)


def lost(interval: float, cost: float, life: float) -> float:
    """Expected seconds per second of useful work (Daly's model: exponential failures, restart free)."""
    return life * math.expm1((interval + cost) / life) / interval


@given(st.floats(0.001, 60), st.floats(60, 100_000))
def test_no_other_interval_loses_noticeably_less(cost: float, life: float) -> None:
    best = young_daly(cost, life)
    for factor in (0.5, 0.8, 1.25, 2):
        assert lost(best, cost, life) <= lost(best * factor, cost, life) * 1.005


def test_the_formula_gives_dalys_figures() -> None:
    assert young_daly(1.0, 3600.0) == pytest.approx(math.sqrt(7200) - 1 + 1 / 3, rel=1e-2)
    assert young_daly(10.0, 4.0) == 4.0
    assert young_daly(0.0, 100.0) == 0.0


@given(situations)
def test_the_interval_is_bounded_and_risk_never_lengthens_it(now: Situation) -> None:
    assert SHORTEST <= interval(now) <= LONGEST
    assert interval(replace(now, risky=True)) <= interval(replace(now, risky=False))


@given(situations, st.floats(0.01, 100))
def test_more_hazard_never_lengthens_the_interval(now: Situation, more: float) -> None:
    hazard = now.hazard or 3600 / MEAN_LIFE
    assert interval(replace(now, hazard=hazard + more)) <= interval(replace(now, hazard=hazard)) + 1e-9


@given(situations, st.sampled_from([EveryAuto(), EverySteps(3), EverySeconds(5.0)]))
def test_a_step_that_is_saved_is_not_saved_again(now: Situation, every: EveryAuto) -> None:
    assert not due(every, replace(now, saved_step=now.step))


@given(st.integers(1, 20), st.integers(1, 200), st.integers(0, 200))
def test_steps_are_multiples_and_a_missed_one_is_made_up_for(steps: int, step: int, saved: int) -> None:
    saved = min(saved, step - 1)
    crossed = any(number % steps == 0 for number in range(saved + 1, step + 1))
    assert due(EverySteps(steps), replace(QUIET, step=step, saved_step=saved)) == crossed


def test_seconds_count_from_the_last_snapshot() -> None:
    assert not due(EverySeconds(5.0), replace(QUIET, since=4.9))
    assert due(EverySeconds(5.0), replace(QUIET, since=5.0))


def test_a_risky_machine_is_saved_more_often_than_was_asked_for() -> None:
    assert not due(EverySteps(1000), replace(QUIET, since=100.0))
    assert due(EverySteps(1000), replace(QUIET, since=100.0, risky=True))


def test_before_the_first_save_its_cost_is_found_out_soon() -> None:
    assert interval(replace(QUIET, costs=())) == SHORTEST


def test_retries_back_off_to_a_minute() -> None:
    assert [retry_after(n) for n in (1, 2, 3, 6, 7, 1000)] == [1, 2, 4, 32, 60, 60]


def test_the_latest_five_costs_count() -> None:
    kept: tuple[Cost, ...] = ()
    for n in range(8):
        kept = latest(kept, Cost(n, n))
    assert [cost.stall for cost in kept] == [3, 4, 5, 6, 7]
    assert median([3.0, 9.0, 1.0]) == 3.0
