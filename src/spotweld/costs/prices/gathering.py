"""From rows to a price list: what is good is kept, what is bad is told row by row."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import msgspec

from spotweld.costs.prices.cells import BadCell
from spotweld.costs.prices.table import Price

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping


CUT_OFF = "no end of line after it: the file may be cut off"
"""Half a number is a number too."""


class Refused(msgspec.Struct, frozen=True):
    """A row that was not taken."""

    file: str
    place: str
    """``line 12, column SpotPrice``."""
    reason: str


class Reading(msgspec.Struct, frozen=True):
    """What a price list held."""

    prices: tuple[Price, ...] = ()
    refused: tuple[Refused, ...] = ()

    def __add__(self, other: Reading) -> Reading:
        return Reading(self.prices + other.prices, self.refused + other.refused)


def gathered(rows: Iterable[tuple[str, Price | BadCell]], file: str) -> Reading:
    """The rows of one list, each with its place, as prices and refusals.

    A row that says the on-demand price of a machine and one that says its spot price become one price. A second row
    that says the same thing again is refused: which of the two is right, nobody knows.
    """
    kept: dict[tuple[str, str, str, str], tuple[str, Price]] = {}
    refused: list[Refused] = []
    for place, row in rows:
        if isinstance(row, BadCell):
            refused.append(Refused(file, f"{place}, column {row.column}" if row.column else place, row.reason))
        elif row.on_demand is None and row.spot is None:
            refused.append(Refused(file, place, "it has no price"))
        elif row.key not in kept:
            kept[row.key] = (place, row)
        else:
            first, known = kept[row.key]
            both = _joined(known, row)
            if both is None:
                refused.append(Refused(file, place, f"the same machine in the same place as at {first}"))
            else:
                kept[row.key] = (first, both)
    return Reading(tuple(price for _, price in kept.values()), tuple(refused))


def csv_rows(
    content: bytes, price: Callable[[Mapping[str, str]], Price], needed: Iterable[str]
) -> Iterator[tuple[str, Price | BadCell]]:
    """The lines of a table with a header, each read by ``price``.

    Every line stands for itself, so a quotation mark that is never closed spoils one line and not the rest.

    Args:
        content: the file's bytes.
        price: makes a price of the cells by column, or raises BadCell.
        needed: columns that must be there.

    Raises:
        ValueError: a column is missing or stands twice.
    """
    head, *lines = content.decode("utf-8-sig", errors="replace").split("\n")
    try:
        columns = [column.strip() for column in next(csv.reader([head.rstrip("\r")], strict=True), [])]
    except csv.Error as error:
        raise ValueError(f"the first line is no header: {error}") from error
    missing = [column for column in needed if column not in columns]
    if missing:
        raise ValueError(f"the first line lacks the columns {', '.join(missing)}")
    if len(set(columns)) < len(columns):
        raise ValueError("the first line names a column twice")
    for number, line in enumerate(lines[:-1], start=2):
        if line.strip():
            yield f"line {number}", _row(line.rstrip("\r"), columns, price)
    if lines and lines[-1]:
        yield f"line {len(lines) + 1}", BadCell("", CUT_OFF)


def _row(line: str, columns: list[str], price: Callable[[Mapping[str, str]], Price]) -> Price | BadCell:
    try:
        cells = next(csv.reader([line], strict=True))
    except csv.Error as error:
        return BadCell("", f"no line of a table: {error}")
    if len(cells) != len(columns):
        return BadCell("", f"{len(cells)} cells for {len(columns)} columns: it may be cut off")
    try:
        return price(dict(zip(columns, cells, strict=True)))
    except BadCell as bad:
        return bad


def _joined(one: Price, other: Price) -> Price | None:
    """One price of two that say different halves of it and agree on the rest."""
    halves = [(one.on_demand, other.on_demand), (one.spot, other.spot)]
    if any(a is not None and b is not None for a, b in halves):
        return None
    both = msgspec.structs.replace(one, on_demand=one.on_demand or other.on_demand, spot=one.spot or other.spot)
    same = msgspec.structs.replace(other, on_demand=both.on_demand, spot=both.spot)
    return both if both == same else None
