"""Variables in a Dockerfile: ``$NAME``, ``${NAME}`` and its modifiers, quotes and escapes.

The rules are those of the Dockerfile reference ("Environment replacement"):
https://docs.docker.com/reference/dockerfile/#environment-replacement.
A name that nobody set may still be set by the base image, whose environment is not known here. Such a reference is
kept, marked by `KEPT`, so that it is never taken for the same characters in single quotes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KEPT = "\0"
"""Stands before a reference that was kept: what it means is known only inside the base image."""
_SPECIAL = frozenset("@*#?-$!")


class BadSubstitution(ValueError):
    """A quote or a brace is not closed, a modifier is not known, or a ``?`` modifier found nothing."""


class Expansion(msgspec.Struct, frozen=True):
    """What became of a text, and of which variables it was made."""

    text: str
    words: tuple[str, ...]
    used: tuple[str, ...]
    unset: tuple[str, ...]


def expand(
    text: str,
    values: Mapping[str, str],
    *,
    escape: str = "\\",
    keep: bool = False,
    quotes: bool = True,
    raw: bool = False,
    whole: str = "",
) -> Expansion:
    """Replace the variables in ``text``.

    Args:
        text: what stands in the Dockerfile.
        values: the variables in scope.
        escape: the Dockerfile's escape character.
        keep: leave references to unset names in place; otherwise they are empty.
        quotes: whether quotes mean anything; in the text of a here-document they do not.
        raw: leave quotes and escapes in place.
        whole: no part is cut out of a value that holds this; what was to be done with it follows it instead.

    Raises:
        BadSubstitution: the text breaks the rules.
    """
    reader = _Reader(text, values, escape, keep=keep, quotes=quotes, raw=raw, whole=whole)
    result, words = reader.until("", raw=raw)
    return Expansion(result, tuple(words), tuple(sorted(reader.used)), tuple(sorted(reader.unset)))


class _Words:
    """Collects words as the shell would split them: at spaces that are neither quoted nor escaped."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self._word = ""

    def add(self, text: str) -> None:
        for char in text:
            if not char.isspace():
                self._word += char
            elif self._word:
                self.flush()

    def whole(self, text: str) -> None:
        self._word += text

    def flush(self) -> None:
        if self._word:
            self.done.append(self._word)
            self._word = ""


