"""From a node and the shape it should have to a value, or to one error that says where and why not."""

from __future__ import annotations

import pathlib
import re
from typing import Any, NoReturn

import msgspec

from spotweld.errors import ProjectError
from spotweld.project.nodes import Items, Kind, Node, Pairs, Scalar
from spotweld.project.shapes import Choice, Named, Number, Path, Several, Shape, Table, Text, Truth, Whole
from spotweld.project.words import listed, nearest, quoted
from spotweld.values.money import Money

_WHOLE = re.compile(r"[-+]?[0-9]+")
_DECIMAL = re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?")

OUTSIDE = "a machine that builds gets this folder and nothing else"
MOVE = "move it there, or the project file to a folder above"


class Sheet(msgspec.Struct, frozen=True):
    """What is known while one file is checked."""

    file: str
    folder: pathlib.Path
    """Absolute; relative paths start here."""
    root: Node | None = None
    """The whole file."""
    money: list[tuple[Money, str, Scalar]] = []
    """Every amount of money that was read, the key it belongs to and its node."""

    def node(self, *keys: str) -> Node | None:
        """The value that stands under ``keys``, or the innermost of them that is there."""
        found = value = self.root
        for key in keys:
            if not isinstance(value, Pairs) or key not in value.pairs:
                return found
            found, value = value.pairs[key]
        return value

    def holds(self, path: pathlib.Path) -> bool:
        """Whether ``path`` is the file's folder or below it, after all symbolic links."""
        return path.resolve().is_relative_to(self.folder.resolve())

    def refuse(self, node: Node | None, what: str, why: str = "", todo: str = "") -> NoReturn:
        """Raise the error that stands at ``node``."""
        line, column = (node.line, node.column) if node else (1, 1)
        raise ProjectError(what, why, todo, file=self.file, line=line, column=column)


def check(shape: Shape, node: Node, at: str, sheet: Sheet) -> Any:  # noqa: ANN401 - as many types as there are shapes
    """The value that ``node`` stands for.

    Args:
        shape: what it should be.
        node: what is there.
        at: the keys that lead to it, with dots between them; empty at the top.
        sheet: the file.

    Raises:
        ProjectError: it is something else.
    """
    match shape:
        case Text():
            return _text(shape, node, at, sheet)
        case Whole():
            return _whole(shape, node, at, sheet)
        case Number():
            return _number(shape, node, at, sheet)
        case Truth():
            return _truth(node, at, sheet)
        case Choice():
            return _choice(shape, node, at, sheet)
        case Path():
            return _path(shape, node, at, sheet)
        case Several():
            return _several(shape, node, at, sheet)
        case Named():
            return _named(shape, node, at, sheet)
        case Table():
            return _table(shape, node, at, sheet, {})


def _scalar(node: Node, at: str, wanted: str, todo: str, sheet: Sheet) -> Scalar:
    if not isinstance(node, Scalar):
        found = "a list" if isinstance(node, Items) else "a mapping of keys to values"
        sheet.refuse(node, f"{at} holds {found}", f"{wanted} is needed here", todo)
    if node.kind is Kind.NOTHING:
        sheet.refuse(node, f"{at} has no value", f"{wanted} is needed here", f"{todo}, or remove the key")
    return node


def _text(shape: Text, node: Node, at: str, sheet: Sheet) -> Any:  # noqa: ANN401 - whatever the shape reads
    todo = f"write for example {_written(at, shape.example)}"
    node = _scalar(node, at, shape.noun, todo, sheet)
    shown = "its value" if shape.secret else quoted(node.text)
    if len(node.text) > shape.longest:
        sheet.refuse(node, f"{at} is too long", f"at most {shape.longest} characters are read", todo)
    if re.fullmatch(shape.form, node.text) is None:
        sheet.refuse(node, f"{at}: {shown} is not {shape.noun}", shape.rule, todo)
    if node.kind is not Kind.TEXT:
        what = f"{at}: {shown if shape.secret else shown[1:-1]} is {node.kind}"
        sheet.refuse(node, what, "text is needed here", f"put it in quotes{'' if shape.secret else ': ' + shown}")
    try:
        value = shape.read(node.text)
    except ValueError as error:
        sheet.refuse(node, f"{at}: {shown} is not {shape.noun}", str(error), todo)
    if isinstance(value, Money):
        sheet.money.append((value, at, node))
    return value


