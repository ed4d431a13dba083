"""The optimum: what brute force finds, and the laws that a bound has to keep."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.placement.markets import market_from, problems, whims
from tests.placement.walking import brute_force

from spotweld.errors import UsageError
from spotweld.placement import optimum as module
from spotweld.placement.optimum import grid_of, optimum
from spotweld.placement.policies import POLICIES, policy_of
from spotweld.placement.seeing import Task
from spotweld.placement.simulating import simulate, starts_of

if TYPE_CHECKING:
    from tests.placement.markets import Whim

    from spotweld.placement.market import Market


def least(market: Market, task: Task, start: int = 0) -> float:
    return float(optimum(market, np.array([start]), task)[0])


@settings(max_examples=120)
@given(problems(zones=2, ticks=7))
def test_it_is_what_brute_force_finds(problem: tuple[Market, Task]) -> None:
    market, task = problem
    assert grid_of(market.gap, task).exact
    for start in starts_of(market, task)[:2]:
        assert least(market, task, start) == pytest.approx(
            float(brute_force(market, task, start)), rel=1e-12, abs=1e-12
        )


@settings(max_examples=60)
@given(problems(), whims())
def test_no_policy_beats_it(problem: tuple[Market, Task], whim: Whim) -> None:
    market, task = problem
    starts = np.array(starts_of(market, task))
    bound = optimum(market, starts, task)
    for policy in (whim, *map(policy_of, POLICIES)):
        assert (simulate(market, starts, task, policy).cost >= bound * (1 - 1e-12) - 1e-12).all()


@settings(max_examples=60)
@given(problems(), st.data())
def test_more_zones_more_time_and_lower_prices_never_raise_it(
    problem: tuple[Market, Task], data: st.DataObject
) -> None:
    market, task = problem
    before = least(market, task)
    most = before * (1 + 1e-12) + 1e-12
    fewer = data.draw(st.sets(st.integers(0, len(market.zones) - 1), min_size=1).map(sorted))
    assert before <= least(market.only(fewer), task) * (1 + 1e-12) + 1e-12
    later = min(task.deadline + data.draw(st.sampled_from([0.25, 1, 3])) * market.gap, market.ticks * market.gap)
    assert least(market, replace(task, deadline=later)) <= most
    cut = data.draw(st.integers(0, market.ticks - 1))
    spot = np.where(np.arange(market.ticks)[:, None] >= cut, market.spot / 2, market.spot)
    assert least(replace(market, spot=spot), task) <= most
    assert least(replace(market, on_demand=market.on_demand / 2), task) <= most
    assert least(market, replace(task, egress=task.egress / 2)) <= most
    assert least(market, replace(task, cadence=0.0)) <= most


def test_what_is_held_cannot_be_started_anew() -> None:
    # Up for four ticks, saves a tick and a half apart: begun anew at the second tick, a machine would lose nothing.
    market = market_from([[1, 1, 1, 1, 0, 0]], gap=600.0)
    task = Task(work=3000.0, deadline=3600.0, cadence=900.0)
    assert float(brute_force(market, task, 0)) == pytest.approx(9 / 6)
    assert least(market, task) == pytest.approx(9 / 6)


def test_egress_is_part_of_it() -> None:
    # Spot in the west, then in the east: on-demand for the second half costs 1.0 more, moving 0.8.
    market = market_from([[1, 1, 0, 0], [0, 0, 1, 1]], 0.0, 3.0, 600.0, ("west", "east"))
    task = Task(work=2400.0, deadline=2400.0, size=10.0)
    for egress, cost in ((0.0, 0.0), (0.08, 0.8), (0.5, 1.0)):
        assert least(market, replace(task, egress=egress)) == pytest.approx(cost)


@given(problems())
def test_a_coarser_grid_gives_a_lower_bound(problem: tuple[Market, Task]) -> None:
    market, task = problem
    before = least(market, task)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FINEST", 3)
        grid = grid_of(market.gap, task)
        assert least(market, task) <= before * (1 + 1e-12) + 1e-12
    assume(not grid.exact)
    assert market.gap / grid.unit == round(market.gap / grid.unit)


def test_a_job_in_seconds_that_fit_nothing_is_exact() -> None:
    market = market_from([[1] * 40], gap=195.0)
    task = Task(work=4321.125, deadline=6543.0, changeover=720.0)
    assert grid_of(195.0, task) == module.Grid(15.0, 148, exact=True)
    assert least(market, task) == pytest.approx((4321.125 + 720) / 3600)


def test_durations_without_a_common_measure_fall_back_to_a_bound() -> None:
    task = Task(work=48 * 3600.0, deadline=60 * 3600.0, changeover=700.001)
    grid = grid_of(195.0, task)
    assert not grid.exact
    assert grid.steps <= module.FINEST
    assert 195 / grid.unit == math.floor(195 * module.FINEST / 43200)


def test_equal_starts_cost_the_same_and_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    market, task = market_from([[1, 0, 1, 1, 0, 1]]), Task(work=1200.0, deadline=1800.0)
    costs = optimum(market, np.array([2, 0, 2]), task, lambda *counts: told.append(counts))
    assert costs[0] == costs[2] == pytest.approx(1 / 3)
    assert costs[1] == pytest.approx(1 / 3)
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_recording_that_ends_too_early_is_refused() -> None:
    with pytest.raises(UsageError, match="too short"):
        least(market_from([[1, 1]]), Task(work=1200.0, deadline=1800.0))
    with pytest.raises(UsageError, match="start"):
        least(market_from([[1, 1, 1]]), Task(work=1200.0, deadline=1800.0), 1)
