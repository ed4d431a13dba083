"""How many machines are needed over time: from a few words, or from a table."""

from __future__ import annotations

import csv
import io
import re
from itertools import pairwise

import msgspec

from spotweld.project.words import quoted
from spotweld.values.clocks import moment_of
from spotweld.values.durations import DURATION, parse_duration
from spotweld.values.recordings import text_of

_SPAN = re.compile(rf"\s*([0-9]{{1,9}})\s*x\s*({DURATION})\s*")
COLUMNS = ["time", "machines"]


class Span(msgspec.Struct, frozen=True):
    """So many machines are needed for so long."""

    seconds: float
    machines: int


def parse_load(text: str) -> list[Span]:
    """``"8x24h, 20x6h"``: 8 machines for a day, then 20 for six hours.

    Raises:
        ValueError: it is no such list.
    """
    spans = []
    for part in text.split(","):
        found = _SPAN.fullmatch(part)
        if found is None:
            raise ValueError(f"{quoted(part.strip())} is no part of a load: write machines x duration, such as 8x24h")
        spans.append(Span(parse_duration(found[2]), int(found[1])))
    return spans


def decode_load(content: bytes) -> list[Span]:
    """A load from a CSV file with the columns ``time`` (seconds, or a date and time) and ``machines``.

    A row holds until the next. The last one may have no machines: it is where the load ends. Otherwise it lasts as long
    as the row before it.

    Raises:
        ValueError: it is not such a table; with the line.
    """
    table = csv.reader(io.StringIO(text_of(content), newline=""), strict=True)
    rows: list[tuple[float, int | None]] = []
    try:
        if [word.strip().lower() for word in next(table, [])] != COLUMNS:
            raise ValueError(f"line 1: the columns are {','.join(COLUMNS)}")
        for cells in table:
            if cells:
                rows.append(_row(cells, table.line_num, rows))
    except csv.Error as error:
        raise ValueError(f"line {table.line_num}: {error}") from error
    if len(rows) < 2:
        raise ValueError("at least two rows are needed to know how long each lasts")
    if rows[-1][1] is not None:
        rows.append((rows[-1][0] + (rows[-1][0] - rows[-2][0]), None))
    return [Span(end - begin, machines or 0) for (begin, machines), (end, _) in pairwise(rows)]


def _row(cells: list[str], line: int, before: list[tuple[float, int | None]]) -> tuple[float, int | None]:
    if len(cells) != len(COLUMNS):
        raise ValueError(f"line {line}: {len(cells)} cells under {len(COLUMNS)} headings")
    try:
        time = moment_of(cells[0].strip())
    except ValueError as error:
        raise ValueError(f"line {line}: time is {quoted(cells[0])}: {error}") from None
    if before and before[-1][1] is None:
        raise ValueError(f"line {line}: the row before it has no machines, and only the last row may have none")
    if before and time <= before[-1][0]:
        raise ValueError(f"line {line}: its time is not after the one before it")
    count = cells[1].strip()
    if count and not (count.isascii() and count.isdigit() and len(count) < 10):
        raise ValueError(f"line {line}: machines is {quoted(count)}: a whole number, or nothing in the last row")
    return time, int(count) if count else None
