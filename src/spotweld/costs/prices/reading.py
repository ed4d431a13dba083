"""A price list from a file, whatever its form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from spotweld.costs.prices import gpuhunt, skypilot
from spotweld.costs.prices.gathering import Reading, Refused
from spotweld.costs.prices.gcosts import read_gcosts
from spotweld.costs.prices.history import read_history
from spotweld.costs.prices.ours import COLUMNS, read_ours
from spotweld.errors import UsageError
from spotweld.values.recordings import content_of

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from pathlib import Path

    from spotweld.costs.prices.table import Price

PROVIDERS = ("aws", "gcp", "azure")
_FORMS = (
    "it may be a catalogue of SkyPilot or gpuhunt (.csv), a pricing.yml of google-cloud-pricing-cost-calculator, "
    f"what aws ec2 describe-spot-price-history prints (.json), or a .csv with the columns {', '.join(COLUMNS)}"
)


def read_prices(path: Path, now: datetime, *, provider: str | None = None, as_of: datetime | None = None) -> Reading:
    """The prices of a file. Bad rows are refused one by one, the good ones are kept.

    Args:
        path: the file.
        now: the time; a price that was said later cannot be.
        provider: of catalogues that do not say it. None: the file or its folder is named so, as in ``aws/vms.csv``.
        as_of: of catalogues that do not say when they were made. None: nobody knows.

    Raises:
        UsageError: it cannot be read, or is no price list.
    """
    try:
        return _decode(content_of(path), path, now, provider, as_of)
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise UsageError(f"the price list {path} cannot be used", str(error), _FORMS) from error


def not_older(reading: Reading, age: timedelta, now: datetime) -> Reading:
    """What is left if prices that are older than ``age``, or of unknown age, are refused too."""
    good: list[Price] = []
    refused = list(reading.refused)
    for price in reading.prices:
        if price.as_of is not None and now - price.as_of <= age:
            good.append(price)
        else:
            why = f"it is too old: {price.as_of.date()}" if price.as_of else "nobody knows how old it is"
            refused.append(Refused(price.source, f"{price.machine_type} in {price.place}", why))
    return Reading(tuple(good), tuple(refused))


def _decode(content: bytes, path: Path, now: datetime, provider: str | None, as_of: datetime | None) -> Reading:
    source, suffix = f"file {path.name}", path.suffix.lower()
    if suffix == ".json":
        return read_history(content, str(path), source, now)
    if suffix in {".yml", ".yaml"}:
        return read_gcosts(content, str(path), source, now)
    columns = {column.strip() for column in content.split(b"\n", 1)[0].decode("utf-8-sig", "replace").split(",")}
    if "InstanceType" in columns:
        said = provider or _named(path)
        if said is None:
            raise ValueError(f"it does not say whose prices these are: add --provider {'|'.join(PROVIDERS)}")
        return skypilot.read_skypilot(content, str(path), said, as_of, source)
    if "instance_name" in columns:
        said = provider or (None if "provider" in columns else _named(path))
        return gpuhunt.read_gpuhunt(content, str(path), said, as_of, source)
    return read_ours(content, str(path), now)


def _named(path: Path) -> str | None:
    """The provider that a file or its folder is named after."""
    return next((name for name in (path.stem.lower(), path.parent.name.lower()) if name in PROVIDERS), None)
