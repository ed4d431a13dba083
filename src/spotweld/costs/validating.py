"""Does a file follow FOCUS 1.2? Every breach with its row and column.

What can be seen in a file is looked at: the columns that have to be there, types, what may be null, allowed values,
costs that are price times quantity, periods, time zones, currency codes. Whether a name or an id is the right one
nobody can see.
"""

from __future__ import annotations

import csv
import json
import re
from datetime import datetime
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from spotweld.costs.charges import EXACT
from spotweld.costs.focusrules import COLUMNS, COMPUTE, OTHERS, Column, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import TextIO

Cells: TypeAlias = "Mapping[str, str | None]"

# The attribute "Numeric Format" allows E notation, its exponent without a plus. No double has more than 308 there.
_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?(E-?[0-9]{1,3})?")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z")
_CURRENCY = re.compile(r"[A-Z]{3}")
_UNIT = re.compile(r"([0-9]+ )?[A-Z][A-Za-z]*(-[A-Z][A-Za-z]*)?(/([0-9]+ )?[A-Z][A-Za-z]*)?")
_OURS = "x_"
_PRODUCTS = (("ListUnitPrice", "ListCost"), ("ContractedUnitPrice", "ContractedCost"))


class Breach(msgspec.Struct, frozen=True, order=True):
    """Where a file does not follow FOCUS."""

    row: int
    """From 1; 0: the file as a whole."""
    column: str
    problem: str

    def __str__(self) -> str:
        return f"row {self.row}: {self.column}: {self.problem}" if self.row else f"{self.column}: {self.problem}"


def validate_csv(file: TextIO) -> Iterator[Breach]:
    """Check a CSV file; an empty cell is null. Open it with ``newline=""``."""
    table = csv.reader(file, strict=True)
    number = 0
    try:
        header = next(table, [])
        yield from _header(header)
        for number, cells in enumerate(table, 1):
            if len(cells) != len(header):
                yield Breach(number, "", f"it has {len(cells)} cells under {len(header)} columns")
            else:
                yield from _row(number, dict(zip(header, (cell or None for cell in cells), strict=True)))
    except csv.Error as error:
        yield Breach(number + 1, "", f"it cannot be read: {error}")


def validate_json(content: str) -> Iterator[Breach]:
    """Check a JSON array of objects, or one object in each line. Numbers may be numbers or strings."""
    try:
        rows = _objects(content)
    except (ValueError, RecursionError) as error:
        yield Breach(0, "", f"it cannot be read: {error}")
        return
    columns = dict.fromkeys(column for row in rows for column in row)
    yield from _header(list(columns) if rows else list(COLUMNS))
    for number, row in enumerate(rows, 1):
        for column in columns:
            if column not in row:
                yield Breach(number, column, "it is missing here: null is written as null")
            elif row[column] == "":
                yield Breach(number, column, "it is an empty string: null is written as null")
        yield from _row(number, {column: _text(value) for column, value in row.items()})


def _objects(content: str) -> list[dict[str, object]]:
    def decode(text: str) -> object:
        # As they are written: a float would lose digits.
        return json.loads(text, parse_float=str, parse_int=str, parse_constant=str)

    # Not `splitlines`: text in JSON may hold other ends of lines as they are.
    lines = (line for line in content.split("\n") if line.strip())
    found = decode(content) if content.lstrip().startswith("[") else [decode(line) for line in lines]
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise ValueError("it is no list of objects")
    return found


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value or None
    return json.dumps(value)


def _header(header: list[str]) -> Iterator[Breach]:
    for column in sorted({column for column in header if header.count(column) > 1}):
        yield Breach(0, column, "the column is there more than once")
    for column, rule in COLUMNS.items():
        if rule.mandatory and column not in header:
            yield Breach(0, column, "the column is missing")
    for column in header:
        if column not in COLUMNS and column not in OTHERS and not column.startswith(_OURS):
            yield Breach(0, column, f"FOCUS 1.2 has no such column; one of your own begins with {_OURS}")


def _row(number: int, cells: Cells) -> Iterator[Breach]:
    sound: dict[str, str] = {}
    for column, rule in COLUMNS.items():
        if column not in cells:
            continue
        value = cells[column]
        problem = _null(rule, cells) if value is None else _value(rule, value)
        if problem:
            yield Breach(number, column, problem)
        elif value is not None:
            sound[column] = value
    for column, problem in _together(sound, cells):
        yield Breach(number, column, problem)


