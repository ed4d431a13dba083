"""A Dockerfile as a value: its stages and their instructions, each with the lines on which it stands.

Nothing is replaced and nothing is looked up here. ``docs/decisions/0010-dockerfile-parser.md`` says why this parser is
our own, and which others it is compared with in the tests.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import msgspec

from spotweld.images.dockerfiles.lines import Cursor, Directives, Heredoc
from spotweld.images.dockerfiles.spacing import squeezed
from spotweld.project.words import nearest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_SPACES = re.compile(r"[\t\v\f\r ]+")
_NAME = re.compile(r"[a-z][a-z0-9._-]*")


class Instruction(msgspec.Struct, frozen=True):
    """One instruction.

    Attributes:
        word: in capitals.
        flags: as they stand, without quotes: ``--from=build``.
        arguments: the words. Of a command in its shell form, and of ``USER``, ``WORKDIR`` and such, the one text; of
            ``ENV`` and ``LABEL``, one ``NAME=value`` each, with the value's quotes.
        heredocs: the here-documents that it calls for.
        line: where it begins, from 1.
        text: the whole of it in one line, without its here-documents.
        end: its last line, here-documents included.
        listed: whether the arguments were given as a JSON list.
    """

    word: str
    flags: tuple[str, ...]
    arguments: tuple[str, ...]
    heredocs: tuple[Heredoc, ...]
    line: int
    text: str
    end: int
    listed: bool = False

    def flag(self, name: str) -> str:
        """The value of the last flag of that name, or nothing."""
        return next(iter(reversed(self.values(name))), "")

    def values(self, name: str) -> tuple[str, ...]:
        """The values of all flags of that name, in order."""
        return tuple(flag.partition("=")[2] for flag in self.flags if flag.partition("=")[0] == f"--{name}")


class Stage(msgspec.Struct, frozen=True):
    """What one ``FROM`` begins. ``instructions[0]`` is that ``FROM``; ``name`` is in small letters, or empty."""

    name: str
    base: str
    platform: str
    instructions: tuple[Instruction, ...]


class Dockerfile(msgspec.Struct, frozen=True):
    """The parsed file. ``arguments`` are the ``ARG`` instructions above the first ``FROM``."""

    stages: tuple[Stage, ...]
    arguments: tuple[Instruction, ...]
    directives: Directives
    source: str
    file: str

    def prefix(self, instruction: Instruction) -> str:
        """The file's text up to the end of ``instruction``."""
        return "\n".join(self.source.split("\n")[: instruction.end]) + "\n"


def text_of(path: Path) -> str:
    """The file's text with its carriage returns: in a here-document they belong to what is copied or run.

    Raises:
        OSError: it cannot be read.
        UnicodeDecodeError: it is not text.
    """
    return path.read_bytes().decode("utf-8")


def parse(text: str, file: str = "Dockerfile") -> Dockerfile:
    """Parse the text of a Dockerfile.

    Args:
        text: the whole file.
        file: its name, for errors.

    Raises:
        DockerfileError: it breaks a rule; the error has the line.
    """
    cursor = Cursor(text, file)
    bad = re.search("[\0\ud800-\udfff]", text)
    if bad:
        line = text.count("\n", 0, bad.start()) + 1
        raise cursor.error("the file is not text", f"it holds {bad[0]!r}", "save it as UTF-8", line=line)
    directives = cursor.directives()
    found: list[Instruction] = []
    while instruction := _instruction(cursor, directives.escape):
        found.append(instruction)
    first = next((at for at, one in enumerate(found) if one.word == "FROM"), len(found))
    for one in found[:first]:
        if one.word != "ARG":
            raise cursor.error(f"{one.word} stands before FROM", "only ARG may", "begin with FROM", line=one.line)
    if first == len(found):
        raise cursor.error("there is no FROM", "", "begin with FROM and the image to build upon")
    starts = [at for at, one in enumerate(found) if one.word == "FROM"]
    ends = [*starts[1:], len(found)]
    stages = tuple(_stage(cursor, tuple(found[a:b])) for a, b in zip(starts, ends, strict=True))
    return Dockerfile(stages, tuple(found[:first]), directives, text, file)


