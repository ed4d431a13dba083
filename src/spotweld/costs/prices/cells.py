"""Cells of a price list, checked one by one: a price that cannot be is refused, never mended."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, TypeAlias

import msgspec

from spotweld.values.money import Money

if TYPE_CHECKING:
    from collections.abc import Mapping

Moment: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]
"""What a cloud says, with its zone: without one it could not be compared with now."""
MOST = Decimal(1_000_000)
"""Nothing costs that much per hour."""
_NUMBER = re.compile(r"[-+]?[0-9]{1,15}(?:\.[0-9]{0,20})?(?:[eE][-+]?[0-9]{1,2})?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:/+-]{0,99}")
_AHEAD = timedelta(days=1)


class BadCell(ValueError):
    """A cell that cannot be.

    Args:
        column: its column, or the key that it stands under.
        reason: what is wrong with it.
    """

    def __init__(self, column: str, reason: str) -> None:
        super().__init__(f"{column}: {reason}")
        self.column = column
        self.reason = reason


def name(cells: Mapping[str, str], column: str) -> str:
    """A word that must stand there.

    Raises:
        BadCell: it is empty, or holds what no name of a machine or a place holds.
    """
    text = cells[column].strip()
    if not text:
        raise BadCell(column, "it is empty")
    if not _NAME.fullmatch(text):
        raise BadCell(column, f"not a name: {text[:40]!r}")
    return text


def perhaps(cells: Mapping[str, str], column: str) -> str | None:
    """A word that may be missing.

    Raises:
        BadCell: it holds what no name holds.
    """
    return name(cells, column) if cells.get(column, "").strip() else None


def hourly(cells: Mapping[str, str], column: str, currency: str = "USD") -> Money | None:
    """A price per hour. None: the cell is empty or missing.

    Raises:
        BadCell: no number, NaN, negative, zero or beyond all prices.
    """
    found = _number(cells, column)
    if found is None:
        return None
    if found <= 0:
        raise BadCell(column, f"a price is more than 0, not {cells[column].strip()[:40]}")
    if found >= MOST:
        raise BadCell(column, f"a price is less than {MOST}, not {cells[column].strip()[:40]}")
    return Money(found, currency)


def amount(cells: Mapping[str, str], column: str) -> Decimal | None:
    """How many of something. None: the cell is empty or missing.

    Raises:
        BadCell: no number, or negative.
    """
    found = _number(cells, column)
    if found is not None and not 0 <= found < MOST:
        raise BadCell(column, f"it lies between 0 and {MOST}, not {cells[column].strip()[:40]}")
    return found


def memory(cells: Mapping[str, str], column: str) -> int | None:
    """GiB as bytes. None: the cell is empty or missing.

    Raises:
        BadCell: no number, or negative.
    """
    found = amount(cells, column)
    return None if found is None else round(found * 1024**3)


def moment(cells: Mapping[str, str], column: str, now: datetime) -> datetime | None:
    """An ISO 8601 date, or date and time, in UTC. None: the cell is empty or missing.

    Raises:
        BadCell: no date, or one that lies ahead.
    """
    text = cells.get(column, "").strip()
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
        found = (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        # East of Greenwich the year 1 begins before that of UTC does.
        raise BadCell(column, f"not a date: {text[:40]!r}") from None
    if found > now + _AHEAD:
        raise BadCell(column, f"it lies ahead: {text}")
    return found


def _number(cells: Mapping[str, str], column: str) -> Decimal | None:
    text = cells.get(column, "").strip()
    if not text:
        return None
    if not _NUMBER.fullmatch(text):
        raise BadCell(column, f"not a number: {text[:40]!r}")
    return Decimal(text)
