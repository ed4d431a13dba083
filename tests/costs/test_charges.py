"""What is no machine is charged as exactly as machines are."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.costs.test_ledger import usage, usages

from spotweld.costs.charges import EXACT, gib, gib_months
from spotweld.costs.focus import write_csv
from spotweld.costs.ledger import cost, ledger
from spotweld.costs.totals import total
from spotweld.costs.validating import validate_csv
from spotweld.values.money import Money
from spotweld.values.offers import Disk
from spotweld.values.sizes import GIB

if TYPE_CHECKING:
    from spotweld.costs.focus import Row
    from spotweld.costs.usage import Usage

NOVEMBER = round(datetime(2023, 11, 1, tzinfo=UTC).timestamp()) * 1_000_000
MONTH = 30 * 86_400_000_000
DISK = Disk(100 * GIB, Money(Decimal("0.08")), "spotweld.yaml")


def with_disk(one: Usage, disk: Disk = DISK) -> Usage:
    disk = replace(disk, monthly=Money(disk.monthly.amount, one.offer.hourly.currency))
    return replace(one, offer=replace(one.offer, disk=disk))


def breaches(rows: list[Row]) -> list[str]:
    text = io.StringIO(newline="")
    write_csv(rows, text)
    text.seek(0)
    return [str(one) for one in validate_csv(text)]


@given(st.integers(0, 10**15), st.lists(st.integers(0, MONTH), min_size=2, max_size=6))
def test_a_while_within_a_month_can_be_cut_anywhere(size: int, cuts: list[int]) -> None:
    moments = [NOVEMBER + cut for cut in sorted(cuts)]
    parts = [gib_months(size, a, b) for a, b in pairwise(moments)]
    assert sum(parts) == gib_months(size, moments[0], moments[-1])
    exact = Fraction(size * (moments[-1] - moments[0]), GIB * MONTH) * 10**11
    assert abs(sum(parts) - exact) <= 1


def test_a_gib_for_a_month_is_one_however_long_the_month() -> None:
    assert gib_months(GIB, NOVEMBER, NOVEMBER + MONTH) == 10**11
    february = round(datetime(2024, 2, 1, tzinfo=UTC).timestamp()) * 1_000_000
    assert gib_months(GIB, february, february + 29 * 86_400_000_000) == 10**11


@given(st.integers(0, 10**15))
def test_bytes_are_known_to_a_hundredth_of_one(size: int) -> None:
    assert abs(Fraction(gib(size), 10**11) - Fraction(size, GIB)) <= Fraction(1, 2 * 10**11)


@given(usages)
def test_a_disk_is_there_as_long_as_its_machine_and_shares_its_fate(one: Usage) -> None:
    rows = ledger([with_disk(one)])
    machines = [row for row in rows if row.resource_type == "Machine"]
    disks = [row for row in rows if row.resource_type == "Disk"]
    assert machines == ledger([one])
    assert [(row.charge_period_start, row.charge_period_end, row.lost) for row in disks] == [
        (row.charge_period_start, row.charge_period_end, row.lost) for row in machines
    ]
    assert len({row.key for row in rows}) == len(rows)
    with localcontext(EXACT):
        assert cost(with_disk(one)).amount == sum((row.billed_cost for row in rows), Decimal(0))


@given(usages)
def test_a_disk_adds_no_machine_time_and_kept_and_lost_are_all(one: Usage) -> None:
    (plain,), (whole,) = total(ledger([one])), total(ledger([with_disk(one)]))
    assert (whole.seconds, whole.lost_seconds) == (plain.seconds, plain.lost_seconds)
    with localcontext(EXACT):
        assert whole.kept + whole.lost == whole.billed
        # What it costs beside a spot machine it would cost beside one on demand: nothing is saved on a disk.
        assert whole.savings + whole.lost == plain.savings + plain.lost


def test_a_disk_for_half_an_hour() -> None:
    (row,) = [row for row in ledger([with_disk(usage(seconds=1800))]) if row.resource_type == "Disk"]
    # 100 GiB x 0.5 h of November's 720 h, at 0.08; to 1e-11 of a GiB and month.
    assert row.pricing_quantity == Decimal("0.06944444445")
    assert row.billed_cost == Decimal("0.0055555555560")
    assert (row.pricing_unit, row.service_category, row.resource_id) == ("GiB-Months", "Storage", "m1/disk")
    assert breaches([row]) == []


def test_a_disk_is_charged_where_its_machine_is_free() -> None:
    taken = replace(with_disk(usage(seconds=600)), taken=True)
    taken = replace(taken, offer=replace(taken.offer, provider="aws"))
    machine, disk = ledger([taken])
    assert machine.billed_cost == 0
    assert disk.billed_cost > 0
    assert cost(taken).amount == disk.billed_cost
