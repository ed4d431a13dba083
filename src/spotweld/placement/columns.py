"""Recordings from a table in a CSV file, with the columns ``time``, ``zone``, ``capacity`` and ``price``.

``time`` is seconds or an ISO 8601 date and time (without a zone: UTC). ``zone`` may be missing if the file is of one
zone, and one of ``capacity`` and ``price`` may be. A value holds on until the zone's next row, or where it is empty.
"""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict
from datetime import UTC, datetime
from typing import NamedTuple

from spotweld.placement.pricehistory import ASSUMED, MOST, UNLIMITED
from spotweld.project.words import nearest, quoted
from spotweld.values.clocks import moment_of
from spotweld.values.recordings import Recording, filled, region_of, text_of

COLUMNS = ("time", "zone", "capacity", "price")


class _Row(NamedTuple):
    line: int
    time: int
    """Milliseconds since 1970, or since anything else that all rows mean."""
    capacity: int | None
    price: float | None


def decode_columns(content: bytes, name: str) -> list[Recording]:
    """One recording for each zone; a tick is as long as the largest span that all times are multiples of.

    Args:
        content: the file's bytes, in UTF-8.
        name: the zone, where there is no such column.

    Raises:
        ValueError: it is not such a table, or a value cannot be; with the line.
    """
    table = csv.reader(io.StringIO(text_of(content), newline=""), strict=True)
    zones: dict[str, list[_Row]] = defaultdict(list)
    try:
        heading = [word.strip().lower() for word in next(table, [])]
        _check(heading)
        for cells in table:
            if cells:
                zone, row = _row(heading, cells, table.line_num, name)
                zones[zone].append(row)
    except csv.Error as error:
        raise ValueError(f"line {table.line_num}: {error}") from error
    if not zones:
        raise ValueError("it has no rows")
    for rows in zones.values():
        rows.sort(key=lambda row: row.time)
    origin = min(rows[0].time for rows in zones.values())
    gap = math.gcd(*(row.time - origin for rows in zones.values() for row in rows))
    if not gap:
        raise ValueError("all rows are of one time: at least two are needed to know how long a tick is")
    if gap > 1e12:
        raise ValueError(f"a tick would last {gap / 1000:.0f} s: times are seconds, or dates and times")
    last = max(rows[-1].time for rows in zones.values())
    if (last - origin) // gap >= MOST:
        raise ValueError(f"the times have only {gap / 1000} s in common, which makes too many ticks: round them")
    return [_recording(zone, rows, gap, last, heading) for zone, rows in sorted(zones.items())]


def _check(heading: list[str]) -> None:
    if not heading:
        raise ValueError("it is empty")
    for word in heading:
        if word not in COLUMNS:
            near = nearest(word, COLUMNS)
            hint = f": did you mean {near}?" if near else f"; there are {', '.join(COLUMNS)}"
            raise ValueError(f"line 1: no column {quoted(word)}{hint}")
    if len(set(heading)) < len(heading):
        raise ValueError("line 1: a column is there twice")
    if "time" not in heading or not {"capacity", "price"} & set(heading):
        raise ValueError("line 1: it needs the column time, and capacity or price or both")


def _row(heading: list[str], cells: list[str], line: int, name: str) -> tuple[str, _Row]:
    if len(cells) != len(heading):
        raise ValueError(f"line {line}: {len(cells)} cells under {len(heading)} headings")
    cell = {word: text.strip() for word, text in zip(heading, cells, strict=True)}
    capacity = _number(cell.get("capacity", ""), "capacity", line)
    if capacity is not None and capacity != int(capacity):
        raise ValueError(f"line {line}: a capacity of {cell['capacity']}: machines are counted in whole numbers")
    count = None if capacity is None else int(capacity)
    price = _number(cell.get("price", ""), "price", line)
    return cell.get("zone", name), _Row(line, _time(cell["time"], line), count, price)


def _number(text: str, what: str, line: int) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1e9:
        raise ValueError(f"line {line}: {what} is {quoted(text)}: a number between 0 and 1e9, or nothing")
    return value


def _time(text: str, line: int) -> int:
    try:
        return round(moment_of(text) * 1000)
    except ValueError as error:
        raise ValueError(f"line {line}: time is {quoted(text)}: {error}") from None


def _recording(zone: str, rows: list[_Row], gap: int, last: int, heading: list[str]) -> Recording:
    ticks = [(row.time - rows[0].time) // gap for row in rows]
    capacity: list[int | None] = [None] * ((last - rows[0].time) // gap + 1)
    price: list[float | None] = list(capacity)
    for before, row in zip([None, *rows], rows, strict=False):
        if before is not None and before.time == row.time:
            raise ValueError(f"lines {before.line} and {row.line}: two rows of one zone and time")
    for tick, row in zip(ticks, rows, strict=True):
        capacity[tick], price[tick] = row.capacity, row.price
    levels, notes = filled(capacity, f"zone {zone}: capacity") if "capacity" in heading else ([], [ASSUMED])
    prices, mended = filled(price, f"zone {zone}: price") if "price" in heading else ([], [])
    return Recording(
        zone=zone,
        region=region_of(zone),
        gap=gap / 1000,
        start=datetime.fromtimestamp(rows[0].time / 1000, tz=UTC),
        capacity=levels or [UNLIMITED] * len(prices),
        prices=prices,
        on_demand=None,
        currency=None,
        notes=tuple(notes + mended),
    )
