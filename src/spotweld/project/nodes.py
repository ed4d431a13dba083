"""YAML as a tree of nodes that know where they stand.

The tree is built from the parser's events rather than from its own objects, because every limit has to hold before
memory and the call stack are used up: the depth, the number of nodes that aliases expand to, and aliases that lead
back to themselves. Plain scalars get their type by the core schema of YAML 1.2 (section 10.3.2), in which ``no`` and
``12:30`` are text. Tags are refused, so no object of any kind can be asked for.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any, NoReturn

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from spotweld.errors import ProjectError
from spotweld.project.words import quoted

DEEPEST = 20
"""Levels of nesting; a project file needs seven."""
MOST_NODES = 20_000
"""After aliases have been expanded."""


class Kind(StrEnum):
    """What a scalar is, in the words of messages."""

    TEXT = "text"
    NUMBER = "a number"
    BOOLEAN = "true or false"
    NOTHING = "nothing"


_CORE = (
    (Kind.NOTHING, re.compile(r"null|Null|NULL|~|")),
    (Kind.BOOLEAN, re.compile(r"true|True|TRUE|false|False|FALSE")),
    (Kind.NUMBER, re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")),
    (Kind.NUMBER, re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")),
    (Kind.NUMBER, re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")),
)
_SURROGATE = re.compile("[\ud800-\udfff]")


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


def parse(text: str, file: str) -> Node | None:
    """The one document in ``text``; None if there is none.

    Raises:
        ProjectError: not YAML 1.2, or something in it that a project file may not hold.
    """
    yaml = YAML(typ="safe", pure=True)
    growing = _Growing(file)
    try:
        for event in yaml.parse(text):
            growing.take(event)
    except MarkedYAMLError as error:
        raise _not_yaml(error, text, file) from None
    except ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise ProjectError(
            f"the character U+{ord(str(error.character)[:1] or chr(0)):04X} cannot stand in a YAML file",
            "only printable characters, tabs and line breaks can",
            "remove it, or write it as an escape in double quotes",
            file=file,
            line=line,
            column=column,
        ) from None
    except YAMLError as error:
        raise ProjectError("this is not valid YAML", str(error).splitlines()[0], file=file) from None
    return growing.root


class _Growing:
    """The tree while events arrive."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.root: Node | None = None
        self.open: list[Items | Pairs] = []
        self.anchors: dict[str, Node] = {}
        self.documents = 0

    def take(self, event: Any) -> None:  # noqa: ANN401 - the parser's events have no common type with marks
        mark = event.start_mark
        line, column = mark.line + 1, mark.column + 1
        match event:
            case DocumentStartEvent():
                self.documents += 1
                if self.documents > 1:
                    self._refuse("a second document begins here", "a project file is one document", line, column)
                if event.version is not None and tuple(event.version) != (1, 2):
                    self._refuse("the file asks for another version of YAML", "it is read as YAML 1.2", line, column)
            case AliasEvent():
                self._add(self._known(event.anchor, line, column), line, column)
            case ScalarEvent():
                self._add(self._scalar(event, line, column), line, column, event.anchor)
            case SequenceStartEvent() | MappingStartEvent():
                self._refuse_tag(event, line, column)
                if len(self.open) >= DEEPEST:
                    self._refuse("nested too deeply", f"at most {DEEPEST} levels are read", line, column)
                grown = Items if isinstance(event, SequenceStartEvent) else Pairs
                node = grown(line, column)
                if event.anchor is not None:
                    self.anchors[event.anchor] = node
                self.open.append(node)
            case SequenceEndEvent() | MappingEndEvent():
                node = self.open.pop()
                self._add(node, node.line, node.column)

    def _scalar(self, event: ScalarEvent, line: int, column: int) -> Scalar:
        self._refuse_tag(event, line, column)
        if _SURROGATE.search(event.value):
            self._refuse("half a character stands here", "an escape names a surrogate", line, column)
        # The first of the two says that a plain scalar's type may be told from its text.
        kind = kind_of(event.value) if event.implicit[0] else Kind.TEXT
        return Scalar(event.value, kind, line, column)

    def _add(self, node: Node, line: int, column: int, anchor: str | None = None) -> None:
        if anchor is not None:
            self.anchors[anchor] = node
        if not self.open:
            self.root = node
            return
        parent = self.open[-1]
        parent.size += node.size
        if parent.size + sum(above.size for above in self.open[:-1]) > MOST_NODES:
            self._refuse(
                "too much is in this file", f"aliases and all, at most {MOST_NODES} values are read", line, column
            )
        if isinstance(parent, Items):
            parent.items.append(node)
        elif parent.key is None:
            parent.key = self._as_key(node, parent, line, column)
        else:
            parent.pairs[parent.key.text] = (parent.key, node)
            parent.key = None

    def _as_key(self, node: Node, parent: Pairs, line: int, column: int) -> Scalar:
        if not isinstance(node, Scalar):
            what = "a list" if isinstance(node, Items) else "a mapping"
            self._refuse(f"{what} stands where a key is needed", "keys are text", line, column)
        if node.kind is not Kind.TEXT:
            shown = quoted(node.text)
            self._refuse(
                f"the key {shown[1:-1]} is {node.kind}", "keys are text", line, column, f"write {shown} in quotes"
            )
        if node.text == "<<":
            why = "merge keys left YAML with version 1.2"
            self._refuse("a merge key (<<) cannot be used", why, line, column, "write the keys out")
        if node.text in parent.pairs:
            first = parent.pairs[node.text][0]
            why = f"it was given before, on line {first.line}"
            self._refuse(f"the key {quoted(node.text)} stands twice", why, line, column, "remove one of the two")
        return node

    def _known(self, anchor: str, line: int, column: int) -> Node:
        if anchor not in self.anchors:
            self._refuse(
                f"nothing is called &{anchor}", "an alias repeats what an anchor named before it", line, column
            )
        node = self.anchors[anchor]
        if any(node is above for above in self.open):
            self._refuse(f"*{anchor} stands inside what it repeats", "that would never end", line, column)
        return node

    def _refuse_tag(self, event: Any, line: int, column: int) -> None:  # noqa: ANN401 - see above
        if event.tag is not None:
            self._refuse(f"the tag {quoted(str(event.tag))} cannot be used", "project files are plain", line, column)

    def _refuse(self, what: str, why: str, line: int, column: int, todo: str = "") -> NoReturn:
        raise ProjectError(what, why, todo, file=self.file, line=line, column=column)


def kind_of(text: str) -> Kind:
    """What a plain scalar with this text is, by the core schema."""
    return next((kind for kind, form in _CORE if form.fullmatch(text)), Kind.TEXT)


def _not_yaml(error: MarkedYAMLError, text: str, file: str) -> ProjectError:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    found = text.splitlines()[line - 1 : line] if line else []
    if found and "\t" in found[0][: max(column, len(found[0]) - len(found[0].lstrip()))]:
        return ProjectError(
            "a tab stands where YAML wants spaces",
            "YAML does not let tabs indent",
            "indent with spaces",
            file=file,
            line=line,
            column=found[0].index("\t") + 1,
        )
    why = " ".join(str(part) for part in (error.context, error.problem) if part)
    return ProjectError("this is not valid YAML", why, file=file, line=line, column=column)
