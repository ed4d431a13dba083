from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from spotweld.checkpoint.cadence import (
    LONGEST,
    NOTEWORTHY,
    RISKY,
    SHORTEST,
    Cost,
    Plan,
    Rule,
    Situation,
    differs,
    due,
    latest,
    median,
    plan,
    retry_after,
    young_daly,
)
from spotweld.project.nouns import Every, EveryAuto, EverySeconds, EverySteps

AUTO = EveryAuto()
costs = st.tuples(st.floats(0, 100), st.floats(0, 1000)).map(lambda both: Cost(both[0], both[0] + both[1]))
situations = st.builds(
    Situation,
    costs=st.lists(costs, max_size=5).map(tuple),
    deliveries=st.lists(costs, max_size=5).map(tuple),
    interference=st.none() | st.floats(0, 1000),
    hazard=st.floats(0.001, 1000),
    age=st.floats(0, 1e6),
    risky=st.booleans(),
    pace=st.floats(0, 100),
    max_lost_work=st.none() | st.floats(0.1, 10_000),
)
everies = st.sampled_from([AUTO, EverySteps(3), EverySeconds(5.0), EverySeconds(5000.0)])
QUIET = Situation(
    costs=(Cost(0.1, 0.9),),
    deliveries=(Cost(0.1, 0.9),),
    interference=None,
    hazard=1 / 3.2,
    age=3600.0,
    risky=False,
    pace=0.5,
    max_lost_work=None,
)


def interval(now: Situation, every: Every = AUTO) -> float:
    found = plan(every, now).interval
    return math.inf if found is None else found


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


@given(st.floats(0, 1e4), st.floats(1e-3, 1e6), st.floats(1, 10))
def test_the_formula_has_no_jumps_in_the_wrong_direction(cost: float, life: float, factor: float) -> None:
    best = young_daly(cost, life)
    slack = 1e-9 * (1 + best)
    assert young_daly(cost * factor, life) >= best - slack
    assert young_daly(cost, life * factor) >= best - slack


@given(everies, situations, st.floats(1, 100))
def test_more_hazard_never_lengthens_the_interval(every: Every, now: Situation, factor: float) -> None:
    assert interval(replace(now, hazard=now.hazard * factor), every) <= interval(now, every) * (1 + 1e-9)


@given(everies, situations)
def test_a_notice_never_lengthens_the_interval(every: Every, now: Situation) -> None:
    assert interval(replace(now, risky=True), every) <= interval(replace(now, risky=False), every)


@given(situations, st.floats(0, 100), st.floats(0, 100))
def test_a_dearer_save_never_shortens_the_interval(now: Situation, stall: float, extra: float) -> None:
    now = replace(now, max_lost_work=None)
    dearer = tuple(Cost(cost.stall + stall, cost.seconds + stall + extra) for cost in now.costs)
    slower = None if now.interference is None else now.interference + extra
    assert interval(replace(now, costs=dearer, interference=slower)) >= interval(now) * (1 - 1e-9)


@given(situations)
def test_the_interval_of_auto_is_bounded(now: Situation) -> None:
    now = replace(now, max_lost_work=None)
    durable = median([cost.seconds for cost in now.costs]) if now.costs else 0.0
    assert SHORTEST <= interval(now) <= max(LONGEST, durable)
    assert interval(now) >= min(durable, LONGEST)


@given(everies, situations.filter(lambda now: now.max_lost_work is not None and bool(now.costs)))
def test_no_more_is_lost_than_was_allowed_or_it_is_said(every: Every, now: Situation) -> None:
    found = plan(every, now)
    durable = max(cost.seconds for cost in now.deliveries or now.costs)
    assert found.interval is not None
    assert now.max_lost_work is not None
    if found.kept:
        # A save is begun at the first step's edge after the interval; then it has to become durable.
        assert found.interval + now.pace + durable <= now.max_lost_work * (1 + 1e-9)
    else:
        assert found.interval <= durable
        # Seconds far below the last digit of a pace vanish in the sum.
        assert 2 * durable + now.pace >= now.max_lost_work


@given(everies, situations, st.floats(0.1, 10_000))
def test_a_bound_never_lengthens_the_interval(every: Every, now: Situation, most: float) -> None:
    assert interval(replace(now, max_lost_work=most), every) <= max(
        interval(replace(now, max_lost_work=None), every),
        max((cost.seconds for cost in now.deliveries or now.costs), default=0.0),
    )


@given(everies, situations, st.integers(0, 1000), st.floats(0, 1e6))
def test_a_step_that_is_saved_is_not_saved_again(every: Every, now: Situation, step: int, since: float) -> None:
    assert not due(plan(every, now), step, step, since)


