"""What was recorded of one zone: how many spot machines could be had at each tick, and what they cost.

The format is that of skypilot-org/spot-traces: ``{"metadata": {"gap_seconds": 600}, "data": [1, 0, …]}``. The local
provider replays such files and the simulator reckons with them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

LARGEST = 64 * 1000 * 1000
"""Bytes; a recording of ten years at one tick a minute takes a third of it."""
FORM = '{"metadata": {"gap_seconds": 600}, "data": [1, 0, ...]} with an optional list "prices"'

Number = TypeVar("Number", int, float)
# Some collections store the inverse, and say so in words only.
_INVERSE = re.compile(r"\b1\s*(?:=|means|is)\s*(?:preempted|unavailable|not available|down|lost)", re.IGNORECASE)


class Recording(msgspec.Struct, frozen=True):
    """One zone over time. Tick ``i`` lasts from ``i * gap`` to ``(i + 1) * gap`` seconds after the start."""

    zone: str
    region: str
    gap: float
    """Seconds."""
    start: datetime | None
    """None: not known."""
    capacity: Sequence[int]
    """At each tick: 0 or 1, or how many could be had; not empty."""
    prices: Sequence[float]
    """Of spot at each tick, per machine and hour; empty: not recorded."""
    on_demand: float | None
    """Per machine and hour; None: not recorded."""
    currency: str | None
    notes: tuple[str, ...]
    """What was mended, for people."""


class _Metadata(msgspec.Struct):
    gap_seconds: float
    currency: str | None = None
    zone: str | None = None
    region: str | None = None
    start: str | None = None
    spot_price: float | None = None
    on_demand_price: float | None = None
    meaning: str | None = None


class _File(msgspec.Struct):
    metadata: _Metadata
    data: list[int | None]
    prices: list[float | None] | None = None


def decode_recording(content: bytes, name: str, *, inverted: bool | None = None) -> Recording:
    """A recording from the bytes of a file.

    ``null`` means that nobody looked: the value before it holds on (at the beginning: the first value there is).

    Args:
        content: the file's bytes.
        name: what the zone is called if the file does not say it.
        inverted: whether 1 means that nothing could be had. None: only if ``metadata.meaning`` says so in words such
            as ``1 = preempted``.

    Raises:
        ValueError: it is not such a recording, or holds a value that cannot be; with the position.
    """
    try:
        file = msgspec.json.decode(content, type=_File)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError as error:
        place = re.search(r"byte (\d+)", str(error))
        at = int(place[1]) if place else 0
        if re.search(rb"NaN|Infinity", content[max(0, at - 2) : at + 9]):
            raise ValueError(f"{error}: NaN and Infinity are no JSON; write null where nobody looked") from error
        raise
    meta = file.metadata
    if not 0.001 <= meta.gap_seconds <= 1e9:
        raise ValueError(f"gap_seconds must lie between 0.001 and 1e9, not {meta.gap_seconds}")
    capacity, notes = filled(file.data, "data")
    if inverted or (inverted is None and _INVERSE.search(meta.meaning or "")):
        capacity, notes = _inverse(capacity), [*notes, "data: turned over, for it says that 1 means none"]
    prices: list[float] = []
    if file.prices:
        prices, mended = filled(file.prices, "prices")
        notes += mended
        if len(prices) != len(capacity):
            raise ValueError(f"{len(capacity)} values in data, but {len(prices)} prices")
    elif meta.spot_price is not None:
        prices = [_price(meta.spot_price, "metadata.spot_price")] * len(capacity)
    zone = meta.zone or name
    return Recording(
        zone=zone,
        region=meta.region or region_of(zone),
        gap=meta.gap_seconds,
        start=_moment(meta.start),
        capacity=capacity,
        prices=prices,
        on_demand=None if meta.on_demand_price is None else _price(meta.on_demand_price, "metadata.on_demand_price"),
        currency=meta.currency,
        notes=tuple(notes),
    )


def content_of(path: Path) -> bytes:
    """A recording's bytes.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no file, or larger than ``LARGEST``.
    """
    if path.stat().st_size > LARGEST or not path.is_file():
        raise ValueError(f"no file of at most {LARGEST} bytes")
    return path.read_bytes()


def text_of(content: bytes) -> str:
    """The text of a table, which is UTF-8, with or without a byte order mark.

    Raises:
        ValueError: it is not; with the line and the column.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
        why = f"byte 0x{content[error.start]:02x} does not belong to UTF-8"
        raise ValueError(f"line {line}, column {column}: {why}; save the file as UTF-8") from None


def region_of(zone: str) -> str:
    """``us-east-1`` for ``us-east-1a``, ``us-east4`` for ``us-east4-a``; a name of another form stands for itself."""
    found = re.fullmatch(r"(.*\d)-?[a-z]", zone)
    return found[1] if found else zone


def _moment(text: str | None) -> datetime | None:
    """Without a zone it is UTC."""
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _price(value: float, what: str) -> float:
    if not 0 <= value < 1e9:
        raise ValueError(f"{what} is {value}: a price lies between 0 and 1e9")
    return value


def _inverse(capacity: Sequence[int]) -> list[int]:
    odd = next((i for i, level in enumerate(capacity) if level > 1), None)
    if odd is not None:
        raise ValueError(f"data[{odd}] is {capacity[odd]}: only 0 and 1 can be turned over")
    return [1 - level for level in capacity]


def filled(values: Sequence[Number | None], what: str) -> tuple[list[Number], list[str]]:
    """``values`` with every None replaced by the value before it (at the beginning: by the first), and a note on that.

    Raises:
        ValueError: there is no value at all, or one that cannot be.
    """
    known = next((value for value in values if value is not None), None)
    if known is None:
        raise ValueError(f"{what} holds no value")
    filled = []
    for place, value in enumerate(values):
        known = known if value is None else value
        if not 0 <= known < 1e9:
            raise ValueError(f"{what}[{place}] is {known}: it must lie between 0 and 1e9")
        filled.append(known)
    holes = sum(value is None for value in values)
    first = next((place for place, value in enumerate(values) if value is None), 0)
    note = f"{what}: {holes} of {len(values)} are null, the first at {first}; the value before holds on"
    return filled, [note] if holes else []
