"""Forms of text that more than one section of the project file takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotweld.project.shapes import Text
from spotweld.values.money import MONEY, Money, parse_money

if TYPE_CHECKING:
    from collections.abc import Callable

PRINTABLE = r"[^\u0000-\u0008\u000b-\u001f\u007f]"
"""One character that is no control character, but for tabs and line ends."""

VALUE = Text(
    "text",
    "it takes text without control characters",
    '"30"',
    PRINTABLE + "*",
    longest=32_768,
    secret=True,
)
"""The value of a variable. Messages do not repeat it."""


def money(read: Callable[[str], Money], example: str) -> Text:
    """An amount of money."""
    return Text("an amount of money", "it takes an amount and a currency of three letters", example, MONEY, read)


def some(text: str) -> Money:
    """An amount of money.

    Raises:
        ValueError: it is none, or nothing.
    """
    found = parse_money(text)
    if not found.amount:
        raise ValueError("it has to be more than nothing")
    return found