def trigger(instruction: Instruction, escape: str, file: str = "Dockerfile") -> Instruction:
    """The instruction that an ``ONBUILD`` keeps for later, at the same lines.

    Raises:
        DockerfileError: it breaks a rule.
    """
    cursor = Cursor("", file)
    kept = _of_text(cursor, instruction.arguments[0], instruction.line, escape)
    return msgspec.structs.replace(kept, heredocs=instruction.heredocs, end=instruction.end)


def kept_by(start: Instruction, text: str) -> Instruction:
    """The ``ONBUILD`` by which the base of a stage has kept an instruction, at the lines of the stage's ``FROM``."""
    return Instruction("ONBUILD", (), (text,), (), start.line, f"ONBUILD {text}", start.end)


def _stage(cursor: Cursor, instructions: tuple[Instruction, ...]) -> Stage:
    start = instructions[0]
    words = start.arguments
    if len(words) not in {1, 3} or (len(words) == 3 and words[1].lower() != "as"):
        raise cursor.error("FROM is not understood", " ".join(words), "write FROM IMAGE [AS NAME]", line=start.line)
    name = words[2].lower() if len(words) == 3 else ""
    if name and not _NAME.fullmatch(name):
        why = "a stage's name begins with a letter and holds letters, digits, dots, dashes and underscores"
        raise cursor.error(f"{words[2]!r} cannot be a stage's name", why, line=start.line)
    return Stage(name, words[0], start.flag("platform"), instructions)


def _instruction(cursor: Cursor, escape: str) -> Instruction | None:
    text, line = cursor.logical(escape)
    if not text:
        return None
    found = _of_text(cursor, text, line, escape)
    calls = trigger(found, escape, cursor.file) if found.word == "ONBUILD" else found
    heredocs = cursor.heredocs(text, line) if calls.word in {"ADD", "COPY", "RUN"} and not calls.listed else ()
    if calls.word in {"ADD", "COPY"} and len(calls.arguments) < 2:
        raise cursor.error(
            f"{calls.word} needs a source and a destination", "", f"write {calls.word} SOURCE DESTINATION", line=line
        )
    return msgspec.structs.replace(found, heredocs=heredocs, end=cursor.number)


def _of_text(cursor: Cursor, text: str, line: int, escape: str) -> Instruction:
    head, _, rest = _cut(text.strip())
    word = head.upper()
    read = _READERS.get(word)
    if read is None:
        guess = nearest(word, _READERS)
        raise cursor.error(f"there is no instruction {head!r}", "", f"write {guess}" if guess else "", line=line)
    flags, rest = _flags(rest, escape)
    try:
        listed, arguments = read(rest.strip(), escape)
    except ValueError as error:
        raise cursor.error(f"{word} is not understood", str(error), line=line) from None
    if not arguments and not listed:
        raise cursor.error(f"{word} needs an argument", "", "add one, or remove the line", line=line)
    if word == "ONBUILD":
        inner = _of_text(cursor, arguments[0], line, escape).word
        if inner in {"FROM", "MAINTAINER", "ONBUILD"}:
            raise cursor.error(f"ONBUILD cannot keep {inner}", "", "remove the line", line=line)
    return Instruction(word, flags, arguments, (), line, text.strip(), line, listed)


def _cut(text: str) -> tuple[str, str, str]:
    match = _SPACES.search(text)
    return (text[: match.start()], match[0], text[match.end() :]) if match else (text, "", "")


def _flags(rest: str, escape: str) -> tuple[tuple[str, ...], str]:
    """The flags at the beginning, without their quotes, and what follows them."""
    flags: list[str] = []
    at = 0
    while True:
        while rest[at : at + 1].isspace():
            at += 1
        if not rest.startswith("--", at):
            return tuple(flags), rest[at:]
        flag, at = _word(rest, at, escape, bare=True)
        if flag == "--":
            return tuple(flags), rest[at:]
        flags.append(flag)


