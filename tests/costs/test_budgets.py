"""How budgets stand, and whom they stop."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from spotweld.costs.budgets import Candidate, Standing, choose, period, standing
from spotweld.costs.ledger import ledger
from spotweld.costs.usage import Usage
from spotweld.project.nouns import Budget, Period
from spotweld.values.clocks import iso
from spotweld.values.money import Money
from spotweld.values.offers import CapacityType, Disk, Offer

DAY = datetime(2026, 3, 4, tzinfo=UTC).timestamp()
"""A Wednesday."""
HOUR = 3600.0
TEN = Budget("ten", Money(Decimal(10)), stop=Decimal("0.5"))


def usage(began: float, ended: float, run: str = "r", *, closed: bool = True, currency: str = "USD") -> Usage:
    price, list_price = Money(Decimal(1), currency), Money(Decimal(3), currency)
    offer = Offer("local", "local", "a", "machine", CapacityType.SPOT, price, "test")
    return Usage("p", run, 1, f"m-{run}", offer, list_price, began, ended, closed, 0.0, {})


@pytest.mark.parametrize(
    ("per", "since", "until"),
    [
        (Period.DAY, datetime(2026, 3, 4, tzinfo=UTC), datetime(2026, 3, 5, tzinfo=UTC)),
        (Period.WEEK, datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 9, tzinfo=UTC)),
        (Period.MONTH, datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)),
    ],
)
def test_periods_are_those_of_the_calendar(per: Period, since: datetime, until: datetime) -> None:
    for now in (DAY, DAY + 86399):
        assert period(per, now) == (since.timestamp(), until.timestamp())


def test_what_runs_counts_until_now_and_says_when_the_amount_is_spent() -> None:
    now = DAY + 6 * HOUR
    stands = standing(TEN, ledger([usage(DAY, now, closed=False), usage(DAY, DAY + HOUR, "over")]), now)
    assert (stands.spent, stands.share, stands.hourly) == (Money(Decimal(7)), Decimal("0.7"), Money(Decimal(1)))
    assert stands.exhausted == now + 3 * HOUR
    assert stands.broken
    assert not replace(stands, budget=replace(TEN, stop=None)).broken


def test_an_amount_that_lasts_longer_than_the_calendar_lasts() -> None:
    now = DAY + 6 * HOUR
    rows = ledger([usage(DAY, now, closed=False)])
    # At 1 an hour: 70 million hours are 7985 years.
    lasting, ending = (replace(TEN, amount=Money(Decimal(amount))) for amount in (80_000_000, 60_000_000))
    assert standing(lasting, rows, now).exhausted is None
    exhausted = standing(ending, rows, now).exhausted
    assert exhausted is not None
    assert iso(exhausted).startswith("8870-")


def test_a_disk_is_spent_by_the_hour_too() -> None:
    now = DAY + 6 * HOUR
    one = usage(DAY, now, closed=False)
    # A GiB at 744 for March's 744 hours: 1 an hour.
    disk = Disk(2**30, Money(Decimal(744)), "test")
    stands = standing(TEN, ledger([replace(one, offer=replace(one.offer, disk=disk))]), now)
    assert abs(stands.spent.amount - 12) < Decimal("1e-6")
    assert abs(stands.hourly.amount - 2) < Decimal("1e-6")


def test_only_the_time_inside_the_period_counts() -> None:
    daily = replace(TEN, per=Period.DAY)
    now = DAY + 2 * HOUR
    stands = standing(daily, ledger([usage(DAY - 5 * HOUR, now, closed=False)]), now)
    assert stands.spent == Money(Decimal(2))
    assert stands.exhausted == now + 8 * HOUR
    assert standing(daily, ledger([usage(DAY - 5 * HOUR, DAY - HOUR)]), now).spent == Money(Decimal(0))


def test_other_currencies_are_told_and_not_added() -> None:
    stands = standing(TEN, ledger([usage(DAY, DAY + HOUR, currency="EUR")]), DAY + HOUR)
    assert (stands.spent, stands.others) == (Money(Decimal(0)), (Money(Decimal(1), "EUR"),))


candidates = st.lists(
    st.builds(
        Candidate,
        st.uuids().map(str),
        st.floats(0, 1e9),
        st.integers(-3, 3),
        st.booleans(),
        st.booleans(),
    ),
    unique_by=lambda run: run.run,
)


def broken(at_most: int) -> Standing:
    now = DAY + 6 * HOUR
    return standing(replace(TEN, at_most=at_most), ledger([usage(DAY, now)]), now)


@given(candidates, st.integers(1, 4))
def test_the_least_important_stop_first_and_protected_ones_never(runs: list[Candidate], at_most: int) -> None:
    chosen = choose(broken(at_most), runs)
    known = {run.run: run for run in runs}
    free = [run for run in runs if not run.protected]
    assert len(chosen) == len(set(chosen)) == min(at_most, len(free))
    assert not any(known[run].protected for run in chosen)
    kept = [run for run in free if run.run not in chosen]
    assert all(known[a].priority <= b.priority for a in chosen for b in kept)
    for one in (known[a] for a in chosen):
        same = [b for b in kept if b.priority == one.priority]
        assert one.spot or not any(b.spot for b in same)
        assert all(one.opened >= b.opened for b in same if b.spot == one.spot)
    assert choose(broken(at_most), runs[::-1]) == chosen


def test_nobody_stops_while_the_budget_holds() -> None:
    assert choose(standing(TEN, [], DAY), [Candidate("r", 0.0)]) == []
