"""The ledger adds up exactly, whatever it is given."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal, localcontext
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotweld.costs.focus import COLUMNS, plain, write_csv
from spotweld.costs.ledger import EXACT, UNIT, hours, ledger
from spotweld.costs.totals import total
from spotweld.costs.usage import Usage
from spotweld.values.money import Money
from spotweld.values.offers import CapacityType, Offer

START = 1_700_000_000.0


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
) -> Usage:
    offer = Offer("local", "here", "a", "small", capacity, Money(Decimal(price), currency), "spotweld.yaml")
    started = START + attempt * 5000
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
    )


usages = st.builds(
    lambda attempt, seconds, lost, price, firm, currency, capacity, closed: usage(
        attempt=attempt,
        seconds=seconds,
        lost=lost,
        price=str(price),
        firm=str(firm),
        currency=currency,
        capacity=capacity,
        closed=closed,
    ),
    st.integers(1, 6),
    st.floats(-100, 1e7),
    st.floats(-100, 1e7),
    st.decimals(0, 10**6, places=9),
    st.decimals(0, 10**6, places=9),
    st.sampled_from(["USD", "EUR"]),
    st.sampled_from(CapacityType),
    st.booleans(),
)


@given(usages)
def test_kept_and_lost_are_machine_time_times_price_exactly(one: Usage) -> None:
    rows = ledger([one])
    # Fractions know no rounding at all.
    machine_time = Fraction(hours(one.ended - one.started))
    assert sum(Fraction(row.pricing_quantity) for row in rows) == machine_time
    assert sum(Fraction(row.billed_cost) for row in rows) == machine_time * Fraction(one.offer.hourly.amount)
    assert sum(Fraction(row.work_kept) + Fraction(row.work_lost) for row in rows) == machine_time * 3600
    for row in rows:
        # The two equations that FOCUS demands.
        assert Fraction(row.list_cost) == Fraction(row.list_unit_price) * Fraction(row.pricing_quantity)
        assert Fraction(row.contracted_cost) == Fraction(row.contracted_unit_price) * Fraction(row.pricing_quantity)
        assert row.work_kept * row.work_lost == 0
        assert row.billed_cost >= 0
        assert row.charge_period_start <= row.charge_period_end


@given(usages)
def test_machine_time_is_what_the_clock_said_to_36_nanoseconds(one: Usage) -> None:
    spent = max(0.0, one.ended - one.started)
    assert abs(sum(row.pricing_quantity for row in ledger([one])) - Decimal(spent) / 3600) <= UNIT


@given(st.lists(usages, max_size=8), st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_matter(many: list[Usage], random: object) -> None:
    distinct = list({(u.attempt, u.closed, u.ended, u.lost_seconds): u for u in many}.values())
    again = distinct + distinct
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
    assert row["ChargePeriodStart"] == "2023-11-14T23:36:40Z"
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
    }


def test_csv_is_plain() -> None:
    file = io.StringIO(newline="")
    write_csv(ledger([usage(lost=900)]), file)
    header, kept, lost = csv.reader(io.StringIO(file.getvalue(), newline=""))
    assert tuple(header) == COLUMNS
    cells = dict(zip(header, kept, strict=True))
    assert cells["BilledCost"] == "0.225"
    assert cells["ConsumedQuantity"] == "2700"
    assert cells["ChargePeriodStart"] == "2023-11-14T23:36:40.000000Z"
    assert cells["ChargeClass"] == ""
    assert json.loads(cells["Tags"]) == {"owner": "a, b", "team": "vision"}
    assert dict(zip(header, lost, strict=True))["x_WorkLost"] == "900"


@pytest.mark.parametrize(("amount", "text"), [("1E+3", "1000"), ("0E-11", "0"), ("0.1200", "0.12"), ("100", "100")])
def test_amounts_have_no_exponent(amount: str, text: str) -> None:
    assert plain(Decimal(amount)) == text
