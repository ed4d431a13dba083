"""YAML as a tree of nodes that know where they stand.

The tree is built from the parser's events rather than from its own objects, because every limit has to hold before
memory and the call stack are used up: the depth, the number of nodes that aliases expand to, and aliases that lead
back to themselves. Plain scalars get their type by the core schema of YAML 1.2 (section 10.3.2), in which ``no`` and
``12:30`` are text. Tags are refused, so no object of any kind can be asked for.
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

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
from spotweld.project.nodes import Items, Kind, Node, Pairs, Scalar, kind_of
from spotweld.project.words import quoted

DEEPEST = 20
"""Levels of nesting; a project file needs seven."""
MOST_NODES = 20_000
"""After aliases have been expanded."""
_HINTS = (
    ("mapping values are not allowed", 'put text that holds ": " in quotes, or begin a new line before the key'),
    ("expected <block end>", "let the keys of one mapping begin in the same column"),
    ("end of stream", "close the quote before the end of the file"),
    ("stream end", "close the bracket before the end of the file"),
    ("could not find expected ':'", "write key: value, with a space after the colon"),
    ("cannot start any token", "put text that begins with this character in quotes"),
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_At = tuple[int, int]


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
            f"the character U+{ord(text[error.position]):04X} cannot stand in a YAML file",
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
        at = (event.start_mark.line + 1, event.start_mark.column + 1)
        match event:
            case DocumentStartEvent():
                self._begin(event, at)
            case AliasEvent():
                self._add(self._known(event.anchor, at), at)
            case ScalarEvent():
                self._add(self._scalar(event, at), at, event.anchor)
            case SequenceStartEvent() | MappingStartEvent():
                self._refuse_tag(event, at)
                if len(self.open) >= DEEPEST:
                    why = f"at most {DEEPEST} levels are read"
                    self._refuse("nested too deeply", why, "a project file needs seven levels", at)
                node = Items(*at) if isinstance(event, SequenceStartEvent) else Pairs(*at)
                if event.anchor is not None:
                    self.anchors[event.anchor] = node
                self.open.append(node)
            case SequenceEndEvent() | MappingEndEvent():
                node = self.open.pop()
                self._add(node, (node.line, node.column))

    def _begin(self, event: DocumentStartEvent, at: _At) -> None:
        self.documents += 1
        if self.documents > 1:
            todo = "remove this line and what follows, or split the file"
            self._refuse("a second document begins here", "a project file is one document", todo, at)
        if event.version is not None and tuple(event.version) != (1, 2):
            todo = "remove the %YAML line"
            self._refuse("the file asks for another version of YAML", "it is read as YAML 1.2", todo, at)

    def _scalar(self, event: ScalarEvent, at: _At) -> Scalar:
        self._refuse_tag(event, at)
        if _SURROGATE.search(event.value):
            todo = "write the character itself"
            self._refuse("half a character stands here", "an escape names a surrogate", todo, at)
        # The first of the two says that a plain scalar's type may be told from its text.
        kind = kind_of(event.value) if event.implicit[0] else Kind.TEXT
        return Scalar(event.value, kind, *at)

    def _add(self, node: Node, at: _At, anchor: str | None = None) -> None:
        if anchor is not None:
            self.anchors[anchor] = node
        if not self.open:
            self.root = node
            return
        parent = self.open[-1]
        parent.size += node.size
        if sum(above.size for above in self.open) > MOST_NODES:
            why = f"at most {MOST_NODES} values are read, with what aliases repeat"
            self._refuse("too much is in this file", why, "a project file needs a few dozen values", at)
        if isinstance(parent, Items):
            parent.items.append(node)
        elif parent.key is None:
            parent.key = self._as_key(node, parent, at)
        else:
            if isinstance(node, Scalar) and node.kind is Kind.NOTHING and not node.text:
                # The parser places what is not there at the next thing that is.
                node = Scalar("", Kind.NOTHING, parent.key.line, parent.key.column)
            parent.pairs[parent.key.text] = (parent.key, node)
            parent.key = None

    def _as_key(self, node: Node, parent: Pairs, at: _At) -> Scalar:
        if not isinstance(node, Scalar):
            what = "a list" if isinstance(node, Items) else "a mapping"
            self._refuse(f"{what} stands where a key is needed", "keys are text", "write key: value", at)
        shown = quoted(node.text)
        if node.kind is not Kind.TEXT:
            self._refuse(f"the key {shown[1:-1]} is {node.kind}", "keys are text", f"put it in quotes: {shown}", at)
        if node.text == "<<":
            why = "merge keys left YAML with version 1.2"
            self._refuse("a merge key (<<) cannot be used", why, "write the keys out", at)
        if node.text in parent.pairs:
            why = f"it was given before, on line {parent.pairs[node.text][0].line}"
            self._refuse(f"the key {shown} stands twice", why, "remove one of the two", at)
        return node

    def _known(self, anchor: str, at: _At) -> Node:
        todo = "write the value out"
        if anchor not in self.anchors:
            why = "an alias repeats what an anchor (&) named before it"
            self._refuse(f"no anchor is called {quoted(anchor)}", why, f"{todo}, or quote text that begins with *", at)
        node = self.anchors[anchor]
        if any(node is above for above in self.open):
            self._refuse(f"the alias {quoted(anchor)} stands inside what it repeats", "that would never end", todo, at)
        return node

    def _refuse_tag(self, event: Any, at: _At) -> None:  # noqa: ANN401 - see above
        if event.tag is not None:
            what = f"the tag {quoted(str(event.tag))} cannot be used"
            self._refuse(what, "a project file holds plain values", "remove it, or quote text that begins with !", at)

    def _refuse(self, what: str, why: str, todo: str, at: _At) -> NoReturn:
        raise ProjectError(what, why, todo, file=self.file, line=at[0], column=at[1])


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
    todo = next((todo for words, todo in _HINTS if words in why), "compare with: spotweld init --schema")
    return ProjectError("this is not valid YAML", why, todo, file=file, line=line, column=column)
