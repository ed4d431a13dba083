"""Paths into a saved tree: what everything in it is called, and the part of it that was chosen by such names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from spotweld.checkpoint.tree import DICTS, LISTS, Node, step_into, unflatten
from spotweld.errors import UsageError
from spotweld.project.words import nearest, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_BRANCHES = (*LISTS, *DICTS)


class Entry(msgspec.Struct, frozen=True):
    """An end of a tree: an array, a plain value, or a container with nothing in it."""

    part: str
    """The name of the part of the state that it belongs to."""
    path: str
    """Such as ``model.layer1.weight`` or ``optimizer.state[0].step``; no other entry has the same."""
    node: Node
    namesakes: int = 0
    """How many before it would have the same path."""

    @property
    def leaf(self) -> int | None:
        """The number of the leaf; None: it is no array."""
        found: int | None = self.node.get("leaf") if isinstance(self.node, dict) else None
        return found


def entries(tree: Node) -> list[Entry]:
    """All ends of a checkpoint's tree, in order. Where two would be called the same, the later one gets a ``#2``.

    Args:
        tree: of a state or of generators; ``unflatten`` has been seen to take it.
    """
    found: list[Entry] = []
    used: set[str] = set()
    counts: dict[str, int] = {}
    for part, path, node in _ends(tree, "", "", root=True):
        count = counts.get(path, 0) + 1
        name = path if count == 1 else f"{path}#{count}"
        while name in used:
            count += 1
            name = f"{path}#{count}"
        used.add(name)
        counts[path] = count
        found.append(Entry(part, name, node, count - 1))
    return found


def chosen(every: Sequence[Entry], only: str | Iterable[str] | None) -> list[bool]:
    """Which of the entries are meant.

    Args:
        every: all of them.
        only: paths of entries or of what holds some: ``model``, ``model.layer1``, ``optimizer.state[0]``; None: all.

    Raises:
        UsageError: nothing is called so.
    """
    if only is None:
        return [True] * len(every)
    wanted = [only] if isinstance(only, str) else list(only)
    names = frozenset(wanted)
    found = [names.intersection(_above(entry.path)) for entry in every]
    met = set[str]().union(*found)
    for name in wanted:
        if name not in met:
            near = nearest(name, _known(every))
            raise UsageError(
                f"The checkpoint has no {quoted(name, 120)}",
                f"its parts are {', '.join(quoted(part) for part in parts(every)[:20])}",
                f"Did you mean {near}?" if near else "",
            )
    return [bool(one) for one in found]


def parts(every: Iterable[Entry]) -> list[str]:
    """The names of the parts that these entries belong to, in order."""
    return list(dict.fromkeys(entry.part for entry in every))


def prune(tree: Node, flags: Iterable[bool], missing: Node) -> Node:
    """The tree without what was not chosen.

    Args:
        tree: as for ``entries``.
        flags: from ``chosen``.
        missing: stands in lists, tuples and deques for what was left out, so that the rest keeps its place.
    """
    kept = _prune(tree, iter(flags), missing)
    return {"dict": []} if kept is _NOTHING else kept


def map_leaves(tree: Node, number: Callable[[int], int]) -> Node:
    """The tree with other numbers for its leaves."""
    if not isinstance(tree, dict):
        return tree
    tag, content = next(iter(tree.items()))
    if tag == "leaf":
        return {"leaf": number(content)}
    if tag in LISTS:
        return tree | {tag: [map_leaves(item, number) for item in content]}
    if tag in DICTS:
        return tree | {tag: [[key, map_leaves(item, number)] for key, item in content]}
    return tree


_NOTHING: Any = object()


def _ends(node: Node, part: str, path: str, *, root: bool = False) -> Iterator[tuple[str, str, Node]]:
    tag = next(iter(node)) if isinstance(node, dict) else ""
    if tag not in _BRANCHES or not node[tag]:
        if not root:
            yield part, path, node
    elif tag in LISTS:
        for at, item in enumerate(node[tag]):
            yield from _ends(item, part, f"{path}[{at}]")
    else:
        for key, item in node[tag]:
            name = unflatten(key, ())
            yield from _ends(item, part or str(name), step_into(path, name) if path else str(name))


def _prune(node: Node, flags: Iterator[bool], missing: Node, *, root: bool = True) -> Node:
    tag = next(iter(node)) if isinstance(node, dict) else ""
    if tag not in _BRANCHES or not node[tag]:
        return node if root or next(flags) else _NOTHING
    if tag in LISTS:
        items = [_prune(item, flags, missing, root=False) for item in node[tag]]
        if all(item is _NOTHING for item in items):
            return _NOTHING
        return node | {tag: [missing if item is _NOTHING else item for item in items]}
    pairs = [[key, _prune(item, flags, missing, root=False)] for key, item in node[tag]]
    pairs = [pair for pair in pairs if pair[1] is not _NOTHING]
    return node | {tag: pairs} if pairs else _NOTHING


def _above(path: str) -> Iterator[str]:
    """The names that stand for a path: its own, and those of what holds it."""
    for at, character in enumerate(f"{path}."):
        if character in ".[":
            yield path[:at]


def _known(every: Iterable[Entry]) -> Iterable[str]:
    """Names that somebody may have meant: of the entries and of what holds them."""
    return dict.fromkeys(name for entry in every for name in _above(entry.path))
