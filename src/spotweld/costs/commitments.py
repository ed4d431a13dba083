"""How many machines to commit to: a baseline that is paid whether it is used or not, and burst on spot above it.

A machine more in the baseline costs the committed price for all of the time, and spares the price of burst while the
load is above the machines before it. So it pays if the load is as high for more than a share ``committed / burst`` of
the time. As more machines are in the baseline the share can only fall: the first that does not pay is the last to be
looked at, and the choice is exact. It is the critical ratio of the newsvendor (Arrow, Harris and Marschak, "Optimal
Inventory Policy", Econometrica 19, 1951), with the load's own hours as the distribution of demand.
"""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import TYPE_CHECKING

import msgspec

from spotweld.costs.charges import EXACT
from spotweld.errors import UsageError
from spotweld.values.money import Money

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotweld.costs.loads import Span

_HOUR = 3600
_FINEST = Decimal("1e-9")
"""Amounts are rounded to this at the very end."""


class Prices(msgspec.Struct, frozen=True):
    """What a machine costs an hour, one way or another.

    Raises:
        UsageError: different currencies, or shares that cannot be.
    """

    on_demand: Money
    spot: Money
    committed: Money
    """Whether it is used or not."""
    loss: Decimal = Decimal(0)
    """The share of the work done on spot that is lost and has to be done again."""
    availability: Decimal = Decimal(1)
    """The share of the machine-hours above the baseline that spot can give; on-demand gives the rest."""

    def __post_init__(self) -> None:
        found = {self.on_demand.currency, self.spot.currency, self.committed.currency}
        if len(found) > 1:
            raise UsageError(
                "the prices are in different currencies", ", ".join(sorted(found)), "write all of them in one"
            )
        for what, share in (("loss", self.loss), ("availability", self.availability)):
            if not 0 <= share <= 1:
                raise UsageError(f"a {what} of {share} cannot be", "", "it is a share between 0 and 1")
        if self.loss == 1:
            raise UsageError("on spot that loses all work nothing is ever done", "", "a loss is below 1")

    @property
    def mixed(self) -> Fraction:
        """An hour of work on spot as far as there is any, else on demand."""
        share, spot = Fraction(self.availability), Fraction(self.spot.amount) / (1 - Fraction(self.loss))
        return share * spot + (1 - share) * Fraction(self.on_demand.amount)

    @property
    def burst(self) -> Fraction:
        """An hour of work above the baseline, the cheaper way: where spot loses too much it is on demand."""
        return min(self.mixed, Fraction(self.on_demand.amount))


class Alternative(msgspec.Struct, frozen=True):
    """A way to carry the load, and what it costs. Hours are machine-hours that are paid."""

    name: str
    machines: int
    """Committed to."""
    cost: Money
    committed_hours: float
    unused_hours: float
    """Of the committed ones."""
    spot_hours: float
    on_demand_hours: float


class Choice(msgspec.Struct, frozen=True):
    """How many machines to commit to."""

    machines: int
    break_even: float | None
    """A committed machine pays if it is in use for more than this share of the time; above 1: never. None: burst costs
    nothing, so that there is none."""
    last_used: float | None
    """The share of the time for which the last machine of the baseline is in use; None: there is none."""
    next_used: float
    """The same of the first machine above the baseline."""
    hours: float
    """How long the load lasts."""
    machine_hours: float
    alternatives: tuple[Alternative, ...]
    """The best first, then the pure ones."""


def choose(load: Sequence[Span], prices: Prices) -> Choice:
    """The number of machines to commit to for which the whole load costs least; of two that cost the same, the lower.

    Args:
        load: machines needed, one span after the other; their order does not matter.
        prices: of a machine-hour.

    Raises:
        UsageError: the load lasts no time.
    """
    hours: dict[int, Fraction] = defaultdict(Fraction)
    for span in load:
        hours[span.machines] += Fraction(span.seconds) / _HOUR
    whole = sum(hours.values(), Fraction(0))
    if not whole:
        raise UsageError("the load lasts no time", "", "give it at least one span, such as 8x24h")
    most = max(span.machines for span in load)
    committed = Fraction(prices.committed.amount)
    # Between two numbers of the load all machines are in use for the same time: one pays as the other does.
    best, used = 0, whole
    for machines in sorted(hours):
        if used * prices.burst <= committed * whole:
            break
        best, used = machines, used - hours[machines]
    spot_is_dearer = prices.mixed > prices.burst
    found = (
        _carried("baseline and burst", load, best, prices, on_demand=spot_is_dearer),
        _carried("all on-demand", load, 0, prices, on_demand=True),
        _carried("all spot", load, 0, prices, on_demand=False),
        _carried("all committed", load, most, prices, on_demand=False),
    )
    return Choice(
        machines=best,
        break_even=float(committed / prices.burst) if prices.burst else None,
        last_used=float(_above(load, best - 1) / whole) if best else None,
        next_used=float(_above(load, best) / whole),
        hours=float(whole),
        machine_hours=float(_beyond(load, 0)),
        alternatives=found,
    )


def _carried(name: str, load: Sequence[Span], machines: int, prices: Prices, *, on_demand: bool) -> Alternative:
    """The load with so many machines committed to, and burst on demand or, as far as there is any, on spot."""
    whole = sum((Fraction(span.seconds) for span in load), Fraction(0)) / _HOUR
    beyond = _beyond(load, machines)
    price = Fraction(prices.on_demand.amount) if on_demand else prices.mixed
    spot = Fraction(0) if on_demand else beyond * Fraction(prices.availability)
    return Alternative(
        name=name,
        machines=machines,
        cost=_money(machines * whole * Fraction(prices.committed.amount) + beyond * price, prices.committed.currency),
        committed_hours=float(machines * whole),
        unused_hours=float(machines * whole - (_beyond(load, 0) - beyond)),
        spot_hours=float(spot / (1 - Fraction(prices.loss))),
        on_demand_hours=float(beyond - spot),
    )


def _above(load: Sequence[Span], machines: int) -> Fraction:
    """Hours for which more than so many machines are needed."""
    return sum((Fraction(span.seconds) for span in load if span.machines > machines), Fraction(0)) / _HOUR


def _beyond(load: Sequence[Span], machines: int) -> Fraction:
    """Machine-hours that are needed above so many machines."""
    return sum((Fraction(span.seconds) * max(0, span.machines - machines) for span in load), Fraction(0)) / _HOUR


def _money(amount: Fraction, currency: str) -> Money:
    with localcontext(EXACT):
        exact = Decimal(amount.numerator) / Decimal(amount.denominator)
        return Money(exact.quantize(_FINEST).normalize(), currency)
