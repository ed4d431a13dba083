"""What a software stack costs on many clusters: built on each, once into a machine image, or once into a binary cache.

All three are the same sum: what is paid once, for each cluster, and for each month that something is kept,

    builds * build time * price of the machine that builds
    + clusters * time until a head node has the stack * price of the head node
    + months * size * price of keeping it.

Without a build machine the first and the last part are nothing, and the second is the whole build on each head node.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from spotweld.costs.estimates import Amount, priced
from spotweld.costs.renewals import Range
from spotweld.errors import UsageError
from spotweld.values.money import Money


class Plant(msgspec.Struct, frozen=True):
    """The clusters, and the machine that builds for them."""

    clusters: int
    """That are made in the whole term."""
    months: Decimal
    head: Money
    """Of a head node's hour."""
    builder: Money
    """Of the build machine's hour."""
    builds: int = 1
    """Versions of the stack in the term; a cluster always takes the one of its day."""


class Way(msgspec.Struct, frozen=True):
    """One way to get the stack onto a cluster."""

    name: str
    building: Range | None
    """Seconds of the build machine for one version; None: there is none."""
    readying: Range
    """Seconds of a head node until it has the stack."""
    size: Decimal = Decimal(0)
    """GiB that are kept."""
    keeping: Money | None = None
    """Of a GiB and month; there if anything is kept."""


class Bill(msgspec.Struct, frozen=True):
    """What a way comes to."""

    name: str
    once: Amount
    """For all builds."""
    each: Amount
    """For each cluster, on its head node."""
    kept: Money
    """For all months."""
    total: Amount
    per_cluster: Amount
    """The total, shared by all clusters."""
    per_month: Amount


def bill(plant: Plant, way: Way) -> Bill:
    """What a way comes to over the whole term.

    Raises:
        UsageError: there is no cluster, no build or no time; or something is kept at no price.
        ValueError: prices in different currencies.
    """
    if plant.clusters < 1 or plant.builds < 1 or plant.months <= 0:
        raise UsageError("there is nothing to compare", "", "it takes a cluster, a build and a month at least")
    if way.size and way.keeping is None:
        raise UsageError(f"what {way.name} keeps has no price", "", "say what a GiB costs in a month")
    nothing = Money(Decimal(0), plant.head.currency)
    built = priced(plant.builder, way.building) if way.building else Amount(nothing, nothing, nothing)
    once, each = _times(built, Decimal(plant.builds)), priced(plant.head, way.readying)
    kept = way.keeping * (way.size * plant.months) if way.keeping is not None else nothing
    clusters = _times(each, Decimal(plant.clusters))
    total = Amount(*(one + other + kept for one, other in zip(_parts(once), _parts(clusters), strict=True)))
    shares = (_over(total, Decimal(plant.clusters)), _over(total, plant.months))
    return Bill(way.name, once, each, kept, total, *shares)


def _parts(amount: Amount) -> tuple[Money, Money, Money]:
    return amount.low, amount.expected, amount.high


def _times(amount: Amount, factor: Decimal) -> Amount:
    return Amount(*(one * factor for one in _parts(amount)))


_FINEST = Decimal("1e-9")


def _over(amount: Amount, number: Decimal) -> Amount:
    """Shares, rounded at the ninth place: a third has no end."""
    return Amount(*(Money((one.amount / number).quantize(_FINEST), one.currency) for one in _parts(amount)))
