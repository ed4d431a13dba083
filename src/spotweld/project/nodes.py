"""The nodes of a YAML file: scalars with their type, lists and mappings, each knowing where it stands."""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec


class Kind(StrEnum):
    """What a scalar is, in the words of messages."""

    TEXT = "text"
    NUMBER = "a number"
    BOOLEAN = "a boolean"
    NOTHING = "nothing"


_CORE = (
    (Kind.NOTHING, re.compile(r"null|Null|NULL|~|")),
    (Kind.BOOLEAN, re.compile(r"true|True|TRUE|false|False|FALSE")),
    (Kind.NUMBER, re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")),
    (Kind.NUMBER, re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")),
    (Kind.NUMBER, re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")),
)


class Scalar(msgspec.Struct, frozen=True):
    """A single value. Lines and columns count from 1."""

    text: str
    kind: Kind
    line: int
    column: int
    size: int = 1


class Items(msgspec.Struct):
    """A YAML sequence."""

    line: int
    column: int
    items: list[Node] = []
    size: int = 1
    """Nodes in it, itself included, with aliases expanded."""


class Pairs(msgspec.Struct):
    """A YAML mapping. Keys are text, and no key stands twice."""

    line: int
    column: int
    pairs: dict[str, tuple[Scalar, Node]] = {}
    size: int = 1
    key: Scalar | None = None
    """While it is built: the key that waits for its value."""


Node = Scalar | Items | Pairs


def kind_of(text: str) -> Kind:
    """What a plain scalar with this text is, by the core schema."""
    return next((kind for kind, form in _CORE if form.fullmatch(text)), Kind.TEXT)
