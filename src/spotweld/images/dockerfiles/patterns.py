"""Patterns of paths, as ``COPY`` and ``.dockerignore`` write them.

``*`` and ``?`` stop at a slash, ``[a-z]`` and ``[^a-z]`` are classes, a backslash takes the next character as it is
(Go's ``filepath.Match``); ``**`` goes over slashes. https://docs.docker.com/build/concepts/context/#dockerignore-files.
"""

from __future__ import annotations

import posixpath
import re

WILD = frozenset("*?[\\")
"""The characters that make a pattern out of a path."""


def clean(path: str) -> str:
    """The path without ``.``, ``..``, doubled slashes, and slashes at the ends; ``.`` for the root of the context.

    A path that would climb out of the context stays at its root.
    """
    return posixpath.normpath("/" + path.strip("/")).lstrip("/") or "."


def compiled(pattern: str) -> re.Pattern[str]:
    """A regular expression for whole paths.

    Raises:
        ValueError: a class is not closed, or a range runs backwards.
    """
    out: list[str] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*" and pattern.startswith("*", at):
            at += 1
            # "**/" reaches any depth, none included.
            slash = pattern.startswith("/", at)
            at += slash
            last = at == len(pattern)
            loose = at - slash == 2 and not slash and not WILD & set(pattern[at:])
            out.append(".*" if last or loose else "(?:.*/)?")
        elif char == "*":
            out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "[":
            text, at = _class(pattern, at)
            out.append(text)
        elif char == "\\":
            if at == len(pattern):
                raise ValueError(f"nothing follows the backslash in {pattern!r}")
            out.append(re.escape(pattern[at]))
            at += 1
        else:
            out.append(re.escape(char))
    return re.compile("".join(out), re.DOTALL)


def _class(pattern: str, at: int) -> tuple[str, int]:
    negated = pattern.startswith("^", at)
    at += negated
    ranges: list[str] = []
    while not ranges or not pattern.startswith("]", at):
        low, at = _member(pattern, at)
        high = low
        if pattern.startswith("-", at):
            high, at = _member(pattern, at + 1)
        if high < low:
            raise ValueError(f"the range {low}-{high} runs backwards in {pattern!r}")
        ranges.append(f"{re.escape(low)}-{re.escape(high)}")
    inside = "".join(ranges)
    return (f"[^/{inside}]" if negated else f"(?!/)[{inside}]"), at + 1


def _member(pattern: str, at: int) -> tuple[str, int]:
    at += pattern.startswith("\\", at)
    if at >= len(pattern) or (pattern[at] in "-]" and pattern[at - 1] != "\\"):
        raise ValueError(f"a bracket is not closed, or holds no range, in {pattern!r}")
    return pattern[at], at + 1
