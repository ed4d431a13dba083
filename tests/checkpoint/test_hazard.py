from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotweld.checkpoint.hazard import STEADY, USUAL, Hazard, Life, Rate, hourly, informed, read, spelled

HOUR = 3600.0
lives = st.lists(st.builds(Life, st.floats(0, 1e6), st.booleans()), max_size=30)
ages = st.floats(0, 1e6)


def test_older_machines_are_safer_unless_something_else_was_seen() -> None:
    rates = [rate.hourly for rate in USUAL]
    assert rates == sorted(rates, reverse=True)
    assert hourly(USUAL, 0.0) == hourly(USUAL, -1.0) == hourly(USUAL, 0.49 * HOUR) == 1.5
    assert hourly(USUAL, 0.5 * HOUR) == 0.8
    assert hourly(USUAL, 1e9) == 0.025
    assert hourly(STEADY, 0.0) < hourly(USUAL, 1e9)


def test_seeing_nothing_changes_nothing() -> None:
    assert [rate.hourly for rate in informed(USUAL, [])] == pytest.approx([rate.hourly for rate in USUAL])


@given(lives, ages, st.floats(0, 1e6))
def test_an_interruption_never_lowers_a_rate(seen: list[Life], age: float, seconds: float) -> None:
    survived, taken = ([*seen, Life(seconds, taken)] for taken in (False, True))
    assert hourly(informed(USUAL, taken), age) >= hourly(informed(USUAL, survived), age)


@given(lives, ages, st.floats(0, 1e6))
def test_more_of_a_life_that_goes_on_never_raises_a_rate(seen: list[Life], age: float, more: float) -> None:
    short, long = ([*seen, Life(seconds, taken=False)] for seconds in (more / 2, more))
    assert hourly(informed(USUAL, long), age) <= hourly(informed(USUAL, short), age) * (1 + 1e-9)


def exponential(mean: float, count: int) -> list[Life]:
    """Lives at the quantiles of the distribution, so that no chance is in it."""
    return [Life(-mean * math.log(1 - (at + 0.5) / count), taken=True) for at in range(count)]


def test_many_lives_outweigh_the_traces() -> None:
    table = informed(USUAL, exponential(600.0, 1000))
    for age in (0.0, 0.6 * HOUR):
        assert hourly(table, age) == pytest.approx(6.0, rel=0.15)


def test_a_few_lives_move_every_age_by_a_factor() -> None:
    table = informed(USUAL, [Life(300.0, taken=True)] * 3)
    factors = [new.hourly / old.hourly for new, old in zip(table, USUAL, strict=True)]
    assert all(1.5 < factor < 6 for factor in factors)
    assert factors[0] == max(factors)


def test_a_limit_of_a_days_life_is_learned() -> None:
    table = informed(USUAL, [Life(24.1 * HOUR, taken=True)] * 50)
    assert hourly(table, 24 * HOUR) > 10 * hourly(USUAL, 24 * HOUR)
    assert hourly(table, 12 * HOUR) < hourly(USUAL, 12 * HOUR)


@given(lives)
def test_a_table_survives_the_environment(seen: list[Life]) -> None:
    table = informed(USUAL, seen)
    assert read(spelled(table)) == table


@pytest.mark.parametrize(("text", "table"), [("0.5", (Rate(0.0, 0.5),)), ("2", (Rate(0.0, 2.0),))])
def test_a_plain_number_holds_at_every_age(text: str, table: Hazard) -> None:
    assert read(text) == table


@pytest.mark.parametrize(
    "text",
    [None, "", "x", "[]", "nan", "-1", "0", "[[0]]", "[[1, 1]]", "[[0, 0]]", "[[0, 1], [0, 2]]", '[["a", 1]]', "1e999"],
)
def test_what_makes_no_sense_is_nothing(text: str | None) -> None:
    assert read(text) is None
