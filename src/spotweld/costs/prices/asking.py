"""What is known of prices on this machine, and the answer to one question: what does this machine cost there?"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import msgspec

from spotweld.costs.prices.gathering import Reading
from spotweld.costs.prices.ours import shipped, write_ours
from spotweld.costs.prices.reading import read_prices
from spotweld.costs.prices.table import Price, cheapest_of, find, newest_of
from spotweld.errors import UsageError
from spotweld.values.homes import own_folder
from spotweld.values.recordings import region_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from pathlib import Path

_PARTS = ("arch", "vcpus", "memory", "accelerator", "accelerators")


class Answer(msgspec.Struct, frozen=True):
    """What a machine costs. Each price keeps its own source and age. None: unknown."""

    on_demand: Price | None
    spot: Price | None


def price_folder(environ: Mapping[str, str]) -> Path:
    """Where the user's own price lists are kept, by the XDG base directory specification."""
    return own_folder(environ, "XDG_DATA_HOME", ".local/share") / "spotweld" / "prices"


def known_prices(folder: Path, now: datetime) -> Reading:
    """The user's own price lists, and after them the table that comes with Spotweld.

    Raises:
        UsageError: a list that was kept cannot be read.
    """
    found = Reading()
    for path in sorted((*folder.glob("*.csv"), *folder.glob("*.json"))):
        found += read_prices(path, now)
    found += shipped(now)
    return Reading(tuple(described(found.prices)), found.refused)


def described(prices: Iterable[Price]) -> list[Price]:
    """The prices, with what is in each machine where another price of its type says so.

    What clouds answer about prices names the machine type only. What is in it is no matter of the price or the place.
    """
    known: dict[tuple[str, str, str], object] = {}
    listed = list(prices)
    for price in listed:
        for part in _PARTS:
            if getattr(price, part) is not None:
                known.setdefault((price.provider, price.machine_type, part), getattr(price, part))
    return [
        msgspec.structs.replace(
            price, **{part: known.get((price.provider, price.machine_type, part)) for part in _PARTS}
        )
        if price.vcpus is None
        else price
        for price in listed
    ]


def keep_prices(prices: Iterable[Price], folder: Path, name: str) -> Path:
    """Keep prices as the user's own list ``name``, in place of what was kept under that name."""
    return keep_list(write_ours(prices), folder, f"{name}.csv")


def name_of(reading: Reading, path: Path) -> str:
    """What a price list is kept as: ``aws-vms`` for a file ``vms.csv`` with prices of AWS."""
    providers = sorted({price.provider for price in reading.prices})
    return re.sub("[^A-Za-z0-9._-]", "_", "-".join((*providers[:3], path.stem)))


def keep_list(content: bytes, folder: Path, name: str) -> Path:
    """Keep a price list as it is, in place of what was kept under that name. Whole, or not at all.

    Raises:
        UsageError: it cannot be written, or is named as no file there can be.
    """
    if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]{0,200}", name):
        raise UsageError("a price list cannot be kept", f"no name of a list: {name[:80]}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f"{name}.part"
        partial.write_bytes(content)
        return partial.replace(folder / name)
    except OSError as error:
        raise UsageError(f"the price list {folder / name} cannot be written", str(error.strerror)) from error


def ask(
    prices: Iterable[Price],
    machine_type: str,
    *,
    provider: str | None = None,
    region: str | None = None,
    zone: str | None = None,
) -> Answer:
    """The on-demand and the spot price of a machine type in a zone or a region: the newest that is known.

    A zone's own price comes before its region's. An on-demand price of any zone holds in the whole region, as all
    clouds sell it; a spot price does not, so that of a zone is answered only if the zone was asked for, or as the
    cheapest of the region if a region was.

    Args:
        prices: all that is known; of equally old ones the first is taken.
        machine_type: as the provider spells it.
        provider: None: any, for machine types are named differently everywhere.
        region: where.
        zone: where exactly; its region need not be said.

    Raises:
        ValueError: neither a region nor a zone is said.
    """
    if region is None and zone is None:
        raise ValueError("a price is asked for in a region or in a zone")
    there = region or region_of(zone or "")
    listed = find(prices, provider=provider, region=there, machine_type=machine_type)
    return Answer(_answer(listed, "on_demand", zone), _answer(listed, "spot", zone))


def _answer(prices: Iterable[Price], what: Literal["on_demand", "spot"], zone: str | None) -> Price | None:
    """The price that says ``what``: of the zone itself, else of the whole region, else of the cheapest other zone."""
    found = cheapest_of(newest_of(prices, what), what)
    exact = [price for price in found if zone is not None and price.zone == zone]
    whole = [price for price in found if price.zone is None]
    others = found if zone is None or what == "on_demand" else []
    return next(iter((*exact, *whole, *others)), None)