def _whole(shape: Whole, node: Node, at: str, sheet: Sheet) -> int:
    bounds = f"a whole number from {shape.least} to {shape.most}"
    todo = f"write for example {_key(at)}: {max(shape.least, min(3, shape.most))}"
    node = _scalar(node, at, bounds, todo, sheet)
    shown = quoted(node.text)
    if node.kind is not Kind.NUMBER or not _WHOLE.fullmatch(node.text):
        sheet.refuse(node, f"{at}: {shown} is not a whole number", f"{bounds} is needed here", todo)
    # Twenty digits are more than any bound, and int() of millions of digits takes minutes or raises.
    if len(node.text) > 20 or not shape.least <= int(node.text) <= shape.most:
        sheet.refuse(node, f"{at}: {shown[1:-1]} is out of range", f"{bounds} is needed here", todo)
    return int(node.text)


def _number(shape: Number, node: Node, at: str, sheet: Sheet) -> float:
    bounds = f"a number above {shape.above:g} and up to {shape.most:g}"
    todo = f"write for example {_key(at)}: 1"
    node = _scalar(node, at, bounds, todo, sheet)
    shown = quoted(node.text)
    if node.kind is not Kind.NUMBER or not _DECIMAL.fullmatch(node.text):
        sheet.refuse(node, f"{at}: {shown} is not a number", f"{bounds} is needed here", todo)
    if not shape.above < float(node.text) <= shape.most:
        sheet.refuse(node, f"{at}: {shown[1:-1]} is out of range", f"{bounds} is needed here", todo)
    return float(node.text)


def _truth(node: Node, at: str, sheet: Sheet) -> bool:
    todo = f"write {_key(at)}: true, or {_key(at)}: false"
    node = _scalar(node, at, "true or false", todo, sheet)
    if node.kind is not Kind.BOOLEAN:
        sheet.refuse(node, f"{at}: {quoted(node.text)} is not known", "it takes true or false", todo)
    return node.text.lower() == "true"


def _choice(shape: Choice, node: Node, at: str, sheet: Sheet) -> Any:  # noqa: ANN401 - a member of the enumeration
    words = [str(word) for word in shape.of]
    todo = f"write one of {listed(words)}"
    node = _scalar(node, at, "a word", todo, sheet)
    if node.kind is not Kind.TEXT or node.text not in words:
        near = nearest(node.text, words)
        why = f"it takes {listed(words)}"
        sheet.refuse(node, f"{at}: {quoted(node.text)} is not known", why, f"did you mean {near}?" if near else todo)
    return shape.of(node.text)


def _path(shape: Path, node: Node, at: str, sheet: Sheet) -> pathlib.Path:
    noun = "a folder" if shape.folder else "a file"
    todo = f"give the path of {noun}, relative to {quoted(sheet.file, 80)}"
    node = _scalar(node, at, f"the path of {noun}", todo, sheet)
    if node.kind is not Kind.TEXT:
        shown = quoted(node.text)
        sheet.refuse(node, f"{at}: {shown[1:-1]} is {node.kind}", "a path is needed here", f"put it in quotes: {shown}")
    path = sheet.folder / node.text
    try:
        there = bool(node.text) and (path.is_dir() if shape.folder else path.is_file())
        different = not there and path.exists()
    except (OSError, ValueError):
        there, different = False, False
    if not there:
        why = f"{noun} is needed here" if different else f"there is nothing at {quoted(str(path), 120)}"
        what = f"is not {noun}" if different else "does not exist"
        sheet.refuse(node, f"{at}: {quoted(node.text)} {what}", why, todo)
    if shape.inside and not sheet.holds(path):
        sheet.refuse(node, f"{at}: {quoted(node.text)} is outside the project's folder", OUTSIDE, MOVE)
    return path