def _word(text: str, at: int, escape: str, *, bare: bool) -> tuple[str, int]:
    """The word that begins at ``at``, up to a space outside quotes; ``bare`` leaves quotes and escapes out."""
    out: list[str] = []
    quote = ""
    while at < len(text) and (quote or not text[at].isspace()):
        char = text[at]
        at += 1
        if char == escape and (bare or quote != "'"):
            out.append("" if bare or at == len(text) else char)
            out.append(text[at : at + 1])
            at += 1
        elif char == quote or (not quote and char in "'\""):
            quote = "" if quote else char
            out.append("" if bare else char)
        else:
            out.append(char)
    return "".join(out), min(at, len(text))


def _words(text: str, escape: str) -> tuple[str, ...]:
    found: list[str] = []
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        word, at = _word(text, at, escape, bare=False)
        if word:
            found.append(word)
    return tuple(found)


_Read = tuple[bool, tuple[str, ...]]


def _text(rest: str, _escape: str) -> _Read:
    return False, (rest,) if rest else ()


def _split(rest: str, _escape: str) -> _Read:
    return False, tuple(_SPACES.split(rest)) if rest else ()


def _names(rest: str, escape: str) -> _Read:
    words = _words(rest, escape)
    if any(word.startswith("=") for word in words):
        raise ValueError("there is no name before '='")
    return False, words


def _pairs(rest: str, escape: str) -> _Read:
    _, words = _names(rest, escape)
    if words and "=" not in words[0]:
        # The old form: a name, and all the rest is its value.
        name, space, value = _cut(rest)
        if not space:
            raise ValueError("there is no '=' after the name")
        return False, (f"{name}={value}",)
    for word in words:
        if "=" not in word:
            raise ValueError(f"{word!r} has no '='")
    return False, words


def _list(rest: str) -> tuple[str, ...] | None:
    """The strings of a JSON list; None if it is none.

    Raises:
        ValueError: it is a list of something else.
    """
    if not rest.startswith("["):
        return None
    try:
        found = json.loads(rest, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(one, str) for one in found):
        raise ValueError("a list may hold nothing but strings in double quotes")
    return tuple(re.sub("[\0\ud800-\udfff]", "\ufffd", one) for one in found)


def _refuse(name: str) -> None:
    raise ValueError(name)


def _paths(rest: str, escape: str) -> _Read:
    listed = _list(rest)
    return _split(rest, escape) if listed is None else (True, listed)


def _command(rest: str, _escape: str) -> _Read:
    listed = _list(rest)
    if listed is not None:
        return True, listed
    return False, (rest,) if rest else ()


def _health(rest: str, escape: str) -> _Read:
    kind, _, command = _cut(rest)
    listed, arguments = _command(command.strip(), escape)
    return listed, (kind.upper(), *arguments) if kind else ()


_READERS: dict[str, Callable[[str, str], _Read]] = {
    "ADD": _paths,
    "ARG": _names,
    "CMD": _command,
    "COPY": _paths,
    "ENTRYPOINT": _command,
    "ENV": _pairs,
    "EXPOSE": _split,
    "FROM": _split,
    "HEALTHCHECK": _health,
    "LABEL": _pairs,
    "MAINTAINER": _text,
    "ONBUILD": _text,
    "RUN": _command,
    "SHELL": _command,
    "STOPSIGNAL": _text,
    "USER": _text,
    "VOLUME": _paths,
    "WORKDIR": _text,
}


def meaning(instruction: Instruction, *, shell: bool = True) -> tuple[str, ...]:
    """The arguments as they count: without the spaces that the shell does not see.

    Args:
        instruction: one of the file's.
        shell: whether commands go to the usual shell; another one may have other rules for spaces.
    """
    commands = {"RUN", "CMD", "ENTRYPOINT", "HEALTHCHECK"}
    if instruction.word not in commands or instruction.listed or not shell:
        return instruction.arguments
    *before, command = instruction.arguments
    return (*before, squeezed(command))
