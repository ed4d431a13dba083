"""Spot prices of AWS from ``aws ec2 describe-spot-price-history``: of each machine in each zone the newest."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import msgspec

from spotweld.costs.prices import cells as cell
from spotweld.costs.prices.gathering import Reading, Refused
from spotweld.costs.prices.table import Price
from spotweld.values.recordings import region_of
from spotweld.values.spothistory import SpotPrice, split_spot_history, spot_price

_SYSTEMS = {"Linux/UNIX", "Linux/UNIX (Amazon VPC)"}
_AHEAD = timedelta(days=1)


def read_history(content: bytes, file: str, source: str, now: datetime) -> Reading:
    """The newest price of each machine type in each zone; prices are in USD. On-demand is not in it: None.

    A price holds until the next one, so all are as old as the newest time stamp in the file: it was fetched then, or
    later.

    Raises:
        ValueError: it is not such a history.
    """
    kept: dict[tuple[str, str], tuple[datetime, Price]] = {}
    refused: list[Refused] = []
    for number, raw in enumerate(split_spot_history(content)):
        place = f"SpotPriceHistory[{number}]"
        try:
            said, price = _price(msgspec.json.decode(raw, type=SpotPrice), source, now)
        except (msgspec.ValidationError, UnicodeDecodeError) as error:
            refused.append(Refused(file, place, str(error)))
        except cell.BadCell as bad:
            refused.append(Refused(file, f"{place}.{bad.column}", bad.reason))
        else:
            known = kept.get((price.place, price.machine_type))
            # Newest first there; where two have one time stamp, the one that is listed first is the newer.
            if known is None or said > known[0]:
                kept[price.place, price.machine_type] = (said, price)
    fetched = max((said for said, _ in kept.values()), default=now)
    prices = tuple(msgspec.structs.replace(price, as_of=fetched) for _, price in kept.values())
    return Reading(prices, tuple(refused))


def _price(row: SpotPrice, source: str, now: datetime) -> tuple[datetime, Price]:
    if row.product_description not in _SYSTEMS:
        raise cell.BadCell("ProductDescription", f"only prices of Linux are taken, not of {row.product_description}")
    if math.isnan(spot_price(row.spot_price)):
        raise cell.BadCell("SpotPrice", f"not a price: {row.spot_price[:40]!r}")
    named = {
        "AvailabilityZone": row.availability_zone,
        "InstanceType": row.instance_type,
        "SpotPrice": row.spot_price,
    }
    zone = cell.name(named, "AvailabilityZone")
    try:
        said = (row.timestamp if row.timestamp.tzinfo else row.timestamp.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError:
        raise cell.BadCell("Timestamp", f"not a date: {row.timestamp.isoformat()}") from None
    if said > now + _AHEAD:
        raise cell.BadCell("Timestamp", f"it lies ahead: {said.isoformat()}")
    price = Price(
        provider="aws",
        region=region_of(zone),
        zone=zone,
        machine_type=cell.name(named, "InstanceType"),
        spot=cell.hourly(named, "SpotPrice"),
        source=source,
    )
    return said, price
