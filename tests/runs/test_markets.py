"""A project's own past as a market: from real logs, each with a truth that is known."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.runs.pasts import Past

from spotweld.errors import UsageError
from spotweld.placement.market import market_of
from spotweld.placement.policies import policy_of
from spotweld.placement.seeing import Task
from spotweld.placement.simulating import simulate
from spotweld.runs.events import Cause
from spotweld.runs.markets import GAP, past_market

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HOUR = round(3600 / GAP)
"""Ticks."""


@pytest.fixture
def past(tmp_path: Path) -> Past:
    return Past(tmp_path / "events.db")


def spans(values: Sequence[float]) -> list[tuple[float, float]]:
    """(value, hours) one after the other."""
    return [(value, len(list(group)) / HOUR) for value, group in groupby(values)]


def test_up_while_a_machine_ran_down_from_its_loss_until_the_next(past: Past) -> None:
    past.attempt("r", 0, 4, Cause.PREEMPTED)
    past.refused("r", 5)
    past.attempt("r", 6, 9, Cause.DONE)
    (one,) = past_market(past.states(), past.at(0), past.at(20)).recordings
    # The tick in which it came back had been down.
    assert spans(one.capacity) == [(1, 4), (0, 2 + 1 / HOUR), (1, 3 - 1 / HOUR)]
    assert (one.zone, one.region, one.gap, one.currency, one.on_demand) == ("a", "local", GAP, "USD", 3.06)
    assert one.start is not None
    assert one.start.timestamp() == past.at(0)


def test_what_nobody_looked_at_keeps_its_value_and_is_told(past: Past) -> None:
    past.attempt("r", 0, 4, Cause.PREEMPTED_UNNOTICED)
    past.attempt("r", 4, 10, Cause.MOVED, zone="b")
    found = past_market(past.states(), past.at(0), past.at(99))
    a, b = found.recordings
    assert spans(a.capacity) == [(1, 4), (0, 6)]
    assert spans(b.capacity) == [(1, 10)]
    # a: four hours of a machine, and one for which the loss is news. b: its own six.
    assert a.notes[0].startswith("50% of its time was observed, in 1 attempts (0 refused)")
    assert b.notes[0].startswith("60% of its time was observed")
    assert found.notes == ("the past of cloud machine in USD, 10h 00m of it in 2 attempts",)


def test_machines_that_run_at_once_are_counted(past: Past) -> None:
    for number, until in enumerate((9, 6, 3)):
        past.attempt(f"r{number}", 0, until, Cause.PREEMPTED if until == 6 else Cause.DONE)
    past.refused("late", 8)
    (one,) = past_market(past.states(), past.at(0), past.at(20)).recordings
    # What ends by itself takes no capacity away; a loss and a refusal leave what still runs.
    assert spans(one.capacity) == [(3, 6), (1, 3)]


def test_prices_hold_until_the_next_is_known(past: Past) -> None:
    past.refused("r", 0, price="0.50")
    past.attempt("r", 2, 4, Cause.MOVED, price="0.75")
    past.attempt("r", 6, 8, Cause.DONE, price="0.25")
    (one,) = past_market(past.states(), past.at(0), past.at(20)).recordings
    assert spans(one.prices) == [(0.5, 2), (0.75, 4), (0.25, 2)]


def test_a_machine_that_still_runs_has_run_until_now(past: Past) -> None:
    past.attempt("r", 0, None, Cause.DONE)
    (one,) = past_market(past.states(), past.at(0), past.at(3)).recordings
    assert spans(one.capacity) == [(1, 3)]


def test_only_what_is_recent_counts(past: Past) -> None:
    past.attempt("r", 0, 4, Cause.PREEMPTED)
    past.attempt("r", 4, 9, Cause.PREEMPTED)
    past.attempt("r", 9, 12, Cause.DONE, zone="b")
    found = past_market(past.states(), past.at(5), past.at(12))
    assert [spans(one.capacity) for one in found.recordings] == [[(1, 4), (0, 3)], [(1, 7)]]


def test_a_second_of_the_local_provider_is_as_many_as_its_speed_says(past: Past) -> None:
    past.open("r", speed=1000.0)
    for at, until in ((0, 0.004), (0.006, 0.010)):
        past.attempt("r", at, until, Cause.PREEMPTED, provider="local")
    found = past_market(past.states(), past.at(0), past.at(1))
    (up, hours), *_ = spans(found.recordings[0].capacity)
    # The log's moments are floats, whose last digits a speed of 1000 makes visible.
    assert (up, hours) == (1, pytest.approx(4, abs=2 / HOUR))
    assert len(found.recordings[0].capacity) == pytest.approx(10 * HOUR, abs=1)
    assert "a second of the log is 1000 seconds of the market" in found.notes
    past.open("cloudy", speed=1000.0)
    past.attempt("cloudy", 1, 3, Cause.DONE)
    past.attempt("cloudy", 3, 5, Cause.DONE)
    past.attempt("cloudy", 5, 6, Cause.DONE)
    found = past_market(past.states(), past.at(0), past.at(9))
    assert len(found.recordings[0].capacity) == 5 * HOUR
    assert "2 attempts on local machine in USD at 1000 times its speed are left out" in found.notes


def test_what_on_demand_did_says_nothing_of_spot(past: Past) -> None:
    past.attempt("r", 0, 5, Cause.DONE, zone="b", spot=False)
    with pytest.raises(UsageError, match="no past to simulate"):
        past_market(past.states(), past.at(0), past.at(9))
    past.attempt("s", 5, 6, Cause.DONE)
    (one,) = past_market(past.states(), past.at(0), past.at(9)).recordings
    assert spans(one.capacity) == [(1, 1)]


def test_too_little_is_refused(past: Past) -> None:
    with pytest.raises(UsageError, match="no past"):
        past_market([], 0.0, 1e9)
    past.attempt("r", 0, 0.02, Cause.DONE)
    with pytest.raises(UsageError, match="too short"):
        past_market(past.states(), past.at(0), past.at(9))
    with pytest.raises(UsageError, match="no past"):
        past_market(past.states(), past.at(1), past.at(9))


def test_a_fast_market_that_lies_weeks_back_is_refused_rather_than_spread_over_centuries(past: Past) -> None:
    for run, at in (("r", 0), ("s", 21 * 24)):
        past.open(run, speed=1000.0, at=at)
        past.attempt(run, at, at + 0.1, Cause.DONE, provider="local")
    with pytest.raises(UsageError, match=r"too long.* 1000 times its speed"):
        past_market(past.states(), past.at(0), past.at(21 * 24 + 1))
    (one,) = past_market(past.states(), past.at(21 * 24 - 1), past.at(21 * 24 + 1)).recordings
    assert spans(one.capacity) == [(1, 100)]


def test_the_market_can_be_simulated(past: Past) -> None:
    for at in range(0, 40, 4):
        past.attempt("r", at, at + 3, Cause.PREEMPTED, price="1.00")
        past.refused("r", at + 3.5)
    market = market_of(past_market(past.states(), past.at(0), past.at(60)).recordings)
    task = Task(work=5 * 3600.0, deadline=9 * 3600.0, changeover=600.0)
    found = simulate(market, np.array([0]), task, policy_of("greedy"))
    assert found.preemptions.tolist() == [1]
    assert found.cost[0] == pytest.approx(5 + 2 / 6)
