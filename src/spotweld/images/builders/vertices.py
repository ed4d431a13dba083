"""Reading the progress that BuildKit reports: ``--progress=rawjson``, a stream of JSON texts.

Each text holds some of ``vertexes`` (steps: digest, name, started, completed, cached, error) and ``logs`` (base64 of
what a step printed). A step's name carries its stage and number, ``[builder 2/5] RUN make``: see
``dockerfile2llb/convert.go`` in github.com/moby/buildkit, ``prefixCommand``.
"""

from __future__ import annotations

import base64
import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from spotweld.images.builders.ladder import Stage

_NAME = re.compile(r"\[(?:(.+) )?\s*(\d+)/\d+\] (.*)", re.DOTALL)
_IMPORT = re.compile(r"importing cache manifest from (\S+)")


class Vertex(msgspec.Struct, frozen=True):
    """A step of a solve that has ended."""

    digest: str
    name: str
    seconds: float
    cached: bool
    error: str = ""

    def imported(self) -> str:
        """The reference whose cache it reads; empty: it is another kind of step."""
        found = _IMPORT.fullmatch(self.name)
        return found[1] if found else ""

    def place(self, stages: Sequence[Stage], highest: Mapping[int, int]) -> tuple[int, int, str] | None:
        """The stage, the number in its stage and the text of the instruction that it is; None: it is none.

        BuildKit numbers what makes layers, and before it the base, unless that is pinned, and what the base's ONBUILD
        triggers do. So counting goes backwards from the last layer.

        Args:
            stages: of the document.
            highest: see `Progress`.
        """
        found = numbered(self.name, stages)
        if found is None:
            return None
        index, number, text = found
        layers = stages[index].layers
        position = number - highest.get(index, number) + len(layers) - 1
        return (index, layers[position], text) if 0 <= position < len(layers) else None


def numbered(name: str, stages: Sequence[Stage]) -> tuple[int, int, str] | None:
    """The stage of a step, the number that it bears there, and what follows; None: it bears none."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    label = "".join((found[1] or "").lower().split()[-1:])  # after the platform, if that is named
    named = [index for index, stage in enumerate(stages) if stage.label == label]
    if not named and len(stages) > 1:
        return None
    return named[-1] if named else 0, int(found[2]), found[3]


class Progress:
    """Puts the stream's lines together into steps that ended and lines that were printed.

    Args:
        stages: of the document.

    Attributes:
        highest: the highest number that a step of each stage bears. BuildKit names all steps before it begins any.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = stages
        self.highest: dict[int, int] = {}
        self._lines: list[str] = []
        self._ended: set[str] = set()
        self.other: list[str] = []
        """Lines that are no JSON: what the client itself had to say."""

    def hear(self, line: str) -> Iterator[Vertex | str]:
        """Take in one line; gives the steps that have ended with it, and the lines that instructions printed."""
        if not self._lines and not line.startswith("{"):
            self.other.append(line)
            return
        self._lines.append(line)
        if not line.startswith("}") and not (len(self._lines) == 1 and line.endswith("}")):
            return
        try:
            told = json.loads("\n".join(self._lines))
        except ValueError:
            return  # the closing brace of something inside
        self._lines.clear()
        yield from self._read(told)

    def _read(self, told: dict[str, Any]) -> Iterator[Vertex | str]:
        for log in told.get("logs", ()):
            yield from base64.b64decode(log.get("data", "")).decode(errors="replace").splitlines()
        for one in told.get("vertexes", ()):
            found = numbered(one["name"], self._stages)
            if found:
                self.highest[found[0]] = max(found[1], self.highest.get(found[0], 0))
        for one in told.get("vertexes", ()):
            if not one.get("completed") or one["digest"] in self._ended:
                continue
            self._ended.add(one["digest"])
            seconds = (_time(one["completed"]) - _time(one["started"])).total_seconds()
            yield Vertex(one["digest"], one["name"], seconds, one.get("cached", False), one.get("error", ""))


def _time(text: str) -> datetime:
    """RFC 3339 in UTC with up to nine digits of a second, of which Python's takes six."""
    whole, _, digits = text.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}.{digits[:6]:0<6}+00:00")