class _Reader:
    def __init__(
        self, text: str, values: Mapping[str, str], escape: str, *, keep: bool, quotes: bool, raw: bool, whole: str
    ) -> None:
        self.text, self.values, self.escape = text, values, escape
        self.keep, self.quotes, self.raw, self.whole = keep, quotes, raw, whole
        self.at = 0
        self.used: set[str] = set()
        self.unset: set[str] = set()

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def next(self) -> str:
        char = self.peek()
        self.at += 1
        return char

    def until(self, stop: str, *, raw: bool) -> tuple[str, list[str]]:
        """Read up to the character ``stop``, or to the end where that is empty."""
        result: list[str] = []
        words = _Words()
        while (char := self.peek()) and char != stop:
            if char == "$":
                result.append(self._dollar())
                words.add(result[-1])
            elif char in "'\"" and self.quotes:
                result.append(self._single() if char == "'" else self._double(raw=raw))
                words.whole(result[-1])
            elif char == "<" and self.text.startswith("<<", self.at):
                # A here-document's name may stand apart from its arrows, and is still one word with them.
                arrow = re.compile("<<[ \t\r]*").match(self.text, self.at)
                result.append(arrow[0] if arrow else "")
                words.whole(result[-1])
                self.at += len(result[-1])
            elif char == self.escape:
                self.at += 1
                result.append((char if raw else "") + self.next())
                words.whole(result[-1])
            else:
                self.at += 1
                result.append(char)
                words.add(char)
        if stop and not self.next():
            raise BadSubstitution(f"there is no {stop!r} to end what was begun")
        words.flush()
        return "".join(result), words.done

    def _single(self) -> str:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            raise BadSubstitution("a single quote is not closed")
        quoted = self.text[self.at : end + 1]
        self.at = end + 1
        return quoted if self.raw else quoted[1:-1]

    def _double(self, *, raw: bool) -> str:
        self.at += 1
        result: list[str] = []
        while (char := self.peek()) != '"':
            if not char:
                raise BadSubstitution("a double quote is not closed")
            if char == "$":
                result.append(self._dollar())
                continue
            self.at += 1
            if char == self.escape:
                if raw:
                    result.append(char)
                if not self.peek():
                    continue
                if self.peek() in {'"', "$", self.escape}:
                    char = self.next()
                elif raw:
                    continue
            result.append(char)
        self.at += 1
        body = "".join(result)
        return f'"{body}"' if self.raw else body

    def _dollar(self) -> str:
        begin = self.at
        self.at += 1
        if self.peek() != "{":
            name = self._name()
            if not name:
                return "$"
            value = self._value(name)
            return self._missing("$" + name) if value is None else value
        self.at += 1
        if self.peek() in {"", "{", "}", ":"}:
            raise BadSubstitution(f"{self.text[begin : self.at + 1]!r} names no variable")
        name = self._name()
        char = self.next()
        if char == "}":
            value = self._value(name)
            return self._missing("${" + name + "}") if value is None else value
        if char == "/":
            return self._replaced(name)
        null_is_unset = char == ":"
        modifier = self.next() if null_is_unset else char
        if not modifier or modifier not in "+-?#%" or (null_is_unset and modifier in "#%"):
            raise BadSubstitution(f"the modifier {self.text[begin : self.at]!r} is not known")
        word, _ = self.until("}", raw=modifier in "#%")
        value = self._value(name)
        if value is None and self.keep:
            return KEPT + "${" + name + (":" if null_is_unset else "") + modifier + word + "}"
        if modifier in "#%" and self._is_whole(value):
            return f"{value}{modifier}{word}"
        return _modified(name, value, modifier, word, null_is_unset=null_is_unset)

    def _replaced(self, name: str) -> str:
        every = self.peek() == "/"
        self.at += every
        pattern, _ = self.until("/", raw=True)
        replacement, _ = self.until("}", raw=True)
        value = self._value(name)
        if value is None and self.keep:
            return KEPT + "${" + name + "/" + "/" * every + pattern + "/" + replacement + "}"
        if self._is_whole(value):
            return f"{value}/{'/' * every}{pattern}/{replacement}"
        return re.sub(_regex(pattern, greedy=True), lambda _: replacement, value or "", count=0 if every else 1)

    def _is_whole(self, value: str | None) -> bool:
        return bool(self.whole) and self.whole in (value or "")

    def _missing(self, reference: str) -> str:
        return KEPT + reference if self.keep else ""

    def _value(self, name: str) -> str | None:
        value = self.values.get(name)
        (self.unset if value is None else self.used).add(name)
        return value

    def _name(self) -> str:
        begin = self.at
        first = self.peek()
        if first.isdigit():
            self._skip(str.isdigit)
        elif first and first in _SPECIAL:
            self.at += 1
        else:
            self._skip(lambda char: char == "_" or char.isalnum())
        return self.text[begin : self.at]

    def _skip(self, belongs: Callable[[str], bool]) -> None:
        while (char := self.peek()) and belongs(char):
            self.at += 1


def _modified(name: str, value: str | None, modifier: str, word: str, *, null_is_unset: bool) -> str:
    absent = value is None or (null_is_unset and not value)
    if modifier == "-":
        return word if absent else value or ""
    if modifier == "+":
        return "" if absent else word
    if modifier == "?":
        if absent:
            raise BadSubstitution(
                f"{name}: {word or 'is not allowed to be ' + ('unset' if value is None else 'empty')}"
            )
        return value or ""
    greedy = word.startswith(modifier)
    pattern = word[1:] if greedy else word
    if modifier == "#":
        match = re.match(_regex(pattern, greedy=greedy), value or "", re.DOTALL)
        return (value or "")[match.end() if match else 0 :]
    # The shortest suffix that matches begins last, the longest begins first.
    whole = re.compile(_regex(pattern, greedy=True), re.DOTALL)
    begins = range(len(value or "") + 1)
    for begin in begins if greedy else reversed(begins):
        if whole.fullmatch(value or "", begin):
            return (value or "")[:begin]
    return value or ""


def _regex(pattern: str, *, greedy: bool) -> str:
    """A shell pattern of ``*``, ``?`` and backslashes as a regular expression."""
    out: list[str] = []
    chars = iter(pattern)
    for char in chars:
        if char == "*":
            out.append(".*" if greedy else ".*?")
        elif char == "?":
            out.append(".")
        elif char == "\\":
            out.append(re.escape(next(chars, "\\")))
        else:
            out.append(re.escape(char))
    return "".join(out)
