"""Money: exact, in one currency."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotweld.values.money import Money, format_money, parse_money, per_second

AMOUNTS = st.decimals(0, 10**12 - 1, places=9, allow_nan=False)


@pytest.mark.parametrize(
    ("text", "amount", "currency"),
    [
        ("12.50 USD", "12.50", "USD"),
        ("0.92EUR", "0.92", "EUR"),
        (" 3 GBP ", "3", "GBP"),
        ("0.000000001 USD", "1e-9", "USD"),
    ],
)
def test_what_people_write(text: str, amount: str, currency: str) -> None:
    assert parse_money(text) == Money(Decimal(amount), currency)


@pytest.mark.parametrize(
    "text",
    ["", "12.50", "USD", "12.50 usd", "$12", "-1 USD", "1e3 USD", "1,000 USD", "٣ USD", "1 USDX", "9" * 13 + " USD"],
)
def test_what_is_no_money(text: str) -> None:
    with pytest.raises(ValueError, match="not an amount"):
        parse_money(text)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("12.5", "12.50 USD"),
        ("0", "0.00 USD"),
        ("0.5", "0.5000 USD"),
        ("0.0003217", "0.0003217 USD"),
        ("-3", "-3.00 USD"),
    ],
)
def test_what_people_read(amount: str, text: str) -> None:
    assert format_money(Money(Decimal(amount))) == str(Money(Decimal(amount))) == text


@given(AMOUNTS, AMOUNTS, AMOUNTS)
def test_sums_are_exact_in_any_order(one: Decimal, two: Decimal, three: Decimal) -> None:
    a, b, c = Money(one), Money(two), Money(three)
    assert (a + b) + c == a + (b + c)
    assert a + b - b == a


@given(AMOUNTS)
def test_what_is_shown_is_within_half_a_unit_of_its_last_digit(amount: Decimal) -> None:
    shown = format_money(Money(amount))
    digits = len(shown.split()[0].partition(".")[2])
    assert abs(Decimal(shown.split()[0]) - amount) <= Decimal(5).scaleb(-digits - 1)
    if amount:
        assert Decimal(shown.split()[0])


@given(st.decimals(0, 10**12 - 1, places=2, allow_nan=False).filter(lambda amount: amount == 0 or amount >= 1))
def test_cents_are_read_back_exactly(amount: Decimal) -> None:
    assert parse_money(format_money(Money(amount))) == Money(amount)


def test_two_currencies_do_not_add_up() -> None:
    with pytest.raises(ValueError, match="do not add up"):
        Money(Decimal(1), "USD") + Money(Decimal(1), "EUR")


def test_a_price_per_hour_over_an_hour_is_the_price() -> None:
    assert per_second(Money(Decimal("3.06")), 3600).amount == Decimal("3.06")
    assert per_second(Money(Decimal("0.92")), 0).amount == 0
