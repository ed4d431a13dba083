"""How messages name what somebody wrote."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def quoted(text: str, longest: int = 40) -> str:
    """``text`` in double quotes, shortened, without passwords in URLs and without what could steer a terminal."""
    text = re.sub(r"//[^/\s]*@", "//…@", text)
    shown = text if len(text) <= longest else text[: longest - 1] + "…"
    return '"' + "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in shown) + '"'


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that somebody who wrote ``word`` most likely meant; empty if none comes near."""
    by_folded = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(word[:80].lower(), by_folded, n=1, cutoff=0.6)
    return by_folded[close[0]] if close else ""


def listed(words: Iterable[str]) -> str:
    """``a, b or c``."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last
