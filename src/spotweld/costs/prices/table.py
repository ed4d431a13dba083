"""A price table: what a machine of one type costs in one place, who said so, and when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

import msgspec

from spotweld.values.money import Money
from spotweld.values.recordings import region_of

if TYPE_CHECKING:
    from collections.abc import Iterable

OLD = timedelta(days=30)
"""A price that is older is marked: clouds change spot prices up to hourly (AWS) or daily (GCP, Azure)."""
_NEVER = datetime.min.replace(tzinfo=UTC)


class Price(msgspec.Struct, frozen=True):
    """What a machine costs per hour in one zone, or in a whole region. None: the source does not say it."""

    provider: str
    """``aws``, ``gcp``, ``azure``, ..."""
    region: str
    zone: str | None
    """None: the same in the whole region."""
    machine_type: str
    arch: str | None = None
    """``x86_64`` or ``arm64``."""
    vcpus: float | None = None
    memory: int | None = None
    """Bytes."""
    accelerator: str | None = None
    """``A100``, ``T4``, ...; as the source spells it."""
    accelerators: float | None = None
    """In one machine; some are sold in parts."""
    on_demand: Money | None = None
    spot: Money | None = None
    as_of: datetime | None = None
    """When the source said it, in UTC. None: nobody knows."""
    source: str = ""
    """A file, a list or an interface, such that a person can look the price up again."""

    @property
    def place(self) -> str:
        """The zone, or the region of a price that has none."""
        return self.zone or self.region

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What a price is of; two prices with one key are of different ages or sources."""
        return (self.provider, self.region, self.zone or "", self.machine_type)


def is_old(price: Price, now: datetime) -> bool:
    """Whether a price is older than ``OLD``, or of unknown age."""
    return price.as_of is None or now - price.as_of > OLD


def find(
    prices: Iterable[Price],
    *,
    provider: str | None = None,
    region: str | None = None,
    zone: str | None = None,
    machine_type: str | None = None,
    accelerator: str | None = None,
) -> list[Price]:
    """The prices that fit all that is said. A zone also gets the prices of its whole region."""
    return [
        price
        for price in prices
        if (provider is None or price.provider == provider)
        and (region is None or price.region == region)
        and (zone is None or price.zone == zone or (price.zone is None and price.region == region_of(zone)))
        and (machine_type is None or price.machine_type == machine_type)
        and (accelerator is None or (price.accelerator or "").casefold() == accelerator.casefold())
    ]


def newest(prices: Iterable[Price]) -> list[Price]:
    """Of each machine type in each place the newest price that says on-demand, and the newest that says spot.

    That is one price where one source says both, else two: what two sources say is never put into one price.
    """
    listed = list(prices)
    return list(dict.fromkeys([*newest_of(listed, "on_demand"), *newest_of(listed, "spot")]))


def newest_of(prices: Iterable[Price], what: Literal["on_demand", "spot"]) -> list[Price]:
    """Of each machine type in each place the newest price that says ``what``.

    A price without a date counts as older than any with one; of equally old ones the first is taken.
    """
    kept: dict[tuple[str, str, str, str], Price] = {}
    for price in prices:
        if getattr(price, what) is not None:
            known = kept.get(price.key)
            if known is None or (price.as_of or _NEVER) > (known.as_of or _NEVER):
                kept[price.key] = price
    return list(kept.values())


def by_name(prices: Iterable[Price]) -> list[Price]:
    """By provider, region, zone and machine type; of one machine the newest first."""
    return sorted(sorted(prices, key=lambda price: price.as_of or _NEVER, reverse=True), key=lambda price: price.key)


def cheapest(prices: Iterable[Price]) -> list[Price]:
    """The cheapest first, by the lower of the two prices. Currencies stay apart: they are not compared."""

    def lowest(price: Price) -> tuple[str, Money, tuple[str, str, str, str]]:
        least = min(one for one in (price.on_demand, price.spot) if one is not None)
        return (least.currency, least, price.key)

    return sorted((price for price in prices if price.on_demand or price.spot), key=lowest)


def cheapest_of(prices: Iterable[Price], what: Literal["on_demand", "spot"]) -> list[Price]:
    """Those that say ``what``, the cheapest first. Currencies stay apart."""

    def said(price: Price) -> tuple[str, Money]:
        money: Money = getattr(price, what)
        return (money.currency, money)

    return sorted((price for price in prices if getattr(price, what) is not None), key=said)
