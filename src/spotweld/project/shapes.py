"""The vocabulary in which the keys of a file are described.

A shape is data. Two modules interpret it: ``checking`` turns a node that has the shape into a value, and ``schema``
writes the shape as JSON Schema. What a value means is said here once.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

import msgspec


class Text(msgspec.Struct, frozen=True):
    """Text of a certain form.

    ``form`` is a regular expression in the common part of Python's and ECMAScript's dialects; the whole text has to
    match it. ``read`` turns the text into the value and may still raise ``ValueError`` with a reason.
    """

    noun: str
    """What it is, with its article: ``a duration``."""
    rule: str
    """What makes it one: ``a number and a unit``."""
    example: str
    form: str
    read: Callable[[str], Any] = str
    longest: int = 200
    secret: bool = False
    """True: messages do not repeat what was written."""


class Whole(msgspec.Struct, frozen=True):
    """A whole number between two bounds, both included."""

    least: int
    most: int


class Number(msgspec.Struct, frozen=True):
    """A number above ``above`` and at most ``most``."""

    above: float
    most: float


class Truth(msgspec.Struct, frozen=True):
    """True or false."""


class Choice(msgspec.Struct, frozen=True):
    """One of the words of an enumeration."""

    of: type[StrEnum]


class Path(msgspec.Struct, frozen=True):
    """A path relative to the project file's folder. It has to exist."""

    folder: bool
    """True: it names a folder; false: a file."""
    inside: bool = False
    """True: it has to be in the project file's folder, or be it."""


class Several(msgspec.Struct, frozen=True):
    """A list of values of one shape; becomes a tuple."""

    of: Shape
    least: int = 0
    most: int = 100


class Named(msgspec.Struct, frozen=True):
    """Names with values of one shape."""

    name: Text
    value: Shape
    least: int = 0
    most: int = 100
    becomes: Callable[[dict[str, Any]], Any] = dict


class Key(msgspec.Struct, frozen=True):
    """One key of a table."""

    shape: Shape
    about: str
    required: bool = False


class Table(msgspec.Struct, frozen=True):
    """A fixed set of keys. Defaults are those of the struct that it becomes."""

    noun: str
    keys: dict[str, Key]
    becomes: Callable[..., Any]
    """Takes the keys that were given by name, and ``name`` where the table stands under a name."""
    misfit: Callable[[dict[str, Any]], tuple[str, str, str] | None] | None = None
    """Of the keys that were given, the first that does not fit the others, why, and what to do; None: they all fit."""
    short: str = ""
    """A key, the only required one, whose value may stand for the whole table; empty: none may."""


Shape = Text | Whole | Number | Truth | Choice | Path | Several | Named | Table
