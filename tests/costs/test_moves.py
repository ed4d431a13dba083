"""What moves between regions is charged by its size."""

from __future__ import annotations

from decimal import Decimal

from tests.costs.test_charges import breaches

from spotweld.costs.moves import Move, moved
from spotweld.costs.totals import total
from spotweld.values.money import Money
from spotweld.values.sizes import GIB


def move(time: float, size: int, attempt: int = 2) -> Move:
    price = Money(Decimal("0.02"))
    return Move("own", "r1", attempt, time, size, price, "aws", "us-east-1", "eu-west-1", {"team": "vision"})


def test_a_move_is_a_row_in_the_order_of_time() -> None:
    later, first = moved([move(2e9, 3 * GIB, 3), move(1e9, GIB // 2)])[::-1]
    assert first.charge_period_start < later.charge_period_start
    assert (first.billed_cost, later.billed_cost) == (Decimal("0.01"), Decimal("0.06"))
    assert (first.pricing_quantity, first.pricing_unit, first.region_id) == (Decimal("0.5"), "GiB", "us-east-1")
    assert first.resource_id == "us-east-1 to eu-west-1"
    assert breaches([first, later]) == []


def test_a_move_saves_nothing_and_takes_no_machine_time() -> None:
    (sum_,) = total(moved([move(1e9, GIB)]))
    assert sum_.savings == Money(Decimal("-0.02"))
    assert sum_.seconds == 0
    assert sum_.kept == sum_.billed


def test_no_moves_no_rows() -> None:
    assert moved([]) == []
