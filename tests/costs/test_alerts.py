"""Which thresholds are reached, and the words about it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from spotweld.costs.alerts import alert, json_body, period_name, reached, slack_body, subject, text
from spotweld.costs.budgets import Standing, period
from spotweld.project.nouns import Budget, Period
from spotweld.values.money import Money

NOW = datetime(2026, 11, 23, 5, tzinfo=UTC).timestamp()
SHARES = (Decimal(1), Decimal("0.8"), Decimal("0.80"))


def stands(share: str, per: Period = Period.MONTH, exhausted: float | None = None) -> Standing:
    budget = Budget("all", Money(Decimal(500)), per, alerts=SHARES)
    since, until = period(per, NOW)
    spent = Money(Decimal(share) * 500)
    return Standing(budget, since, until, spent, Decimal(share), Money(Decimal("3.2")), exhausted)


@pytest.mark.parametrize(
    ("per", "name"),
    [(Period.DAY, "2026-11-23"), (Period.WEEK, "2026-W48"), (Period.MONTH, "2026-11"), (Period.TOTAL, "total")],
)
def test_each_period_has_a_name(per: Period, name: str) -> None:
    assert period_name(stands("0.5", per)) == name


def test_thresholds_are_reached_once_and_the_lowest_first() -> None:
    assert reached(stands("0.7999"), ()) == []
    assert reached(stands("0.8"), ()) == [Decimal("0.8")]
    assert reached(stands("1.3"), ()) == [Decimal("0.8"), Decimal(1)]
    assert reached(stands("1.3"), {("all", "2026-11", Decimal("0.8"))}) == [Decimal(1)]
    assert reached(stands("0.9"), {("all", "2026-10", Decimal("0.8"))}) == [Decimal("0.8")]


def test_a_web_hook_gets_all_of_it() -> None:
    one = alert(stands("0.824", exhausted=NOW), Decimal("0.8"), "id", "vision")
    assert json.loads(json_body(one)) == {
        "id": "id",
        "budget": "all",
        "period": "2026-11",
        "threshold": "0.8",
        "spent": {"amount": "412.000", "currency": "USD"},
        "amount": {"amount": "500", "currency": "USD"},
        "share": "0.824",
        "hourly": {"amount": "3.2", "currency": "USD"},
        "exhausted": NOW,
        "project": "vision",
    }


def test_people_get_two_lines() -> None:
    one = alert(stands("0.824", exhausted=NOW), Decimal("0.8"), "id", "vision")
    assert text(one) == (
        "Budget all of the project vision: 412.00 USD of 500.00 USD are spent (82.4%). "
        "It has reached 80% in the period 2026-11.\n"
        "3.20 USD an hour are spent now; the amount lasts until 2026-11-23T05:00:00.000Z."
    )
    assert json.loads(slack_body(one)) == {"text": text(one)}
    assert subject(one) == "budget all of vision: 82.4% spent"
    assert "lasts." in text(alert(stands("0.9"), Decimal("0.8"), "id", "vision"))
    assert text(alert(stands("1"), Decimal(1), "id", "vision")).endswith("the amount is spent.")


def test_a_test_says_that_it_is_one() -> None:
    one = alert(stands("0"), Decimal("0.8"), "id", "vision", test=True)
    assert text(one).startswith("This is a test")
    assert subject(one).startswith("Test: ")
