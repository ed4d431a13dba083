"""Price windows: the cheap hours are found, nothing is waited for in vain, and the guard's promise holds."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.placement.markets import lives, market_from
from tests.placement.walking import walk_through

from spotweld.placement.baselines import Greedy, UniformProgress
from spotweld.placement.optimum import optimum
from spotweld.placement.pricewindows import PriceWindows
from spotweld.placement.seeing import Policy, Task
from spotweld.placement.simulating import Outcomes, simulate, starts_of
from spotweld.placement.windows import days_of, look

if TYPE_CHECKING:
    from spotweld.placement.market import Ints, Market
    from spotweld.placement.seeing import Seen

HOUR = 3600.0
TASK = Task(work=6 * HOUR, deadline=24 * HOUR, changeover=720.0)
DAY = 144
"""Ticks of 600 s."""
LATER = np.arange(3 * DAY, 5 * DAY, 24)
"""Jobs that begin when three days have been seen."""


def by_hour(price: list[float], days: int) -> list[float]:
    """A price for each hour of the day, at ticks of 600 s, day after day."""
    return [price[tick // 6 % 24] for tick in range(days * DAY)]


def wave(low: float, high: float, lag: float = 0.0) -> list[float]:
    middle, swing = (low + high) / 2, (high - low) / 2
    return [middle + swing * math.cos(2 * math.pi * (hour - lag) / 24) for hour in range(24)]


@pytest.mark.parametrize("zones", [1, 3])
def test_where_prices_have_a_daily_cycle_it_pays_close_to_the_least(zones: int) -> None:
    spot = [by_hour(wave(0.3, 1.5, 5 * zone), 7) for zone in range(zones)]
    market = market_from([[1] * 7 * DAY] * zones, spot)
    ours, greedy = (simulate(market, LATER, TASK, policy) for policy in (PriceWindows(), Greedy()))
    least = optimum(market, LATER, TASK)
    assert (ours.cost / least).mean() < 1.03
    assert (greedy.cost / least).mean() > 1.3
    assert (ours.cost <= 1.15 * least).all()


def test_long_work_takes_the_cheap_half_of_each_day() -> None:
    market = market_from([[1] * 12 * DAY], [by_hour([0.4] * 12 + [1.6] * 12, 12)])
    task = Task(work=40 * HOUR, deadline=96 * HOUR, changeover=720.0)
    starts = np.array([4 * DAY, 5 * DAY + 40, 6 * DAY + 80])
    found = simulate(market, starts, task, PriceWindows())
    np.testing.assert_allclose(found.cost, optimum(market, starts, task), rtol=0.02)


def test_a_market_that_has_become_dearer_as_a_whole_keeps_its_cheap_hours() -> None:
    spot = np.array(by_hour(wave(0.3, 1.5), 7)) * np.where(np.arange(7 * DAY) < 2 * DAY, 1.0, 1.5)
    market = market_from([[1] * 7 * DAY], [spot.tolist()])
    found = simulate(market, LATER, TASK, PriceWindows())
    assert (found.cost / optimum(market, LATER, TASK)).mean() < 1.03


@pytest.mark.parametrize("zones", [1, 2])
def test_flat_prices_give_nothing_to_wait_for(zones: int) -> None:
    market = market_from([[1] * 7 * DAY] * zones, 0.9)
    ours, greedy = (simulate(market, LATER, TASK, policy) for policy in (PriceWindows(), Greedy()))
    for field in fields(Outcomes):
        np.testing.assert_array_equal(getattr(ours, field.name), getattr(greedy, field.name))


def test_where_flat_spot_comes_and_goes_it_pays_no_more_than_greedy() -> None:
    """It is no policy for that, so about the same is all that it owes: the sum over four markets, to one percent."""
    task, starts = replace(TASK, work=10 * HOUR, deadline=16 * HOUR), np.arange(2 * DAY, 10 * DAY, 40)
    ours = greedy = 0.0
    for seed in range(4):
        rng, levels = np.random.default_rng(seed), list[int]()
        while len(levels) < 12 * DAY:
            levels += [1] * max(1, round(min(rng.pareto(1.0) * 8, 300))) + [0] * max(1, round(rng.pareto(1.2) * 5))
        market = market_from([levels[: 12 * DAY]], 0.9)
        ours += simulate(market, starts, task, PriceWindows()).cost.sum()
        greedy += simulate(market, starts, task, Greedy()).cost.sum()
    assert ours <= 1.01 * greedy


def test_without_a_day_of_past_it_takes_what_is_there() -> None:
    market = market_from([[1, 1, 0, 1] * DAY], [by_hour(wave(0.3, 1.5), 4)])
    starts, task = np.array([0, 50, DAY - 13]), replace(TASK, work=HOUR, deadline=2 * HOUR)
    ours, greedy = (simulate(market, starts, task, policy) for policy in (PriceWindows(), Greedy()))
    np.testing.assert_array_equal(ours.cost, greedy.cost)


def test_a_stop_or_a_move_has_to_be_worth_a_start() -> None:
    """A peak of half an hour is ridden out; where a start takes no time it is not, nor is a peak of eight hours."""
    half, task = np.array(by_hour([0.5] * 24, 7)), replace(TASK, work=12 * HOUR)
    half[6 * 8 % DAY :: DAY] = half[6 * 8 % DAY + 1 :: DAY] = half[6 * 8 % DAY + 2 :: DAY] = 0.6
    long = by_hour([0.5] * 6 + [0.9] * 8 + [0.5] * 10, 7)
    for spot, hours, changeover, starts in (
        (half.tolist(), 15, 720.0, 1),
        (half.tolist(), 15, 0.0, 2),
        (long, 24, 720.0, 2),
    ):
        market, job = market_from([[1] * 7 * DAY], [spot]), replace(task, deadline=hours * HOUR, changeover=changeover)
        found = simulate(market, np.array([3 * DAY]), job, PriceWindows())
        assert found.starts.tolist() == [starts]
        assert found.cost[0] == pytest.approx(0.5 * (12 + starts * changeover / HOUR) + (starts == 1) * 0.05, rel=1e-3)


def test_a_want_of_capacity_in_the_cheap_hours_is_not_waited_out() -> None:
    """The cheap hours are those that spot is missing in: as uniform progress does, it bridges them when behind."""
    up = np.ones(7 * DAY, dtype=np.int64)
    up[4 * DAY : 5 * DAY] = 0
    market = market_from([up.tolist()], 0.9)
    starts, task = np.array([4 * DAY]), replace(TASK, work=12 * HOUR, deadline=36 * HOUR)
    ours, theirs = (simulate(market, starts, task, policy) for policy in (PriceWindows(), UniformProgress()))
    assert 0 < ours.on_demand[0] <= theirs.on_demand[0]


def test_egress_counts_as_a_part_of_a_start() -> None:
    spot = [by_hour([0.5] * 12 + [0.9] * 12, 7), by_hour([0.9] * 12 + [0.3] * 12, 7)]
    market = replace(market_from([[1] * 7 * DAY] * 2, spot), regions=("west", "east"))
    task = replace(TASK, work=18 * HOUR, deadline=19 * HOUR, size=20.0)
    for egress, paid, moves in ((0.01, 0.2, 1), (1.0, 0.0, 0)):
        found = simulate(market, np.array([3 * DAY]), replace(task, egress=egress), PriceWindows())
        assert found.egress.tolist() == [paid]
        assert found.moves.tolist() == [moves]


@st.composite
def long_days(draw: st.DrawFn) -> tuple[Market, Task, int]:
    """A market in which a day has few ticks, a job, and how many ticks are past."""
    zones, ticks, gap = draw(st.integers(1, 3)), 36, draw(st.sampled_from([3 * HOUR, 4 * HOUR, 5 * HOUR]))
    capacity = [[level for level, length in draw(lives(ticks)) for _ in range(length)][:ticks] for _ in range(zones)]
    price = st.integers(0, 8).map(lambda eighths: eighths / 8)
    spot = [draw(st.lists(price, min_size=ticks, max_size=ticks)) for _ in range(zones)]
    regions = tuple(draw(st.sampled_from(["west", "east"])) for _ in range(zones))
    firm = [draw(st.integers(1, 24)) / 8 for _ in range(zones)]
    changeover, work = gap * draw(st.sampled_from([0, 0.05, 0.5, 1.25])), gap * draw(st.sampled_from([0.5, 2.5, 6.25]))
    task = Task(
        work=work,
        deadline=work + changeover + gap * draw(st.sampled_from([0, 0.5, 1, 2.75, 5.5])),
        changeover=changeover,
        gang=draw(st.integers(1, 2)),
        cadence=gap * draw(st.sampled_from([0, 0, 0.75, 3])),
        size=draw(st.sampled_from([0.0, 10.0])),
        egress=draw(st.sampled_from([0.01, 1.0])),
    )
    return market_from(capacity, spot, firm, gap, regions), task, draw(st.integers(4, 20))


@settings(max_examples=60)
@given(long_days())
def test_the_laws_hold_once_it_has_learned(problem: tuple[Market, Task, int]) -> None:
    """No deadline is missed, the optimum is not beaten, and the slow simulator finds the same."""
    market, task, past = problem
    starts = np.array([start for start in starts_of(market, task) if start >= past][:6])
    found = simulate(market, starts, task, PriceWindows())
    assert (found.took <= task.deadline).all()
    assert (found.cost >= optimum(market, starts, task) * (1 - 1e-12) - 1e-12).all()
    slow = walk_through(market, task, int(starts[0]), PriceWindows())
    assert float(slow.cost) == pytest.approx(found.cost[0], rel=1e-12, abs=1e-12)
    for job in range(len(starts)):
        alone = simulate(market, starts[job : job + 1], task, PriceWindows())
        assert (alone.cost[0], alone.starts[0]) == (found.cost[job], found.starts[job])


def test_what_others_would_pay_on_demand_is_no_matter() -> None:
    market = market_from([[1, 1, 1, 0] * 40, [1, 0] * 80], [[0.5] * 160, [0.25] * 160], [1.0, 1.0], 4 * HOUR)
    days = days_of(market, 1)
    assert days is not None
    firm, starts = np.array([1.0, 9.0]), np.zeros((2, 3))
    both = look([days] * 2, TASK, market.gap, TASK.deadline, TASK.deadline, (firm, starts))
    for row in (0, 1):
        own = slice(row, row + 1)
        alone = look([days], TASK, market.gap, TASK.deadline, TASK.deadline, (firm[own], starts[own]))
        slack = np.array([[-2.0, 1.0]])
        of_both, of_one = both.of(np.array([row]), 0.5), alone.of(np.array([0]), 0.5)
        np.testing.assert_array_equal(of_both.cost(of_both.spot, slack), of_one.cost(of_one.spot, slack))
        np.testing.assert_array_equal(of_both.cost(of_both.none, slack[:, 0]), of_one.cost(of_one.none, slack[:, 0]))


class Told(Policy):
    """Notes what another policy wants, until a tick."""

    name = "told"

    def __init__(self, other: Policy, until: int) -> None:
        self.other, self.until, self.wants = other, until, list[int]()

    def decide(self, seen: Seen) -> Ints:
        want = self.other.decide(seen)
        if seen.tick[0] < self.until:
            self.wants.append(int(want[0]))
        return want


def test_the_future_changes_nothing() -> None:
    rng, ticks = np.random.default_rng(3), 4 * DAY
    spot = np.array([by_hour(wave(0.3, 1.5, 5 * zone), 7) for zone in range(2)]) * rng.uniform(0.8, 1.2, (2, 7 * DAY))
    capacity = (rng.random((2, 7 * DAY)) < 0.9).astype(np.int64)
    other = (np.where(np.arange(7 * DAY) < ticks, spot, 0.1), np.where(np.arange(7 * DAY) < ticks, capacity, 1))
    wants = []
    for prices, levels in ((spot, capacity), other):
        told = Told(PriceWindows(), ticks)
        simulate(market_from(levels.tolist(), prices.tolist()), np.array([3 * DAY + 70]), TASK, told)
        wants.append(told.wants)
    assert wants[0] == wants[1]
    assert len(set(wants[0])) > 1


def test_the_days_to_come_are_those_that_were_at_todays_level() -> None:
    market = market_from([[2] * 10, [1, 0] * 5], [[1.0] * 4 + [2.0] * 6, [0.0] * 10], gap=6 * HOUR)
    days = days_of(market, 1)
    assert days is not None
    # The last day cost 2 throughout; the one before it 1 and then 2, which at the last one's level is 4/3 and 8/3.
    np.testing.assert_allclose(days.spot[:, 0], [5 / 3, 5 / 3, 7 / 3, 7 / 3])
    np.testing.assert_array_equal(days.spot[:, 1], np.zeros(4))
    np.testing.assert_array_equal(days.up[0, :, 1], [True, False, True, False])
    assert days.lost.tolist() == [0.0, 1.0]
    assert days_of(market.between(0, 3), 1) is None
