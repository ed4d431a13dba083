"""The ledger adds up exactly, whatever it is given."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from spotweld.costs.charges import EXACT, UNIT
from spotweld.costs.focus import COLUMNS, plain, write_csv
from spotweld.costs.ledger import ledger
from spotweld.costs.totals import total
from spotweld.costs.usage import Since, Usage
from spotweld.values.money import Money
from spotweld.values.offers import CapacityType, Offer

if TYPE_CHECKING:
    from spotweld.costs.focus import Row

START = 1_699_999_200.0
"""A full hour."""


def usage(
    *,
    attempt: int = 1,
    seconds: float = 3600.0,
    lost: float = 0.0,
    price: str = "0.30",
    firm: str = "1.00",
    currency: str = "USD",
    capacity: CapacityType = CapacityType.SPOT,
    closed: bool = True,
    run: str = "r1",
    prices: tuple[Since, ...] = (),
    at: float = 0.0,
) -> Usage:
    offer = Offer("local", "here", "a", "small", capacity, Money(Decimal(price), currency), "spotweld.yaml")
    started = START + (attempt - 1) * 7200 + at
    return Usage(
        project="digits",
        run=run,
        attempt=attempt,
        machine=f"m{attempt}",
        offer=offer,
        on_demand_hourly=Money(Decimal(firm), currency),
        started=started,
        ended=started + seconds,
        closed=closed,
        lost_seconds=lost,
        labels={"team": "vision", "owner": "a, b"},
        prices=prices,
    )


def since(at: float, price: str, firm: str = "1.00", currency: str = "USD") -> Since:
    return Since(at, Money(Decimal(price), currency), Money(Decimal(firm), currency), "market")


def units(seconds: float) -> int:
    """Time in 1e-11 hours, from whole microseconds; by fractions, which know no rounding on the way."""
    return round(Fraction(round(seconds * 1_000_000), 3_600_000_000) * 10**11)


def time(row: Row) -> tuple[int, int]:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    start, end = row.charge_period_start - epoch, row.charge_period_end - epoch
    return start // timedelta(microseconds=1), end // timedelta(microseconds=1)


HOUR = 3_600_000_000
amounts = st.decimals(0, 10**6, places=9).map(str)
seconds = st.one_of(st.floats(-100, 1e5), st.integers(-100, 10**5), st.floats(-1e-5, 1e-4))
"""What a machine may have lived: up to a day and a bit, and a few microseconds."""


@st.composite
def _usages(draw: st.DrawFn) -> Usage:
    currency, attempt = draw(st.sampled_from(["USD", "EUR"])), draw(st.integers(1, 6))
    changes = draw(st.lists(st.tuples(seconds, amounts, amounts), max_size=4))
    at = draw(seconds)
    begun = START + (attempt - 1) * 7200 + at
    return usage(
        attempt=attempt,
        seconds=draw(seconds),
        lost=draw(seconds),
        price=draw(amounts),
        firm=draw(amounts),
        currency=currency,
        capacity=draw(st.sampled_from(CapacityType)),
        closed=draw(st.booleans()),
        prices=tuple(since(begun + after, price, firm, currency) for after, price, firm in changes),
        at=at,
    )


usages = _usages()


@given(usages)
def test_cutting_never_changes_the_sum(one: Usage) -> None:
    rows = ledger([one])
    length = max(0, round(one.ended * 1e6) - round(one.started * 1e6))
    whole = Fraction(units(length / 10**6))
    with localcontext(EXACT):
        # To the last digit, whatever it was cut into.
        assert sum(row.pricing_quantity for row in rows) == Decimal(int(whole)) * UNIT
        assert sum(row.work_kept + row.work_lost for row in rows) == Decimal(int(whole)) * UNIT * 3600
        lost = min(length, max(0, round(one.lost_seconds * 1e6)))
        # Two roundings meet at the border: that of where it is and that of the end.
        assert abs(sum(row.work_lost for row in rows) / 3600 - units(lost / 10**6) * UNIT) <= UNIT
    for row in rows:
        # The two equations that FOCUS demands.
        assert Fraction(row.list_cost) == Fraction(row.list_unit_price) * Fraction(row.pricing_quantity)
        assert Fraction(row.contracted_cost) == Fraction(row.contracted_unit_price) * Fraction(row.pricing_quantity)
        assert row.billed_cost == row.effective_cost == row.contracted_cost >= 0
        assert row.work_kept * row.work_lost == 0


@given(usages)
def test_rows_follow_each_other_without_a_gap_and_none_spans_two_hours(one: Usage) -> None:
    rows = ledger([one])
    times = [time(row) for row in rows]
    assert times[0][0] == round(one.started * 1e6)
    assert times[-1][1] == max(times[0][0], round(one.ended * 1e6))
    assert all(earlier[1] == later[0] for earlier, later in pairwise(times))
    assert all(start < end <= (start // HOUR + 1) * HOUR for start, end in times) or len(times) == 1
    # Kept first, then lost.
    assert [row.lost for row in rows] == sorted(row.lost for row in rows)
    for row, (start, end) in zip(rows, times, strict=True):
        assert abs(row.pricing_quantity - (end - start) / Decimal(HOUR)) <= UNIT


@given(usages)
def test_every_row_is_at_the_price_that_held_all_through_it(one: Usage) -> None:
    for row in ledger([one]):
        for moment in time(row)[0], max(time(row)[0], time(row)[1] - 1):
            before = [change for change in one.prices if round(change.at * 1e6) <= moment]
            held = max(before, default=since(0, str(one.offer.hourly.amount), str(one.on_demand_hourly.amount)))
            assert (row.contracted_unit_price, row.list_unit_price) == (
                held.hourly.amount,
                held.on_demand_hourly.amount,
            )


@given(st.lists(usages, max_size=8))
def test_keys_are_unique_and_do_not_change_when_a_machine_runs_on(many: list[Usage]) -> None:
    rows = ledger(many)
    assert len({row.key for row in rows}) == len(rows)
    for one in ledger(many), ledger(reversed(many)):
        assert [row.key for row in one] == [row.key for row in rows]


@given(usages, st.floats(0, 1e5))
def test_rows_of_the_hours_that_are_over_stay_as_they_are(one: Usage, more: float) -> None:
    early = replace(one, closed=False, lost_seconds=0.0)
    late = replace(early, ended=early.ended + more)
    before, after = ledger([early]), ledger([late])
    # All but the last, which grows.
    assert after[: len(before) - 1] == before[:-1]


@given(st.lists(usages, max_size=8), st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_matter(many: list[Usage], random: object) -> None:
    distinct = list({(u.attempt, u.closed, u.ended, u.lost_seconds): u for u in many}.values())
    again = distinct + [replace(u, prices=(*u.prices[::-1], *u.prices)) for u in distinct]
    random.shuffle(again)
    assert ledger(again) == ledger(distinct)


@given(st.lists(usages, max_size=8))
def test_totals_add_up_and_never_mix_currencies(many: list[Usage]) -> None:
    rows = ledger(many)
    totals = total(rows)
    assert [t.billed.currency for t in totals] == sorted({row.billing_currency for row in rows})
    with localcontext(EXACT):
        for t in totals:
            assert t.kept + t.lost == t.billed
            assert t.savings == t.on_demand - t.billed
            assert t.spot <= t.kept
        assert sum(t.seconds for t in totals) == sum(row.consumed_quantity for row in rows)


@given(st.lists(usages, max_size=4))
def test_csv_holds_every_figure(many: list[Usage]) -> None:
    rows = ledger(many)
    file = io.StringIO(newline="")
    write_csv(rows, file)
    lines = list(csv.DictReader(io.StringIO(file.getvalue(), newline="")))
    assert [Decimal(line["BilledCost"]) for line in lines] == [row.billed_cost for row in rows]
    assert [line["x_Estimated"] for line in lines] == [str(row.estimated).lower() for row in rows]
    assert not any("E" in line["BilledCost"] for line in lines)


def test_one_interrupted_hour() -> None:
    kept, lost = ledger([usage(lost=900)])
    assert (kept.billed_cost, lost.billed_cost) == (Decimal("0.225"), Decimal("0.075"))
    assert (kept.work_kept, kept.work_lost, lost.work_kept, lost.work_lost) == (2700, 0, 0, 900)
    assert kept.charge_period_end == lost.charge_period_start
    assert kept.machine_type == "small"
    assert kept.pricing_category == "Dynamic"
    assert lost.charge_description == "small spot in a: work that was lost and done again"
    assert lost.list_cost == Decimal("0.25")


def test_on_demand_is_standard() -> None:
    (row,) = ledger([usage(price="1", capacity=CapacityType.ON_DEMAND)])
    assert (row.pricing_category, row.sku_id) == ("Standard", "small/on-demand")


def test_savings_are_net_of_lost_work() -> None:
    (sums,) = total(ledger([usage(lost=900)]))
    assert sums.on_demand == Money(Decimal("0.75"))
    assert sums.savings == Money(Decimal("0.45"))
    assert sums.saved_share == pytest.approx(0.6)
    assert sums.lost_seconds == 900


def test_interruptions_can_eat_the_discount_up() -> None:
    (sums,) = total(ledger([usage(lost=3500, price="0.90")]))
    assert sums.savings.amount < 0


def test_free_machines_have_no_share_to_save() -> None:
    (sums,) = total(ledger([usage(price="0", firm="0")]))
    assert sums.saved_share is None


def test_a_machine_that_runs_on_is_charged_by_the_hour_and_by_the_price() -> None:
    rows = ledger([usage(seconds=7200, at=1800, lost=300, prices=(since(START + 4000, "0.40"),))])
    times = [f"{row.charge_period_start:%H:%M:%S}" for row in rows]
    assert times == ["22:30:00", "23:00:00", "23:06:40", "00:00:00", "00:25:00"]
    assert [round(row.consumed_quantity) for row in rows] == [1800, 400, 3200, 1500, 300]
    assert [str(row.contracted_unit_price) for row in rows] == ["0.30", "0.30", "0.40", "0.40", "0.40"]
    assert [row.price_source for row in rows] == ["spotweld.yaml"] * 2 + ["market"] * 3
    assert [row.lost for row in rows] == [False] * 4 + [True]


def test_the_same_price_again_is_no_change() -> None:
    assert len(ledger([usage(prices=(since(START + 60, "0.30"), since(START + 90, "0.30")))])) == 1


def test_a_row_belongs_to_the_month_in_which_it_began() -> None:
    # Half an hour before December begins, and an hour and a half long.
    rows = ledger([usage(at=1_701_387_000.0 - START, seconds=5400)])
    assert [row.billing_period_start.month for row in rows] == [11, 12]
    assert rows[0].billing_period_end == rows[1].billing_period_start == rows[1].charge_period_start


def test_everything_lost_is_one_row() -> None:
    (row,) = ledger([usage(lost=1e9)])
    assert (row.lost, row.work_lost) == (True, 3600)


def test_a_machine_that_ended_before_it_started_used_no_time_and_stays_visible() -> None:
    (row,) = ledger([usage(seconds=-40, lost=10)])
    assert (row.billed_cost, row.consumed_quantity, row.lost) == (0, 0, False)
    assert row.charge_period_start == row.charge_period_end


def test_the_last_word_on_a_machine_counts() -> None:
    early, late, closed = usage(closed=False, seconds=60), usage(closed=False, seconds=900), usage(seconds=700)
    assert ledger([late, early]) == ledger([late])
    assert ledger([late, closed, early]) == ledger([closed])
    assert ledger([late])[0].estimated
    assert total(ledger([late]))[0].estimated


def test_no_usage_no_rows() -> None:
    assert ledger([]) == []
    assert total([]) == ()


def test_two_currencies_in_one_comparison_are_an_error() -> None:
    one = msgspec.structs.replace(usage(), on_demand_hourly=Money(Decimal(1), "EUR"))
    with pytest.raises(ValueError, match="do not add up"):
        ledger([one])


def test_a_row_encodes_under_focus_names() -> None:
    row = json.loads(msgspec.json.encode(ledger([usage()])[0]))
    assert tuple(row) == COLUMNS
    assert Decimal(row["BilledCost"]) == Decimal("0.3")
    assert row["ChargePeriodStart"] == "2023-11-14T22:00:00Z"
    assert row["BillingPeriodStart"] == "2023-11-01T00:00:00Z"
    assert row["BillingPeriodEnd"] == "2023-12-01T00:00:00Z"
    assert row["ChargeClass"] is None
    assert row["x_WorkKept"] == "3600.00000000000"
    assert {c for c in COLUMNS if c.startswith("x_")} == {
        "x_Run",
        "x_Attempt",
        "x_WorkKept",
        "x_WorkLost",
        "x_PriceSource",
        "x_Estimated",
        "x_MachineType",
    }


def test_csv_is_plain() -> None:
    file = io.StringIO(newline="")
    write_csv(ledger([usage(lost=900)]), file)
    header, kept, lost = csv.reader(io.StringIO(file.getvalue(), newline=""))
    assert tuple(header) == COLUMNS
    cells = dict(zip(header, kept, strict=True))
    assert cells["BilledCost"] == "0.225"
    assert cells["ConsumedQuantity"] == "2700"
    assert cells["ChargePeriodStart"] == "2023-11-14T22:00:00.000000Z"
    assert cells["ChargeClass"] == ""
    assert json.loads(cells["Tags"]) == {"owner": "a, b", "team": "vision"}
    assert dict(zip(header, lost, strict=True))["x_WorkLost"] == "900"


@pytest.mark.parametrize(("amount", "text"), [("1E+3", "1000"), ("0E-11", "0"), ("0.1200", "0.12"), ("100", "100")])
def test_amounts_have_no_exponent(amount: str, text: str) -> None:
    assert plain(Decimal(amount)) == text
