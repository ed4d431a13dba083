"""Recordings from what ``aws ec2 describe-spot-price-history`` prints: prices only, each from its time stamp on."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from itertools import groupby

import msgspec

from spotweld.values.recordings import Recording, region_of
from spotweld.values.spothistory import SpotPrice, split_spot_history, spot_price

GAP = 300.0
"""Seconds of a tick. A price is taken at a tick's beginning."""
MOST = 10_000_000
"""Ticks of a zone; ten years at half a minute each."""
UNLIMITED = 1_000_000
"""Machines that can be had where nothing says how many."""
ASSUMED = "capacity is not recorded: taken as always there, unless the price is above --max-price"


def decode_price_history(content: bytes) -> list[Recording]:
    """One recording for each availability zone.

    All begin at the first tick at which the zone's price is known, and end with the last price of any zone.

    Raises:
        ValueError: it is not such a history, is empty, has several machine types or systems, or a price that cannot be.
    """
    rows = [_row(raw, place) for place, raw in enumerate(split_spot_history(content))]
    if not rows:
        raise ValueError("SpotPriceHistory is empty")
    for what in ("instance_type", "product_description"):
        kinds = sorted({getattr(row, what) for row in rows})
        if len(kinds) > 1:
            raise ValueError(f"it has prices of {', '.join(kinds)}: ask for one with --filters or --instance-types")
    last = max(math.floor(row.timestamp.timestamp() / GAP) for row in rows)
    first = min(row.timestamp for row in rows)
    if last - math.ceil(first.timestamp() / GAP) >= MOST:
        raise ValueError(f"its first price is of the year {first.year}, which makes too many ticks: leave it out")
    # Newest first there; where two have one time stamp, the one that is listed first is the newer.
    rows.reverse()
    ordered = sorted(rows, key=lambda row: (row.availability_zone, row.timestamp))
    return [_recording(zone, list(own), last) for zone, own in groupby(ordered, key=lambda row: row.availability_zone)]


def _recording(zone: str, rows: list[SpotPrice], last: int) -> Recording:
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


def _row(raw: msgspec.Raw, place: int) -> SpotPrice:
    try:
        row = msgspec.json.decode(raw, type=SpotPrice)
    except msgspec.ValidationError as error:
        raise ValueError(f"SpotPriceHistory[{place}]: {error}") from error
    if math.isnan(spot_price(row.spot_price)):
        raise ValueError(f"SpotPriceHistory[{place}].SpotPrice is {row.spot_price!r}: a price lies between 0 and 1e9")
    if row.timestamp.tzinfo is None:
        row.timestamp = row.timestamp.replace(tzinfo=UTC)
    return row
