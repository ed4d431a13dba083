"""The lines of a Dockerfile: directives, comments, continuations, here-documents.

The rules are those of the Dockerfile reference ("Format", "Parser directives", "Here-documents"):
https://docs.docker.com/reference/dockerfile/.
"""

from __future__ import annotations

import re

import msgspec

from spotweld.errors import DockerfileError
from spotweld.images.dockerfiles.substitution import BadSubstitution, expand

_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*", re.DOTALL)
_KNOWN = frozenset({"syntax", "escape", "check"})
_HEREDOC = re.compile(r"[0-9]*<<(-?)[\t\n\f\r ]*([^<]+)", re.DOTALL)


class Heredoc(msgspec.Struct, frozen=True):
    """A here-document: the name that ends it, its text with all newlines, and whether variables are replaced in it."""

    name: str
    text: str
    expands: bool


class Directives(msgspec.Struct, frozen=True):
    """What the first lines say to the parser. ``syntax`` names the image of another parser, or nothing."""

    escape: str = "\\"
    syntax: str = ""


class Cursor:
    """Goes through the lines of a text once.

    Attributes:
        number: how many lines have been read, which is the number of the last one.
    """

    def __init__(self, text: str, file: str) -> None:
        lines = text.removeprefix("\ufeff").split("\n")
        if not lines[-1]:
            lines.pop()
        self._lines = lines
        self.file = file
        self.number = 0

    @property
    def ended(self) -> bool:
        return self.number >= len(self._lines)

    def next(self) -> str:
        """The next line, with the carriage return that it may end with."""
        self.number += 1
        return self._lines[self.number - 1]

    def directives(self) -> Directives:
        """Read the directives, which stand above everything else.

        Raises:
            DockerfileError: one is given twice, or the escape character is none of the two.
        """
        found: dict[str, str] = {}
        while not self.ended:
            match = _DIRECTIVE.fullmatch(self._lines[self.number].strip())
            name = match[1].lower() if match else ""
            if match is None or name not in _KNOWN:
                break
            self.number += 1
            if name in found:
                raise self.error(f"the directive {name!r} is given twice", "", "leave one of them")
            found[name] = match[2]
        escape = found.get("escape", "\\")
        if escape not in {"\\", "`"}:
            raise self.error(f"{escape!r} cannot be the escape character", "", "use \\ or `")
        return Directives(escape, found.get("syntax", "").partition(" ")[0])

    def logical(self, escape: str) -> tuple[str, int]:
        """The next instruction's text with its continuations joined, and where it begins; empty at the end."""
        while not self.ended:
            line = self.next().rstrip("\r").lstrip()
            begin = self.number
            if line.startswith("#"):
                continue
            joined, goes_on = _continued(line, escape)
            while goes_on and not self.ended:
                line = self.next().rstrip("\r")
                # Comments and empty lines do not end a continuation.
                if line.lstrip().startswith("#") or not line.strip():
                    continue
                line, goes_on = _continued(line, escape)
                joined += line
            if joined.strip():
                return joined, begin
        return "", self.number

    def heredocs(self, text: str, begin: int) -> tuple[Heredoc, ...]:
        """The here-documents that the instruction ``text`` calls for; they follow its last line.

        Raises:
            DockerfileError: one does not end.
        """
        return tuple(self._heredoc(*mark, begin) for mark in _marks(text))

    def _heredoc(self, name: str, chomp: bool, expands: bool, begin: int) -> Heredoc:
        body: list[str] = []
        while not self.ended:
            line = self.next()
            bare = line.rstrip("\r")
            if (bare.lstrip("\t") if chomp else bare) == name:
                return Heredoc(name, "".join(body), expands)
            body.append((line.lstrip("\t") if chomp else line) + "\n")
        raise self.error(f"the here-document {name!r} does not end", "", f"add a line that says {name}", line=begin)

    def error(self, what: str, why: str = "", todo: str = "", *, line: int = 0) -> DockerfileError:
        """An error at ``line``, or at the last line that was read."""
        return DockerfileError(what, why, todo, file=self.file, line=line or self.number)


def _continued(line: str, escape: str) -> tuple[str, bool]:
    """The line without its continuation mark, and whether it had one. A doubled mark is none."""
    bare = line.rstrip(" \t")
    goes_on = bare.endswith(escape) and not bare.endswith(escape * 2)
    return (bare[:-1], True) if goes_on else (line, False)


def _marks(text: str) -> list[tuple[str, bool, bool]]:
    """The here-documents of a line: the name, whether leading tabs go, whether variables are replaced."""
    if "<<" not in text:
        return []
    try:
        words = expand(text, {}, keep=True, raw=True).words
    except BadSubstitution:
        return []
    found = []
    for match in filter(None, map(_HEREDOC.fullmatch, words)):
        rest = match[2].replace("\0", "")
        try:
            names = expand(rest, {}, keep=True).words
        except BadSubstitution:
            continue
        if len(names) == 1:
            expands = not set("'\"") & set(rest)
            found.append((names[0].replace("\0", ""), match[1] == "-", expands))
    return found
