"""What is told of a budget: which thresholds are reached, and the words for each kind of receiver. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from spotweld.project.nouns import Period
from spotweld.values.clocks import iso
from spotweld.values.money import Money, format_money

if TYPE_CHECKING:
    from collections.abc import Container

    from spotweld.costs.budgets import Standing

TEST = "test"
"""The period of an alert that is only a test."""

_NAMES = {Period.DAY: "%Y-%m-%d", Period.WEEK: "%G-W%V", Period.MONTH: "%Y-%m"}


class Alert(msgspec.Struct, frozen=True):
    """A budget has reached a threshold. Encoded as JSON, it is what a web hook gets."""

    id: str
    """The same in every delivery of this alert."""
    budget: str
    period: str
    """``2026-11-23``, ``2026-W48``, ``2026-11``, ``total``; or ``test``."""
    threshold: Decimal
    """The share of the amount that was reached."""
    spent: Money
    """When it was noticed, like all that follows."""
    amount: Money
    share: Decimal
    hourly: Money
    exhausted: float | None
    """When the amount is spent at that rate, seconds since 1970 UTC; None: it lasts."""
    project: str


def period_name(stands: Standing) -> str:
    """A name of the budget's present period, which no other period of it has."""
    if stands.since is None:
        return str(Period.TOTAL)
    return datetime.fromtimestamp(stands.since, UTC).strftime(_NAMES[stands.budget.per])


def reached(stands: Standing, told: Container[tuple[str, str, Decimal]]) -> list[Decimal]:
    """The thresholds that the budget has reached and that are not noted yet, the lowest first.

    Args:
        stands: the budget now.
        told: (budget, period, threshold) of those that are.
    """
    budget, name = stands.budget, period_name(stands)
    found = sorted({threshold for threshold in budget.alerts if stands.share >= threshold})
    return [threshold for threshold in found if (budget.name, name, threshold) not in told]


def alert(stands: Standing, threshold: Decimal, known: str, project: str, *, test: bool = False) -> Alert:
    """The alert about a threshold.

    Args:
        stands: the budget now.
        threshold: which.
        known: the alert's id.
        project: whose budget.
        test: it is only a test.
    """
    return Alert(
        id=known,
        budget=stands.budget.name,
        period=TEST if test else period_name(stands),
        threshold=threshold,
        spent=stands.spent,
        amount=stands.budget.amount,
        share=stands.share,
        hourly=stands.hourly,
        exhausted=stands.exhausted,
        project=project,
    )


def subject(one: Alert) -> str:
    """One line for people."""
    test = "Test: " if one.period == TEST else ""
    return f"{test}budget {one.budget} of {one.project}: {_percent(one.share)} spent"


def text(one: Alert) -> str:
    """All of it for people, in two lines."""
    spent, amount = format_money(one.spent), format_money(one.amount)
    first = f"Budget {one.budget} of the project {one.project}: {spent} of {amount} are spent ({_percent(one.share)})."
    if one.period == TEST:
        first = f"This is a test, nothing has happened. {first}"
    else:
        first += f" It has reached {_percent(one.threshold)} in the period {one.period}."
    return f"{first}\n{format_money(one.hourly)} an hour are spent now; {_until(one)}."


def json_body(one: Alert) -> bytes:
    """What a web hook gets."""
    return msgspec.json.encode(one)


def slack_body(one: Alert) -> bytes:
    """What an incoming web hook of Slack takes (https://api.slack.com/messaging/webhooks)."""
    shape: dict[str, Any] = {"text": text(one)}
    return msgspec.json.encode(shape)


def _until(one: Alert) -> str:
    if one.share >= 1:
        return "the amount is spent"
    return "at that rate the amount lasts" if one.exhausted is None else f"the amount lasts until {iso(one.exhausted)}"


def _percent(share: Decimal) -> str:
    return f"{(share * 100).quantize(Decimal('0.1')).normalize():f}%"
