"""What providers charge, against their own tables."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.costs.test_ledger import usage, usages

from spotweld.costs.billing import free_until
from spotweld.costs.charges import UNIT
from spotweld.costs.ledger import cost, ledger
from spotweld.costs.totals import total
from spotweld.values.offers import CapacityType

if TYPE_CHECKING:
    from spotweld.costs.usage import Usage

FIRM = CapacityType.ON_DEMAND


def at(provider: str, seconds: float, *, capacity: CapacityType = CapacityType.SPOT, **changes: object) -> Usage:
    one = usage(seconds=seconds, capacity=capacity, price="3.60", firm="7.20")
    return replace(one, offer=replace(one.offer, provider=provider), **changes)  # type: ignore[arg-type]


def seconds(one: Usage) -> float:
    """What is charged for, at a price of a thousandth for each."""
    return round(float(cost(one).amount) * 1000, 6)


@pytest.mark.parametrize(
    ("provider", "lived", "charged"),
    [
        ("aws", 61, 61), ("aws", 60, 60), ("aws", 20, 60), ("aws", 0, 60), ("aws", -5, 60),
        ("gcp", 59.5, 60), ("gcp", 3601, 3601),
        ("azure", 20, 20), ("local", 20, 20), ("local", -5, 0), ("anybody", 1, 1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("capacity", CapacityType)
@pytest.mark.parametrize("closed", [True, False])
def test_least_times(provider: str, lived: float, charged: float, capacity: CapacityType, closed: bool) -> None:
    assert seconds(at(provider, lived, capacity=capacity, closed=closed)) == charged


@pytest.mark.parametrize(
    ("provider", "lived", "changes", "charged"),
    [
        ("aws", 3599, {"taken": True}, 0),
        ("aws", 20, {"taken": True}, 0),
        ("aws", 3600, {"taken": True}, 3600),
        ("aws", 9000, {"taken": True}, 9000),
        ("aws", 3599, {"taken": False}, 3599),
        ("aws", 3599, {"taken": True, "closed": False}, 3599),
        ("aws", 3599, {"taken": True, "capacity": FIRM}, 3599),
        ("gcp", 3599, {"taken": True}, 3599),
        ("azure", 3599, {"taken": True}, 3599),
        ("local", 3599, {"taken": True}, 3599),
        # Its other part may be what makes it longer than an hour, or a minute.
        ("aws", 3599, {"taken": True, "whole": False}, 3599),
        ("aws", 20, {"whole": False}, 20),
    ],
)
def test_who_ends_a_machine_in_its_first_hour(
    provider: str, lived: float, changes: dict[str, bool], charged: float
) -> None:
    assert seconds(at(provider, lived, **changes)) == charged  # type: ignore[arg-type]


def test_free_time_is_used_time_that_on_demand_would_have_charged_for() -> None:
    free = at("aws", 1800, taken=True, lost_seconds=900)
    kept, lost = ledger([free])
    assert (kept.billed_cost, kept.contracted_unit_price, kept.work_kept) == (0, 0, 900)
    assert (lost.billed_cost, lost.list_cost, lost.work_lost) == (0, Decimal("1.8"), 900)
    assert lost.charge_description.endswith("free, as the provider took the machine so early")
    (sums,) = total([kept, lost])
    assert sums.savings.amount == Decimal("1.8")


def test_what_a_least_time_adds_is_priced_and_not_consumed() -> None:
    kept, lost = ledger([at("aws", 20, lost_seconds=5)])
    assert [round(row.consumed_quantity, 6) for row in (kept, lost)] == [15, 5]
    assert [round(row.pricing_quantity * 3600, 6) for row in (kept, lost)] == [15, 45]
    assert lost.consumed_quantity == lost.work_lost


def test_until_when_a_machine_goes_free() -> None:
    assert free_until(at("aws", 1).offer, 100.0) == 3700.0
    assert free_until(at("aws", 1, capacity=FIRM).offer, 100.0) == 100.0
    assert free_until(at("local", 1).offer, 100.0) == 100.0


@given(usages, st.sampled_from(["aws", "gcp", "azure", "local"]), st.booleans(), st.booleans())
def test_rules_change_what_is_charged_and_never_what_was_used(
    one: Usage, provider: str, taken: bool, whole: bool
) -> None:
    billed = replace(one, offer=replace(one.offer, provider=provider), taken=taken, whole=whole)
    rows, plain = ledger([billed]), ledger([one])
    assert cost(billed).amount == sum(row.billed_cost for row in rows)
    assert [row.consumed_quantity for row in rows] == [row.consumed_quantity for row in plain]
    assert [(row.work_kept, row.work_lost) for row in rows] == [(row.work_kept, row.work_lost) for row in plain]
    free = not any(row.contracted_unit_price for row in rows)
    added = sum(row.pricing_quantity - before.pricing_quantity for row, before in zip(rows, plain, strict=True))
    assert 0 <= added <= 60 / Decimal(3600) + UNIT
    assert free or [row.contracted_unit_price for row in rows] == [row.contracted_unit_price for row in plain]
