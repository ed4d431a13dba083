"""Recordings from what ``aws ec2 describe-spot-price-history`` prints: prices only, each from its time stamp on.

The form: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSpotPriceHistory.html
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from itertools import groupby

import msgspec

from spotweld.values.recordings import Recording, region_of

GAP = 300.0
"""Seconds of a tick. A price is taken at a tick's beginning."""
UNLIMITED = 1_000_000
"""Machines that can be had where nothing says how many."""
ASSUMED = "capacity is not recorded: taken as always there, unless the price is above --max-price"


class _Price(msgspec.Struct, rename="pascal"):
    availability_zone: str
    instance_type: str
    product_description: str
    spot_price: str
    timestamp: datetime


class _History(msgspec.Struct):
    prices: list[_Price] = msgspec.field(name="SpotPriceHistory")


def decode_price_history(content: bytes) -> list[Recording]:
    """One recording for each availability zone.

    All begin at the first tick at which the zone's price is known, and end with the last price of any zone.

    Raises:
        ValueError: it is not such a history, is empty, has several machine types or systems, or a price that cannot be.
    """
    rows = msgspec.json.decode(content, type=_History).prices
    if not rows:
        raise ValueError("SpotPriceHistory is empty")
    for what in ("instance_type", "product_description"):
        kinds = sorted({getattr(row, what) for row in rows})
        if len(kinds) > 1:
            raise ValueError(f"it has prices of {', '.join(kinds)}: ask for one with --filters or --instance-types")
    for place, row in enumerate(rows):
        if row.timestamp.tzinfo is None:
            row.timestamp = row.timestamp.replace(tzinfo=UTC)
        _ = _price(row.spot_price, place)
    last = max(math.floor(row.timestamp.timestamp() / GAP) for row in rows)
    # Newest first there; where two have one time stamp, the one that is listed first is the newer.
    rows.reverse()
    ordered = sorted(rows, key=lambda row: (row.availability_zone, row.timestamp))
    return [_recording(zone, list(own), last) for zone, own in groupby(ordered, key=lambda row: row.availability_zone)]


def _recording(zone: str, rows: list[_Price], last: int) -> Recording:
    ticks = [math.ceil(row.timestamp.timestamp() / GAP) for row in rows]
    first = ticks[0]
    prices: list[float] = []
    for row, until in zip(rows, [*ticks[1:], max(last, first) + 1], strict=True):
        prices += [float(row.spot_price)] * (until - first - len(prices))
    return Recording(
        zone=zone,
        region=region_of(zone),
        gap=GAP,
        start=datetime.fromtimestamp(first * GAP, tz=UTC),
        capacity=[UNLIMITED] * len(prices),
        prices=prices,
        on_demand=None,
        currency="USD",
        notes=(ASSUMED,),
    )


def _price(text: str, place: int) -> float:
    try:
        price = float(text)
    except ValueError:
        price = math.nan
    if not 0 <= price < 1e9:
        raise ValueError(f"SpotPriceHistory[{place}].SpotPrice is {text!r}: a price lies between 0 and 1e9")
    return price