def _null(rule: Column, cells: Cells) -> str:
    if rule.filled:
        return "it is null"
    category, correction = cells.get("ChargeCategory"), cells.get("ChargeClass") is not None
    if rule.billed and category in {"Usage", "Purchase"} and not correction:
        return f"it is null in a charge of category {category}"
    return ""


def _value(rule: Column, value: str) -> str:
    if rule.values and value not in rule.values:
        return f"{value!r} is none of {', '.join(sorted(rule.values))}"
    match rule.kind:
        case Kind.DECIMAL | Kind.PRICE if not _DECIMAL.fullmatch(value):
            return f"{value!r} is no decimal number such as 0.25 or 2.5E-7"
        case Kind.PRICE if value.startswith("-"):
            return f"{value} is below zero"
        case Kind.MOMENT if not _is_moment(value):
            return f"{value!r} is no moment in UTC such as 2026-01-31T12:00:00Z"
        case Kind.CURRENCY if not _CURRENCY.fullmatch(value):
            return f"{value!r} is no currency code such as USD"
        case Kind.UNIT if not _UNIT.fullmatch(value):
            return f"{value!r} is no unit such as Hours or GB-Hours"
        case Kind.TAGS:
            return _tags(value)
    return ""


def _is_moment(value: str) -> bool:
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return _MOMENT.fullmatch(value) is not None


def _tags(value: str) -> str:
    try:
        found = json.loads(value, object_pairs_hook=_once)
    except (json.JSONDecodeError, RecursionError):
        return f"{value[:200]!r} is no JSON"
    except ValueError as error:
        return str(error)
    plain = isinstance(found, dict) and not any(isinstance(one, (dict, list)) for one in found.values())
    return "" if plain else "it is no JSON object of plain values"


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there more than once")
    return found


def _together(sound: Mapping[str, str], cells: Cells) -> Iterator[tuple[str, str]]:
    """What values have to say of each other; those that are wrong by themselves were named before."""
    yield from _by_category(sound)
    yield from _products(sound)
    yield from _periods(sound)
    category, subcategory = sound.get("ServiceCategory"), sound.get("ServiceSubcategory")
    if subcategory and category and (category == "Compute") != (subcategory in COMPUTE):
        yield "ServiceSubcategory", f"{subcategory!r} does not belong to {category}"
    for what, beside in (("ConsumedQuantity", "ConsumedUnit"), ("ResourceId", "ResourceType")):
        if what in cells and beside in cells and (cells[what] is None) != (cells[beside] is None):
            yield beside, f"it and {what} are null together or not at all"


def _by_category(sound: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    category = sound.get("ChargeCategory")
    if category == "Tax":
        yield from ((column, "it is not null in a tax") for column in sound if COLUMNS[column].billed)
    if category == "Purchase" and sound.get("ChargeFrequency") == "Usage-Based":
        yield "ChargeFrequency", "a purchase is not usage-based"
    if "ConsumedQuantity" in sound and category not in {"Usage", None}:
        yield "ConsumedQuantity", f"nothing is consumed in a charge of category {category}"


def _products(sound: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if "PricingQuantity" not in sound or "ChargeClass" in sound:
        return
    for price, cost in _PRODUCTS:
        if price in sound and cost in sound:
            with localcontext(EXACT):
                product = Decimal(sound[price]) * Decimal(sound["PricingQuantity"])
            if product != Decimal(sound[cost]):
                yield cost, f"{sound[cost]} is not {price} times PricingQuantity, {product:f}"


def _periods(sound: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The beginning belongs to a period, the end does not."""
    charge, billing = _period(sound, "Charge"), _period(sound, "Billing")
    if billing and billing[1] <= billing[0]:
        yield "BillingPeriodEnd", "it is not after BillingPeriodStart"
    if charge and charge[1] < charge[0]:
        yield "ChargePeriodEnd", "it is before ChargePeriodStart"
    if charge and charge[1] == charge[0] and Decimal(sound.get("ConsumedQuantity", "0")):
        yield "ChargePeriodEnd", "something was consumed in no time"
    if charge and billing and not billing[0] <= charge[0] < billing[1]:
        yield "ChargePeriodStart", "it is outside the billing period"


def _period(sound: Mapping[str, str], what: str) -> tuple[datetime, datetime] | None:
    start, end = sound.get(f"{what}PeriodStart"), sound.get(f"{what}PeriodEnd")
    return (datetime.fromisoformat(start), datetime.fromisoformat(end)) if start and end else None
