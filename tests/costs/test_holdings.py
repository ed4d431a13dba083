"""What lies somewhere costs its size times its time, whatever it is cut into."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st
from tests.costs.test_charges import breaches

from spotweld.costs.holdings import Weighing, held
from spotweld.values.money import Money
from spotweld.values.sizes import GIB

if TYPE_CHECKING:
    from random import Random

NOVEMBER, DECEMBER, JANUARY = 1_698_796_800.0, 1_701_388_800.0, 1_704_067_200.0
"""2023 and 2024, UTC."""
DAY = 86400.0


def weighing(time: float, size: int, owner: str = "train-a", price: str = "0.023") -> Weighing:
    return Weighing(time, "s3://bucket", "store", owner, size, Money(Decimal(price)), "own", {"team": "vision"})


moments = st.floats(NOVEMBER, JANUARY - 1).map(round).map(float)
many = st.lists(st.builds(weighing, moments, st.integers(0, 10**13), st.sampled_from(["a", "b"])), max_size=8)


def quantity(weighings: list[Weighing], begin: float, end: float, now: float) -> Fraction:
    return sum((Fraction(row.pricing_quantity) for row in held(weighings, begin, end, now)), Fraction(0))


def area(weighings: list[Weighing], begin: float, until: float) -> Fraction:
    """GiB times seconds, second by second in effect: each weight until the next one of the same owner."""
    found = Fraction(0)
    for owner in {one.owner for one in weighings}:
        mine = sorted((one for one in weighings if one.owner == owner), key=lambda one: one.time)
        ends = [one.time for one in mine[1:]] + [until]
        for one, end in zip(mine, ends, strict=True):
            found += Fraction(one.size, GIB) * max(0, round(min(end, until) - max(one.time, begin)))
    return found


@given(many, moments)
def test_the_quantity_is_size_times_time(weighings: list[Weighing], now: float) -> None:
    # A month at a time, for a GiB and month is of that month.
    for begin, end in ((NOVEMBER, DECEMBER), (DECEMBER, JANUARY)):
        exact = area(weighings, begin, max(begin, min(end, now))) / round(end - begin)
        assert abs(quantity(weighings, begin, end, now) - exact) < Fraction(70 * 8, 10**11)


@given(many, moments, st.randoms(use_true_random=False))
def test_rows_are_of_one_day_have_keys_of_their_own_and_follow_focus(
    weighings: list[Weighing], now: float, random: Random
) -> None:
    rows = held(weighings, NOVEMBER, DECEMBER, now)
    assert len({row.key for row in rows}) == len(rows)
    assert all(row.charge_period_start.date() == row.charge_period_end.date() or
               row.charge_period_end.time().isoformat() == "00:00:00" for row in rows)  # fmt: skip
    assert all(row.estimated == (now < DECEMBER and row.charge_period_end.timestamp() == now) for row in rows)
    assert breaches(rows[:3]) == []
    if len({(one.owner, one.time) for one in weighings}) == len(weighings):
        random.shuffle(weighings)
        assert held(weighings, NOVEMBER, DECEMBER, now) == rows


def test_a_terabyte_for_ten_days_then_half_of_it_then_nothing() -> None:
    weighings = [
        weighing(NOVEMBER, 1024 * GIB),
        weighing(NOVEMBER + 10 * DAY, 512 * GIB),
        weighing(NOVEMBER + 20 * DAY, 0),
    ]
    rows = held(weighings, NOVEMBER, DECEMBER, JANUARY)
    assert len(rows) == 20
    cost = sum(row.billed_cost for row in rows)
    assert abs(cost - Decimal("0.023") * (1024 + 512) / 3) < Decimal("1e-8")
    assert {(row.run, row.availability_zone, row.machine_type, row.attempt) for row in rows} == {
        ("train-a", None, None, 0)
    }
    assert {row.provider_name for row in rows} == {"s3"}
    assert held(weighings, DECEMBER, JANUARY, JANUARY) == []
