"""The pictures of budgets: what is left, in words and as heights."""

from __future__ import annotations

import re
from decimal import Decimal
from itertools import pairwise

import pytest
from msgspec.structs import replace
from tests.costs.test_budgets import DAY, HOUR, TEN, usage

from spotweld.costs.burndown import Burndown, burndown
from spotweld.costs.ledger import ledger
from spotweld.project.nouns import Budget, Period
from spotweld.report.burndown import burndowns

DAILY = replace(TEN, per=Period.DAY, stop=Decimal("0.9"), alerts=(Decimal("0.5"), Decimal(1)))


def spent(hours: float, budget: Budget = DAILY, *, now: float = 12.0, closed: bool = True) -> Burndown:
    """A machine for 1 an hour, the last hours before now."""
    used = [usage(DAY + (now - hours) * HOUR, DAY + now * HOUR, closed=closed)] if hours else []
    return burndown(budget, ledger(used), (), DAY + now * HOUR)


def line(text: str) -> list[tuple[float, float]]:
    (path,) = re.findall(r'<path d="M([^"Z]*)" class="left">', text)
    return [tuple(map(float, point.split())) for point in path.split("L")]  # type: ignore[misc]


def height(text: str, kind: str) -> float:
    return float(re.findall(rf'y1="([0-9.]+)"[^>]*class="{kind}"', text)[0])


def test_the_line_falls_from_the_amount_to_what_is_left() -> None:
    text = burndowns([spent(5)])
    top, zero = height(text, "even"), height(text, "zero")
    assert "5.00 USD left, 50 %" in text
    (first, began), *_, (last, left) = line(text)
    assert began == pytest.approx(top, abs=0.02)
    assert left == pytest.approx((top + zero) / 2, abs=0.02)
    # Half of the day is over, and half of the axis.
    ends = re.search(r'x1="([0-9.]+)" y1="[0-9.]+" x2="([0-9.]+)" y2="[0-9.]+" class="even"', text)
    assert ends is not None
    assert (first, last) == (float(ends[1]), pytest.approx((float(ends[1]) + float(ends[2])) / 2, abs=0.02))


def test_thresholds_lie_where_that_much_is_left() -> None:
    text = burndowns([spent(5)])
    top, zero = height(text, "even"), height(text, "zero")
    assert height(text, "alert") == pytest.approx((top + zero) / 2, abs=0.02)
    assert height(text, "stop") == pytest.approx(zero - (zero - top) / 10, abs=0.02)
    assert all(f">{name}<" in text for name in ("alert 50 %", "stop 90 %", "alert 100 %"))


def test_names_of_thresholds_that_lie_close_stand_apart() -> None:
    close = tuple(Decimal(level) / 100 for level in (97, 98, 99))
    text = burndowns([spent(0, replace(DAILY, alerts=close))])
    places = [float(y) for y in re.findall(r'<text [^>]*y="([0-9.]+)" class="(?:alert|stop)"', text)]
    assert len(places) == 4
    assert all(b - a >= 14 for a, b in pairwise(places))


def test_a_budget_that_runs_out_says_when() -> None:
    text = burndowns([spent(5, closed=False)])
    assert "1.00 USD an hour are spent now: empty on Mar 4, 17:00" in text
    assert 'class="budget-says bad"' in text
    assert 'class="empty"' in text


def test_one_that_lasts_says_what_will_be_left() -> None:
    text = burndowns([spent(1, replace(DAILY, amount=DAILY.amount * 10), now=20.0, closed=False)])
    assert "95.00 USD will be left" in text
    assert 'class="empty"' not in text


def test_what_is_overspent_is_below_zero_and_in_another_colour() -> None:
    text = burndowns([spent(11.5)])
    assert "1.50 USD overspent, 15 %" in text
    zero = height(text, "zero")
    assert line(text)[-1][1] == pytest.approx(zero, abs=0.02)
    (area,) = re.findall(r'<path d="M([^"]*)Z" class="over">', text)
    assert min(float(point.split()[1]) for point in area.split("L")) == pytest.approx(zero, abs=0.02)
    assert max(float(point.split()[1]) for point in area.split("L")) > zero + 5
    assert "overspent<" in text
    assert 'class="over"' not in burndowns([spent(10)])
    assert "nothing left" in burndowns([spent(10)])


@pytest.mark.parametrize("per", Period)
def test_a_budget_of_which_nothing_was_spent_is_full(per: Period) -> None:
    text = burndowns([spent(0, replace(DAILY, per=per))])
    assert "10.00 USD left, 100 %" in text
    assert "nothing was spent yet" in text
    assert len({y for _, y in line(text)}) == 1
    # One that has no end cannot be spent evenly.
    assert ('class="even"' in text) == (per is not Period.TOTAL)
    assert "nan" not in text


def test_an_hour_of_data_in_a_month() -> None:
    # The 1st of March, 01:00.
    text = burndowns([spent(1, replace(DAILY, per=Period.MONTH), now=-71.0, closed=False)])
    assert "empty on Mar 1, 10:00" in text
    assert all(f">Mar {day}<" in text for day in (1, 8, 15, 22, 29))


def test_stops_are_marked_on_the_line() -> None:
    known = replace(spent(12), stops=(DAY + 9 * HOUR,))
    text = burndowns([known])
    assert "runs were stopped on Mar 4, 09:00" in text
    (x, y), zero = re.findall(r'd="M([0-9.]+) ([0-9.]+)l6 6', text)[0], height(text, "zero")
    assert float(y) + 6 == pytest.approx(height(text, "stop"), abs=0.02)
    assert line(text)[0][0] < float(x) < line(text)[-1][0]
    assert zero > float(y)


def test_what_counts_is_said_and_text_is_text() -> None:
    budget = replace(DAILY, name="<b>", jobs=("sweep", "train"), labels={"team": "a&b"})
    text = burndowns([spent(1, budget), spent(1)])
    assert "<b>&lt;b&gt;</b>" in text
    assert "10.00 USD a day, sweep, train with team=a&amp;b" in text
    assert "10.00 USD a day, all jobs" in text


def test_other_currencies_are_told() -> None:
    rows = ledger([usage(DAY, DAY + HOUR, currency="EUR")])
    assert "1.00 EUR more were spent" in burndowns([burndown(DAILY, rows, (), DAY + HOUR)])
