"""Our own price list: a CSV that holds everything a price has. The shipped table is one."""

from __future__ import annotations

import csv
import io
import re
from importlib.resources import files
from typing import TYPE_CHECKING

from spotweld.costs.focus import plain
from spotweld.costs.prices import cells as cell
from spotweld.costs.prices.gathering import Reading, csv_rows, gathered
from spotweld.costs.prices.table import Price

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from decimal import Decimal

COLUMNS = (
    "provider",
    "region",
    "zone",
    "machine_type",
    "arch",
    "vcpus",
    "memory_gib",
    "accelerator",
    "accelerators",
    "on_demand",
    "spot",
    "currency",
    "as_of",
    "source",
)
"""The header line. Prices are per machine and hour."""


def read_ours(content: bytes, file: str, now: datetime) -> Reading:
    """The prices of a list in our own form.

    Raises:
        ValueError: its header lacks a column.
    """

    def price(cells: Mapping[str, str]) -> Price:
        currency = cells["currency"].strip()
        if not re.fullmatch("[A-Z]{3}", currency):
            raise cell.BadCell("currency", f"not a currency: {currency[:40]!r}; write three capital letters")
        if not cells["source"].strip():
            raise cell.BadCell("source", "it is empty: every price says where it comes from")
        return Price(
            provider=cell.name(cells, "provider"),
            region=cell.name(cells, "region"),
            zone=cell.perhaps(cells, "zone"),
            machine_type=cell.name(cells, "machine_type"),
            arch=cell.perhaps(cells, "arch"),
            vcpus=_float(cell.amount(cells, "vcpus")),
            memory=cell.memory(cells, "memory_gib"),
            accelerator=cell.perhaps(cells, "accelerator"),
            accelerators=_float(cell.amount(cells, "accelerators")),
            on_demand=cell.hourly(cells, "on_demand", currency),
            spot=cell.hourly(cells, "spot", currency),
            as_of=cell.moment(cells, "as_of", now),
            source=cells["source"].strip(),
        )

    return gathered(csv_rows(content, price, COLUMNS), file)


def write_ours(prices: Iterable[Price]) -> bytes:
    """Prices in our own form, such that reading them gives the same again."""
    file = io.StringIO(newline="")
    out = csv.writer(file, lineterminator="\n")
    out.writerow(COLUMNS)
    for price in prices:
        paid = price.on_demand or price.spot
        out.writerow(
            (
                price.provider,
                price.region,
                price.zone or "",
                price.machine_type,
                price.arch or "",
                _number(price.vcpus),
                _number(None if price.memory is None else price.memory / 1024**3),
                price.accelerator or "",
                _number(price.accelerators),
                plain(price.on_demand.amount) if price.on_demand else "",
                plain(price.spot.amount) if price.spot else "",
                paid.currency if paid else "",
                price.as_of.isoformat() if price.as_of else "",
                price.source,
            )
        )
    return file.getvalue().encode()


def shipped(now: datetime) -> Reading:
    """The table that comes with Spotweld: old, but there without a network."""
    return read_ours((files("spotweld.costs.prices") / "shipped.csv").read_bytes(), "shipped.csv", now)


def _float(number: Decimal | None) -> float | None:
    return None if number is None else float(number)


def _number(number: float | None) -> str:
    return "" if number is None else repr(number).removesuffix(".0")
