"""How a budget stands, and which runs are stopped when it breaks: pure, on rows of the ledger."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING

import msgspec

from spotweld.costs.charges import EXACT, UNIT
from spotweld.project.nouns import Budget, Period
from spotweld.values.money import Money

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from spotweld.costs.focus import Row

# No calendar goes further, and so no moment after it can be written.
_LAST = datetime.max.replace(tzinfo=UTC).timestamp()


class Standing(msgspec.Struct, frozen=True):
    """A budget at one moment."""

    budget: Budget
    since: float | None
    """When its period began, seconds since 1970 UTC; None: it has no beginning."""
    until: float | None
    """When its period ends."""
    spent: Money
    """In this period, machines that still run counted until now."""
    share: Decimal
    """Of the amount; 1 is all of it."""
    hourly: Money
    """What is spent in an hour now."""
    exhausted: float | None
    """When the amount is spent at that rate, within the period; now or before: it is; None: it will last, which is
    also said of what lasts beyond the year 9999."""
    others: tuple[Money, ...] = ()
    """Spent in other currencies, which nobody adds up: not in ``spent``."""

    @property
    def broken(self) -> bool:
        """Whether runs are to be stopped."""
        return self.budget.stop is not None and self.share >= self.budget.stop

    @property
    def left(self) -> Money:
        """Of the amount; below 0: it is overshot."""
        with localcontext(EXACT):
            return self.budget.amount - self.spent

    @property
    def overshoot(self) -> Money | None:
        """Spent beyond the amount; None: nothing is."""
        with localcontext(EXACT):
            return self.left * -1 if self.left.amount < 0 else None

    @property
    def overshoot_share(self) -> Decimal | None:
        """The overshoot as a share of the amount."""
        with localcontext(EXACT):
            return None if self.overshoot is None else self.overshoot.amount / self.budget.amount.amount


class Candidate(msgspec.Struct, frozen=True):
    """A run that goes on, as far as a budget is concerned."""

    run: str
    opened: float
    priority: int = 0
    protected: bool = False
    spot: bool = True
    """Whether it is on spot, or on nothing at all."""


def period(per: Period, now: float) -> tuple[float | None, float | None]:
    """When the period around ``now`` began and when it ends: calendar days, weeks from Monday, and months, in UTC."""
    day = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    match per:
        case Period.DAY:
            since, until = day, day + timedelta(days=1)
        case Period.WEEK:
            since = day - timedelta(days=day.weekday())
            until = since + timedelta(days=7)
        case Period.MONTH:
            since = day.replace(day=1)
            until = (since + timedelta(days=32)).replace(day=1)
        case Period.TOTAL:
            return None, None
    return since.timestamp(), until.timestamp()


def standing(budget: Budget, rows: Iterable[Row], now: float, settled: Iterable[Money] = ()) -> Standing:
    """What of a budget is spent.

    A row that lies across the border of the period counts with its time inside. The order of rows does not matter.

    Args:
        budget: which.
        rows: those that it covers, and no others; those of machines that still run reach until ``now``.
        now: seconds since 1970 UTC.
        settled: what was spent in the period besides: the sums of rows that do not change any more.
    """
    since, until = period(budget.per, now)
    spent: dict[str, Decimal] = {}
    running: dict[tuple[str, int, str], Row] = {}
    with localcontext(EXACT):
        for money in settled:
            spent[money.currency] = spent.get(money.currency, Decimal(0)) + money.amount
        for row in rows:
            spent[row.billing_currency] = spent.get(row.billing_currency, Decimal(0)) + within(row, since, until)
            machine = row.run, row.attempt, row.resource_id
            # A machine may have several rows; what it costs now is said by the last.
            if row.estimated and (
                machine not in running or row.charge_period_end >= running[machine].charge_period_end
            ):
                running[machine] = row
        amount, currency = budget.amount.amount, budget.amount.currency
        ours = spent.pop(currency, Decimal(0))
        rates = (_rate(row) for row in running.values() if row.billing_currency == currency)
        hourly = sum(rates, Decimal(0))
        share = ours / amount
    exhausted = None
    if ours >= amount:
        exhausted = now
    elif hourly:
        exhausted = now + float((amount - ours) / hourly) * 3600
        exhausted = exhausted if exhausted < (_LAST if until is None else until) else None
    others = tuple(Money(spent[name], name) for name in sorted(spent) if spent[name])
    return Standing(budget, since, until, Money(ours, currency), share, Money(hourly, currency), exhausted, others)


def choose(stands: Standing, runs: Sequence[Candidate]) -> list[str]:
    """The runs to stop in one round, in order; none while the budget holds.

    The lowest priority first; of the same priority those on spot before those on demand, and of these the newest
    first, which loses least. Protected runs are never stopped.
    """
    return first_to_stop(stands.budget, runs) if stands.broken else []


def first_to_stop(budget: Budget, runs: Sequence[Candidate]) -> list[str]:
    """The runs of one round of a broken budget, in the order that ``choose`` describes."""
    may = [run for run in runs if not run.protected]
    may.sort(key=lambda run: (run.priority, not run.spot, -run.opened, run.run))
    return [run.run for run in may[: budget.at_most]]


def within(row: Row, since: float | None, until: float | None) -> Decimal:
    """What of a row was spent between two moments (seconds since 1970; None: no border). Exact inside ``EXACT``."""
    start, end = row.charge_period_start.timestamp(), row.charge_period_end.timestamp()
    first = start if since is None else max(start, since)
    last = end if until is None else min(end, until)
    if (first, last) == (start, end):
        return row.billed_cost
    inside = max(Decimal(0), (Decimal(last - first) / 3600).quantize(UNIT))
    return inside * _rate(row)


def _rate(row: Row) -> Decimal:
    """What it costs in an hour."""
    if row.pricing_unit == "Hours":
        return row.contracted_unit_price
    hours = Decimal((row.charge_period_end - row.charge_period_start) / timedelta(hours=1))
    return (row.billed_cost / hours).quantize(UNIT) if hours else Decimal(0)
