"""Charge periods: a machine's time, cut where its price or its fate changes, and at every full hour of UTC.

Clouds list machine time by the hour, so a row of ours never spans two of theirs. Moments are whole microseconds, as the
ledger prints them: two periods of a machine never begin at the same one. Everything here is integers, so that cutting
never changes the sum.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from spotweld.costs.usage import Since

if TYPE_CHECKING:
    from spotweld.costs.usage import Usage

HOUR = 3_600_000_000
"""Microseconds."""


class Period(msgspec.Struct, frozen=True):
    """A stretch of a machine's time at one price, in one hour, kept or lost as a whole."""

    start: int
    """Microseconds since 1970 UTC."""
    end: int
    units: int
    """Its length in 1e-11 hours. Those of a machine add up to the units of its whole time."""
    price: Since
    lost: bool


def periods(usage: Usage) -> list[Period]:
    """Cut a machine's time, in order; at least one period.

    Clocks of different machines differ. A machine that ended before it started has used no time: its one period is
    empty. Lost time is never below zero nor above the machine's time.
    """
    start = microseconds(usage.started)
    end = max(start, microseconds(usage.ended))
    border = min(end, max(start, end - microseconds(usage.lost_seconds)))
    prices = _prices(usage)
    hours = range((start // HOUR + 1) * HOUR, end, HOUR)
    cuts = {start, border, end, *hours, *(at for at in prices if start < at < end)}
    found = []
    price = prices.pop(start)
    for begin, until in pairwise(sorted(cuts) if end > start else (start, end)):
        price = prices.get(begin, price)
        length = units(until - start) - units(begin - start)
        found.append(Period(begin, until, length, price, lost=border <= begin < until))
    return found


def microseconds(seconds: float) -> int:
    """The nearest whole microsecond."""
    return round(seconds * 1_000_000)


def units(length: int) -> int:
    """Microseconds in 1e-11 hours, to the nearest: a microsecond is 250/9 of them."""
    return (length * 250 + 4) // 9


def _prices(usage: Usage) -> dict[int, Since]:
    """What held from the start on, and from when what else: only where something changed."""
    offer = usage.offer
    start = microseconds(usage.started)
    held = Since(usage.started, offer.hourly, usage.on_demand_hourly, offer.price_source)
    found = {start: held}
    for change in sorted(usage.prices):
        if (change.hourly, change.on_demand_hourly) != (held.hourly, held.on_demand_hourly):
            held = change
            # What was noted before the machine began (clocks differ) is still later news than the offer.
            found[max(start, microseconds(change.at))] = held
    return found
