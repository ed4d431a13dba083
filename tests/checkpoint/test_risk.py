from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotweld.checkpoint.cadence import RISKY
from spotweld.checkpoint.hazard import STEADY, USUAL, Rate, hourly
from spotweld.checkpoint.risk import Level, assess
from spotweld.preemption.notices import Kind, Notice

TAKEN = Notice("t", Kind.TERMINATE, "aws", 160.0, 100.0)
AT_RISK = Notice("r", Kind.REBALANCE, "aws", None, 100.0)
ages = st.floats(0, 1e6)


@given(ages)
def test_a_usual_machine_is_at_a_low_risk_at_every_age(age: float) -> None:
    risk = assess(None, None, USUAL, age)
    assert (risk.level, risk.hazard) == (Level.LOW, hourly(USUAL, age))
    assert assess(None, None, STEADY, age).level is Level.LOW


@given(ages)
def test_a_place_where_machines_go_twice_as_often_is_an_elevated_one_while_that_is_often(age: float) -> None:
    risk = assess(None, None, tuple(Rate(rate.age, 2 * rate.hourly) for rate in USUAL), age)
    assert risk.level is (Level.ELEVATED if age < 4 * 3600 else Level.LOW)


@given(st.floats(0.001, 100), ages)
def test_a_notice_counts_more_than_any_hazard(rate: float, age: float) -> None:
    table = (Rate(0.0, rate),)
    high, leaving = assess(AT_RISK, None, table, age), assess(TAKEN, 60.0, table, age)
    assert (high.level, high.notice, high.left) == (Level.HIGH, AT_RISK, None)
    assert high.hazard >= RISKY
    assert (leaving.level, leaving.notice, leaving.left) == (Level.LEAVING, TAKEN, 60.0)


@pytest.mark.parametrize(
    ("notice", "left", "why"),
    [
        (None, None, "a machine of this age (20m 00s) is taken once in 12m 00s, 3.3 times as often as is usual"),
        (AT_RISK, None, "aws says that this machine is at risk"),
        (TAKEN, 60.0, "aws says that this machine goes in 1m 00s"),
        (TAKEN, None, "aws says that this machine goes"),
    ],
)
def test_why_is_said_in_words(notice: Notice | None, left: float | None, why: str) -> None:
    assert assess(notice, left, (Rate(0.0, 5.0),), 1200.0).why == why
