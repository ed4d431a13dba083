"""Money: an exact amount and its currency. Amounts are never floats: a ledger has to add up."""

from __future__ import annotations

import re
from decimal import Decimal

import msgspec

MONEY = r"([0-9]{1,12}(?:\.[0-9]{1,9})?) *([A-Z]{3})"
"""What an amount of money looks like, as a regular expression that JSON Schema understands too."""
_FORM = re.compile(MONEY)


class Money(msgspec.Struct, frozen=True, order=True):
    """An amount in one currency (ISO 4217). Adding two currencies is an error, not a guess."""

    amount: Decimal
    currency: str = "USD"

    def __add__(self, other: Money) -> Money:
        return Money(self.amount + self._same(other).amount, self.currency)

    def __sub__(self, other: Money) -> Money:
        return Money(self.amount - self._same(other).amount, self.currency)

    def __mul__(self, factor: Decimal | int) -> Money:
        return Money(self.amount * factor, self.currency)

    def __str__(self) -> str:
        return format_money(self)

    def _same(self, other: Money) -> Money:
        if other.currency != self.currency:
            msg = f"{self.currency} and {other.currency} do not add up"
            raise ValueError(msg)
        return other


def per_second(hourly: Money, seconds: float) -> Money:
    """What ``seconds`` cost at a price per hour, exact to the nanosecond."""
    return hourly * (Decimal(round(seconds * 1_000_000_000)) / Decimal(3_600_000_000_000))


def parse_money(text: str) -> Money:
    """``"12.50 USD"``.

    Raises:
        ValueError: no amount with a currency of three capital letters.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None:
        msg = f"not an amount of money: {text[:40]!r}; write an amount and a currency, such as 12.50 USD"
        raise ValueError(msg)
    return Money(Decimal(found[1]), found[2])


def format_money(money: Money) -> str:
    """``12.50 USD``; small amounts keep four digits that mean something: ``0.0003217 USD``."""
    amount = money.amount
    if amount and abs(amount) < Decimal("0.995"):
        places = max(4, 3 - amount.adjusted())
        return f"{amount:.{places}f} {money.currency}"
    return f"{amount:.2f} {money.currency}"
