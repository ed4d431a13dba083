"""The ladder: a Dockerfile cut after every instruction that is worth keeping.

BuildKit sends its cache to a registry only when a whole solve has succeeded. A *rung* is the document's text up to the
end of one instruction: solved for itself, it is a whole solve, and because the text before the cut is untouched, its
steps have the same cache keys as those of the whole document. Nothing here runs anything.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import msgspec

from spotweld.values.digests import digest, hex_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

WORTH = frozenset({"RUN", "COPY", "ADD"})
"""Instructions that deserve a rung. The others only write metadata: they cost nothing and ride along with the next."""
_LAYERS = WORTH | {"WORKDIR"}
"""Instructions that BuildKit counts when it numbers a stage's steps, next to the base."""
_HEREDOCS = frozenset({"RUN", "COPY", "ADD"})
_HEREDOC = re.compile(r"<<(-?)([\"']?)([A-Za-z_][\w.]*)\2")
_ESCAPE = re.compile(r"^#\s*escape\s*=\s*(\S)\s*$", re.IGNORECASE)
_DIRECTIVE = re.compile(r"^#\s*\w+\s*=")
_FROM = re.compile(r"FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?", re.IGNORECASE)
_SOURCES = re.compile(r"--from=(\S+)|--mount=\S*?\bfrom=([^,\s]+)")


class Rung(msgspec.Struct, frozen=True):
    """One place to cut a Dockerfile."""

    stage: int
    """Counted from 0."""
    number: int
    """Of the instruction in its stage, its FROM being 0."""
    word: str
    line: int
    """Where the instruction begins, counted from 1."""
    text: str
    """The document up to the instruction's end. Its last stage is this one."""
    tag: str
    """Names the place of this rung's cache: the same for documents whose instructions agree up to here."""


class Stage(msgspec.Struct, frozen=True):
    """One stage, as far as the ladder needs to know it."""

    name: str
    """As BuildKit prints it: its own, or ``stage-N``."""
    own_name: str
    layers: tuple[int, ...]
    """The numbers of the instructions that BuildKit numbers, in order."""
    rungs: tuple[Rung, ...]
    needs: frozenset[int]
    """The stages that its instructions name."""


class _Piece(msgspec.Struct, frozen=True):
    word: str
    text: str
    """Without comments and line breaks: two documents that say the same have the same."""
    line: int
    end: int
    """The line of the document that it ends with, itself included."""


def stages(document: str, salt: Mapping[str, str] | None = None) -> tuple[Stage, ...]:
    """The stages of a Dockerfile with their rungs.

    Args:
        document: its text.
        salt: whatever else changes the result and is not in the document: arguments, platform.
    """
    lines = document.splitlines(keepends=True)
    before: list[str] = [json.dumps(dict(salt or {}), sort_keys=True)]
    groups: list[list[_Piece]] = []
    for piece in _pieces(lines):
        if piece.word == "FROM":
            groups.append([])
        if groups:
            groups[-1].append(piece)
        else:
            before.append(piece.text)
    found: list[Stage] = []
    seals: list[str] = []
    for index, group in enumerate(groups):
        stage, seal = _stage(index, group, lines, found, seals, _seal(*before))
        found.append(stage)
        seals.append(seal)
    return tuple(found)


def rungs(document: str, target: str = "", salt: Mapping[str, str] | None = None) -> tuple[Rung, ...]:
    """The rungs of the stages that ``target`` (empty: the last stage) needs, in the document's order."""
    every = stages(document, salt)
    names = {name: index for index, stage in enumerate(every) for name in (stage.own_name, str(index)) if name}
    left = [names.get(target.lower(), len(every) - 1)] if every else []
    needed: set[int] = set()
    while left:
        index = left.pop()
        if index not in needed:
            needed.add(index)
            left.extend(every[index].needs)
    return tuple(rung for index in sorted(needed) for rung in every[index].rungs)


def _stage(
    index: int, group: list[_Piece], lines: list[str], earlier: list[Stage], seals: list[str], seal: str
) -> tuple[Stage, str]:
    head = _FROM.match(group[0].text)
    own_name = (head[2] or "").lower() if head else ""
    needs: set[int] = set()
    found: list[Rung] = []
    for number, piece in enumerate(group):
        named = _named(piece, earlier)
        needs |= named
        seal = _seal(seal, piece.text, *(seals[other] for other in sorted(named)))
        if piece.word in WORTH:
            text = "".join(lines[: piece.end])
            found.append(Rung(index, number, piece.word, piece.line, text, f"rung-{seal}"))
    layers = tuple(number for number, piece in enumerate(group) if piece.word in _LAYERS)
    return Stage(own_name or f"stage-{index}", own_name, layers, tuple(found), frozenset(needs)), seal


def _named(piece: _Piece, earlier: list[Stage]) -> set[int]:
    """The earlier stages that an instruction names. A name that holds a variable may be any of them."""
    if piece.word == "FROM":
        head = _FROM.match(piece.text)
        said = [head[1]] if head else []
    else:
        said = [one or other for one, other in _SOURCES.findall(piece.text)]
    if any("$" in name for name in said):
        return set(range(len(earlier)))
    found = {index for index, stage in enumerate(earlier) if stage.own_name and stage.own_name in map(str.lower, said)}
    if piece.word != "FROM":
        found |= {int(name) for name in said if name.isdecimal() and int(name) < len(earlier)}
    return found


def _pieces(lines: list[str]) -> Iterator[_Piece]:
    """Split a document into instructions: comments, continuations and here-documents, and no more than that."""
    escape = _escape_of(lines)
    at = 0
    while at < len(lines):
        first = at
        said: list[str] = []
        while at < len(lines):
            line = lines[at].strip()
            at += 1
            if line.startswith("#") or not line:  # a comment, or a blank line: also between continued lines
                if said:
                    continue
                break
            said.append(line.removesuffix(escape).strip())
            if not line.endswith(escape):
                break
        if not said:
            continue
        text = " ".join(said)
        word = text.split(maxsplit=1)[0].upper()
        if word in _HEREDOCS:
            for dash, _, end in _HEREDOC.findall(text):
                body, at = _heredoc(lines, at, end, tabs=bool(dash))
                text += "\n" + body
        yield _Piece(word, text, first + 1, at)


def _heredoc(lines: list[str], at: int, end: str, *, tabs: bool) -> tuple[str, int]:
    body: list[str] = []
    while at < len(lines):
        line = lines[at].rstrip("\r\n")
        at += 1
        body.append(line)
        if (line.lstrip("\t") if tabs else line) == end:
            break
    return "\n".join(body), at


def _escape_of(lines: list[str]) -> str:
    for line in lines:
        found = _ESCAPE.match(line)
        if found:
            return found[1]
        if not _DIRECTIVE.match(line):
            break
    return "\\"


def _seal(*parts: str) -> str:
    return hex_of(digest(json.dumps(parts).encode()))[:40]
