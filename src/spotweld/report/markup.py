"""HTML and SVG built from values, so that text cannot become markup by accident."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable


class Markup(str):
    """Text that is markup already. Whatever is a plain ``str`` is escaped."""

    __slots__ = ()


Child: TypeAlias = "str | Iterable[Child] | None"

_VOID = frozenset({"br", "col", "link", "meta"})
# Control characters are not allowed in HTML, lone surrogates not in UTF-8, and the bidirectional overrides could make
# a name read as something else.
_HARMFUL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]")


def el(name: str, /, *children: Child, **attributes: str | float | bool | None) -> Markup:
    """An element.

    Args:
        name: its tag.
        children: markup, text (escaped), nested iterables of both; None is nothing.
        attributes: a trailing underscore is dropped (``class_``), others become hyphens (``stroke_width``); numbers are
            written short; None and False leave the attribute out, True writes its name alone.
    """
    opening = f"<{name}{''.join(_attribute(key, value) for key, value in attributes.items())}>"
    return Markup(opening if name in _VOID else f"{opening}{join(children)}</{name}>")


def join(children: Child) -> Markup:
    """All children after one another."""
    if children is None:
        return Markup()
    if isinstance(children, Markup):
        return children
    if isinstance(children, str):
        return Markup(html.escape(clean(children), quote=False))
    return Markup("".join(join(child) for child in children))


def clean(text: str) -> str:
    """Text without the characters that no page may hold."""
    return _HARMFUL.sub("\N{REPLACEMENT CHARACTER}", text)


def short(number: float) -> str:
    """At most two decimals, none that say nothing."""
    text = f"{number:.2f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(part: float) -> str:
    """0.25 as ``25%``, fine enough for any screen."""
    return f"{part * 100:.3f}".rstrip("0").rstrip(".") + "%"


def _attribute(key: str, value: str | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    text = value if isinstance(value, str) else short(value)
    return f' {name}="{html.escape(clean(text))}"'