@given(st.integers(1, 20), st.integers(1, 200), st.integers(0, 200))
def test_steps_are_multiples_and_a_missed_one_is_made_up_for(steps: int, step: int, saved: int) -> None:
    saved = min(saved, step - 1)
    crossed = any(number % steps == 0 for number in range(saved + 1, step + 1))
    assert due(plan(EverySteps(steps), QUIET), step, saved, 0.0) == crossed


def test_seconds_count_from_the_last_snapshot() -> None:
    assert not due(plan(EverySeconds(5.0), QUIET), 10, 0, 4.9)
    assert due(plan(EverySeconds(5.0), QUIET), 10, 0, 5.0)


def test_a_risky_machine_is_saved_more_often_than_was_asked_for() -> None:
    assert not due(plan(EverySteps(1000), QUIET), 10, 0, 100.0)
    tightened = plan(EverySteps(1000), replace(QUIET, risky=True))
    assert due(tightened, 10, 0, 100.0)
    assert tightened.rule is Rule.RISK
    assert plan(EverySeconds(1.0), replace(QUIET, risky=True)).rule is Rule.ASKED


def test_before_the_first_save_its_cost_is_found_out_soon() -> None:
    assert interval(replace(QUIET, costs=())) == SHORTEST
    assert interval(replace(QUIET, costs=(), max_lost_work=300.0), EverySteps(1000)) == SHORTEST
    assert interval(replace(QUIET, costs=()), EverySteps(1000)) == math.inf


@pytest.mark.parametrize(
    ("change", "rule", "seconds"),
    [
        ({}, Rule.LEAST_LOSS, 83.0),  # sqrt(2 * (0.1 + 0.25 * 0.8) * 11520) less the cost
        ({"interference": 0.02}, Rule.LEAST_LOSS, 52.5),
        ({"interference": 0.0, "costs": (Cost(0.0, 0.5),)}, Rule.SHORTEST, 1.0),
        ({"interference": 0.0, "costs": (Cost(0.0, 50.0),)}, Rule.ONE_AT_A_TIME, 50.0),
        ({"hazard": 1e-4}, Rule.LONGEST, 1800.0),
        ({"max_lost_work": 42.0}, Rule.MAX_LOST_WORK, 40.6),
        ({"max_lost_work": 2.0}, Rule.MAX_LOST_WORK, 0.9),
        ({"max_lost_work": 42.0, "deliveries": (Cost(0.1, 20.0),)}, Rule.MAX_LOST_WORK, 21.5),
        ({"max_lost_work": 42.0, "deliveries": (Cost(0.1, 21.0),)}, Rule.MAX_LOST_WORK, 21.0),
        ({"max_lost_work": 42.0, "deliveries": ()}, Rule.MAX_LOST_WORK, 40.6),
        ({"risky": True}, Rule.LEAST_LOSS, 18.8),
        ({"costs": ()}, Rule.FIRST, 1.0),
    ],
)
def test_examples(change: dict[str, object], rule: Rule, seconds: float) -> None:
    found = plan(AUTO, replace(QUIET, **change))
    assert (found.rule, found.interval) == (rule, pytest.approx(seconds, abs=0.2))


def test_a_plan_carries_what_it_was_made_from() -> None:
    assert plan(EverySteps(7), replace(QUIET, interference=0.5, risky=True, max_lost_work=1.0)) == Plan(
        interval=0.9,
        steps=7,
        rule=Rule.MAX_LOST_WORK,
        stall=0.1,
        interference=0.5,
        measured=True,
        durable=0.9,
        hazard=RISKY,
        age=3600.0,
        risky=True,
        max_lost_work=1.0,
        kept=False,
    )


def test_small_changes_of_a_plan_are_not_told() -> None:
    old = plan(AUTO, QUIET)
    assert old.interval is not None
    assert differs(old, None)
    assert not differs(old, old)
    assert not differs(replace(old, interval=old.interval * (1 + NOTEWORTHY / 2), rule=Rule.LONGEST), old)
    assert differs(replace(old, interval=old.interval * (1 + 2 * NOTEWORTHY)), old)
    assert differs(replace(old, kept=False), old)
    by_steps = replace(old, interval=None)
    assert differs(by_steps, old)
    assert differs(old, by_steps)
    assert not differs(by_steps, by_steps)


def test_retries_back_off_to_a_minute() -> None:
    assert [retry_after(n) for n in (1, 2, 3, 6, 7, 1000)] == [1, 2, 4, 32, 60, 60]


def test_the_latest_five_costs_count() -> None:
    kept: tuple[Cost, ...] = ()
    for n in range(8):
        kept = latest(kept, Cost(n, n))
    assert [cost.stall for cost in kept] == [3, 4, 5, 6, 7]
    assert median([3.0, 9.0, 1.0]) == 3.0
