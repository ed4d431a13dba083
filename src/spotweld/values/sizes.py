"""Sizes as people write them: ``100GB`` (powers of 1000), ``16MiB`` (powers of 1024); in code always bytes."""

from __future__ import annotations

import re

_BYTES: dict[str, int] = {"B": 1} | {f"{p}B": 1000 ** (i + 1) for i, p in enumerate("kMGTP")}
_BYTES |= {"KB": 1000} | {f"{p}iB": 1024 ** (i + 1) for i, p in enumerate("KMGTP")}
_FORM = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kKMGTP]?i?B)")
GIB = 2**30
"""Bytes; what price lists of clouds call a GB."""
SIZE = r"[0-9]{1,9}(?:\.[0-9]{1,3})? *(?:[kKMGTP]?B|[KMGTP]iB)"
"""What a size looks like, as a regular expression that JSON Schema understands too."""


def parse_size(text: str) -> int:
    """``"100GB"`` in bytes.

    Raises:
        ValueError: no number with a unit (B, kB, MB, GB, TB, PB, KiB, MiB, GiB, TiB, PiB).
    """
    found = _FORM.fullmatch(text.strip())
    if found is None or found[2] not in _BYTES or len(found[1]) > 15:
        msg = f"not a size: {text[:40]!r}; write a number and a unit, such as 100GB or 16MiB"
        raise ValueError(msg)
    return round(float(found[1]) * _BYTES[found[2]])


def format_size(size: float) -> str:
    """Bytes as a person reads them, in powers of 1000: ``12.3 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