def _several(shape: Several, node: Node, at: str, sheet: Sheet) -> tuple[Any, ...]:
    todo = f"write {_key(at)}: [..., ...]"
    if not isinstance(node, Items):
        found = quoted(node.text) if isinstance(node, Scalar) else "a mapping of keys to values"
        what = f"{at} is {found}, not a list"
        sheet.refuse(node, what, "a list is needed here", todo)
    if not shape.least <= len(node.items) <= shape.most:
        sheet.refuse(node, f"{at} has {len(node.items)} values", f"it takes {shape.least} to {shape.most}", todo)
    return tuple(check(shape.of, item, f"{at}[{i}]", sheet) for i, item in enumerate(node.items))


def _named(shape: Named, node: Node, at: str, sheet: Sheet) -> Any:  # noqa: ANN401 - whatever the shape becomes
    pairs = _pairs(node, at, f"names with {_noun(shape.value)} each", sheet)
    if not shape.least <= len(pairs.pairs) <= shape.most:
        what = f"{at} has {len(pairs.pairs)} entries"
        sheet.refuse(node, what, f"it takes {shape.least} to {shape.most}", f"give a name and {_noun(shape.value)}")
    found: dict[str, Any] = {}
    for name, (key, value) in pairs.pairs.items():
        if len(name) > shape.name.longest or re.fullmatch(shape.name.form, name) is None:
            what, todo = f"{at}: {quoted(name)} is not {shape.name.noun}", f"write for example {shape.name.example}"
            sheet.refuse(key, what, shape.name.rule, todo)
        inner = f"{at}.{name}"
        if isinstance(shape.value, Table):
            found[name] = _table(shape.value, value, inner, sheet, {"name": name})
        else:
            found[name] = check(shape.value, value, inner, sheet)
    return shape.becomes(found)


def _table(shape: Table, node: Node, at: str, sheet: Sheet, given: dict[str, Any]) -> Any:  # noqa: ANN401 - see above
    if shape.short and isinstance(node, Scalar):
        return shape.becomes(**given, **{shape.short: check(shape.keys[shape.short].shape, node, at, sheet)})
    pairs = _pairs(node, at, f"the keys of {shape.noun}", sheet)
    for name, (key, _) in pairs.pairs.items():
        if name not in shape.keys:
            near = nearest(name, shape.keys)
            todo = f"did you mean {near}?" if near else f"remove it; the keys are {listed(shape.keys)}"
            where = f" ({at})" if at else ""
            sheet.refuse(key, f"unknown key {quoted(name)}", f"{shape.noun}{where} has no such key", todo)
    for name, known in shape.keys.items():
        if known.required and name not in pairs.pairs:
            what = f"{at} has no {name}" if at else f"{name} is missing"
            example = known.shape.example if isinstance(known.shape, Text) else f"...  ({known.about})"
            sheet.refuse(node, what, f"{shape.noun} needs one", f"add {name}: {example}")
    prefix = f"{at}." if at else ""
    values = {
        name: check(shape.keys[name].shape, value, prefix + name, sheet) for name, (_, value) in pairs.pairs.items()
    }
    misfit = shape.misfit(values) if shape.misfit else None
    if misfit is not None:
        name, why, todo = misfit
        what = f"{prefix}{name} does not fit" if name in pairs.pairs else f"{at} has no {name}"
        sheet.refuse(pairs.pairs[name][0] if name in pairs.pairs else node, what, why, todo)
    return shape.becomes(**given, **values)


def _pairs(node: Node, at: str, wanted: str, sheet: Sheet) -> Pairs:
    if not isinstance(node, Pairs):
        empty = isinstance(node, Scalar) and node.kind is Kind.NOTHING
        found = "nothing" if empty else "a list" if isinstance(node, Items) else quoted(node.text)
        where = at or "the file"
        sheet.refuse(node, f"{where} holds {found}", f"{wanted} are needed here", "write key: value, one on a line")
    return node


def _noun(shape: Shape) -> str:
    return shape.noun if isinstance(shape, Table | Text) else "a value"


def _key(at: str) -> str:
    return at.rpartition(".")[2].partition("[")[0]


def _written(at: str, value: str) -> str:
    return f"{_key(at)}: [{value}]" if at.endswith("]") else f"{_key(at)}: {value}"
