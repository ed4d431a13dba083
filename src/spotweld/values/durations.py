"""Durations as people write them: ``90m``, ``1.5h``, ``2d``; in code always seconds."""

from __future__ import annotations

import math
import re

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_PART = re.compile(rf"\s*({_NUMBER})\s*(ms|s|m|h|d)")
DURATION = rf"(?:{_NUMBER} *(?:ms|s|m|h|d) *)+"
"""What a duration looks like, as a regular expression that JSON Schema understands too."""
_LONGEST = 100 * 365 * 86400.0


def parse_duration(text: str) -> float:
    """``"90m"`` or ``"1h 30m"`` in seconds.

    Raises:
        ValueError: no number with a unit (ms, s, m, h, d), or longer than a hundred years.
    """
    seconds, at = 0.0, 0
    while at < len(text.rstrip()):
        part = _PART.match(text, at)
        if part is None:
            msg = f"not a duration: {text[:40]!r}; write a number and a unit (ms, s, m, h, d), such as 90m or 1h 30m"
            raise ValueError(msg)
        seconds += float(part[1]) * _SECONDS[part[2]]
        at = part.end()
    if at == 0:
        msg = "an empty duration; write a number and a unit (ms, s, m, h, d), such as 90m"
        raise ValueError(msg)
    if not seconds <= _LONGEST:
        msg = f"a duration of more than a hundred years: {text[:40]!r}"
        raise ValueError(msg)
    return seconds


def format_duration(seconds: float) -> str:
    """Seconds as a person reads them: ``340 ms``, ``4.2 s``, ``12m 05s``, ``3h 20m``, ``2d 04h``."""
    if not math.isfinite(seconds):
        return "unknown"
    if seconds < 0:
        return "-" + format_duration(-seconds)
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d {whole % 86400 // 3600:02d}h"
