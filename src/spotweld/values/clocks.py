"""Time as a parameter, so that no test has to wait for it."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from typing import Protocol

_FIRST, _LAST = -62_135_596_800, 253_402_300_799
"""The years 1 to 9999, in seconds since 1970."""


class Clock(Protocol):
    """What the rest of the house may ask of time."""

    def now(self) -> float:
        """Seconds since 1970-01-01 UTC. May jump; use it for records, never for order or for safety."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment. Never goes back."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def iso(seconds: float) -> str:
    """``1700000000.0`` as ``2023-11-14T22:13:20.000Z`` (RFC 3339, UTC, milliseconds)."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment_of(text: str) -> float:
    """Seconds, or a date and time in ISO 8601 (without a zone: UTC), as seconds since 1970.

    Raises:
        ValueError: it is neither, or beyond the year 9999.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if math.isfinite(seconds):
        # Milliseconds and nanoseconds since 1970 are meant by most that is larger.
        if not _FIRST <= seconds <= _LAST:
            raise ValueError("seconds since 1970, and no year up to 9999 has so many")
        return seconds
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("seconds, or a date and time") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
