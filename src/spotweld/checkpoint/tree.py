"""A nested state as JSON, with its arrays taken out as numbered leaves.

How each value is written (docs/format.md has the same table for readers in other languages):

============================  ==================================================
Python                        JSON
============================  ==================================================
None, True, False, str        null, true, false, string
int of at most 53 bits        number
int, longer                   ``{"int": "-0x1f..."}``
float                         ``{"float": "3ff0000000000000"}``: IEEE 754, big-endian
bytes, tensor, array          ``{"leaf": 7}``: index into the manifest's leaves
list, tuple                   ``{"list": [...]}``, ``{"tuple": [...]}``
dict                          ``{"dict": [[key, value], ...]}`` in order
OrderedDict                   ``{"ordered": [...]}``, plus ``"metadata"`` if it has PyTorch's ``_metadata``
Counter                       ``{"counter": [[key, value], ...]}``
set, frozenset                ``{"set": [...]}``, ``{"frozenset": [...]}`` of keys, sorted
deque                         ``{"deque": [...]}``, plus ``"maxlen"`` if it has one
defaultdict                   ``{"default": [[key, value], ...], "factory": "list"}``
============================  ==================================================

Everything else is refused, other subclasses (named tuples, enums) among them: restored as their base class they would
no longer be what the program put in. Of a defaultdict's factories the builtin types are known, and those of this table.
"""

from __future__ import annotations

import re
import struct
from collections import Counter, OrderedDict, defaultdict, deque
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from spotweld.checkpoint.arrays import Leaf, leaf_of
from spotweld.errors import Corrupt, UnsupportedState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Node: TypeAlias = Any
"""What a JSON parser gives: None, bool, int, str, list, dict."""

DEPTH = 100
"""Levels of nesting; what is deeper is a mistake, or an attack on the parser's stack."""
_AROUND = 10
"""Levels that a manifest has around a program's values: those of its parts, of a group, of a leaf."""
_SHORT = 2**53
_PLAIN = re.compile(r"[\w.]+")
_FLOAT = re.compile(r"[0-9a-f]{16}")
_INT = re.compile(r"-?0x[0-9a-f]+")
LISTS = ("list", "tuple", "deque")
"""Tags of what has items, which may be anything."""
DICTS = ("dict", "ordered", "counter", "default")
"""Tags of what has pairs of a key and a value, which may be anything."""
_EXTRAS = {"ordered": "metadata", "deque": "maxlen", "default": "factory"}
"""What may stand beside a tag."""
_CONTAINERS: dict[type, str] = {
    list: "list",
    tuple: "tuple",
    deque: "deque",
    dict: "dict",
    OrderedDict: "ordered",
    Counter: "counter",
    defaultdict: "default",
}
_FACTORIES: dict[str, type] = {
    one.__name__: one
    for one in (bool, int, float, str, bytes, list, tuple, dict, set, frozenset, OrderedDict, Counter, deque)
}
_SETS: dict[type, str] = {set: "set", frozenset: "frozenset"}
_KEYS = (str, int, float, bool, type(None), tuple)


def flatten(value: object, path: str, leaves: list[Leaf]) -> Node:
    """The JSON structure of ``value``; its arrays are appended to ``leaves``.

    Args:
        value: the state.
        path: its name, for errors.
        leaves: those met so far; the structure refers to them by index.

    Raises:
        UnsupportedState: it holds something that cannot be stored; the message names where.
    """
    return _encode(value, path, leaves, [])


def unflatten(node: Node, leaves: Sequence[object]) -> object:
    """The value that ``flatten`` was given, from its structure and its restored leaves.

    Raises:
        Corrupt: the structure is none that ``flatten`` writes.
    """
    return _decode(node, leaves, 0)


def leaf_paths(node: Node, path: str = "") -> dict[int, str]:
    """Where in a structure each leaf stands, by the leaf's number."""
    found: dict[int, str] = {}
    if isinstance(node, dict):
        for tag, content in node.items():
            if tag == "leaf":
                found[content] = path
            elif tag in LISTS:
                for at, item in enumerate(content):
                    found |= leaf_paths(item, f"{path}[{at}]")
            elif tag in DICTS:
                for key, item in content:
                    plain = key if isinstance(key, (str, int)) else str(key)
                    found |= leaf_paths(item, step_into(path, plain) if path else str(plain))
    return found


def step_into(path: str, key: object) -> str:
    """The path of an entry: ``a.b`` for a plain name, else ``a[0]``, ``a['x y']``."""
    return f"{path}.{key}" if isinstance(key, str) and _PLAIN.fullmatch(key) else f"{path}[{key!r}]"


def _encode(value: Any, path: str, leaves: list[Leaf], above: list[int]) -> Node:  # noqa: ANN401
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is int:
        return value if abs(value) < _SHORT else {"int": hex(value)}
    if kind is float:
        return {"float": struct.pack(">d", value).hex()}
    if kind is str:
        return _encode_text(value, path)
    leaf = leaf_of(value, path)
    if leaf is not None:
        leaves.append(leaf)
        return {"leaf": len(leaves) - 1}
    if kind in _SETS:
        items = [_encode_key(item, f"{path} (item)", leaves, above) for item in value]
        # The order of texts in a set is another one in each process, and equal sets are to look equal.
        return {_SETS[kind]: sorted(items, key=msgspec.json.encode)}
    if kind not in _CONTAINERS:
        raise UnsupportedState(
            f"{path} cannot be saved",
            f"it is a {kind.__module__}.{kind.__qualname__}",
            "Keep only tensors, arrays and plain values in the state, or give the object a state_dict().",
        )
    if id(value) in above:
        raise UnsupportedState(f"{path} cannot be saved", "it contains itself")
    if len(above) >= DEPTH:
        raise UnsupportedState(f"{path} cannot be saved", f"it is nested deeper than {DEPTH} levels")
    above.append(id(value))
    node = _encode_container(value, path, leaves, above)
    above.pop()
    return node


def _encode_container(value: Any, path: str, leaves: list[Leaf], above: list[int]) -> Node:  # noqa: ANN401
    tag = _CONTAINERS[type(value)]
    if tag in LISTS:
        node: Node = {tag: [_encode(item, f"{path}[{at}]", leaves, above) for at, item in enumerate(value)]}
        return node | {"maxlen": value.maxlen} if tag == "deque" and value.maxlen is not None else node
    pairs = []
    for key, item in value.items():
        inside = step_into(path, key)
        pairs.append([_encode_key(key, inside, leaves, above), _encode(item, inside, leaves, above)])
    node = {tag: pairs}
    if tag == "default":
        return node | {"factory": _encode_factory(value.default_factory, path)}
    metadata = getattr(value, "_metadata", None) if tag == "ordered" else None
    if metadata is not None:
        node["metadata"] = _encode(metadata, f"{path}._metadata", leaves, above)
    return node


def _encode_factory(factory: object, path: str) -> str | None:
    name = getattr(factory, "__name__", "")
    if factory is not None and _FACTORIES.get(name) is not factory:
        raise UnsupportedState(f"{path} cannot be saved", f"what it makes for a missing key is {factory!r}")
    return None if factory is None else name


def _encode_key(key: object, path: str, leaves: list[Leaf], above: list[int]) -> Node:
    _check_key(key, path)
    return _encode(key, f"{path} (key)", leaves, above)


def _encode_text(text: str, path: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UnsupportedState(f"{path} cannot be saved", f"a text that is not Unicode ({error.reason})") from None
    return text


def _check_key(key: object, path: str) -> None:
    if type(key) not in _KEYS:
        raise UnsupportedState(f"{path} cannot be saved", f"its key is a {type(key).__qualname__}")
    if isinstance(key, tuple):
        for part in key:
            _check_key(part, path)


def _decode(node: Node, leaves: Sequence[object], depth: int) -> Any:  # noqa: ANN401
    if node is None or isinstance(node, (bool, int, str)):
        return node
    if depth > DEPTH + _AROUND:
        raise Corrupt("The checkpoint's tree is damaged", f"it is nested deeper than {DEPTH + _AROUND} levels")
    if isinstance(node, dict) and node:
        tag = next(iter(node))
        if tag in _DECODERS and set(node) <= {tag, _EXTRAS.get(tag, tag)}:
            try:
                return _DECODERS[tag](node, leaves, depth)
            except (TypeError, ValueError, LookupError) as error:
                raise Corrupt("The checkpoint's tree is damaged", f"{tag}: {error}") from None
    raise Corrupt("The checkpoint's tree is damaged", f"unexpected {str(node)[:60]}")


def _decode_ordered(node: Node, leaves: Sequence[object], depth: int) -> OrderedDict[Any, Any]:
    value = OrderedDict(_pairs(node["ordered"], leaves, depth))
    if "metadata" in node:
        value._metadata = _decode(node["metadata"], leaves, depth + 1)  # type: ignore[attr-defined]  # noqa: SLF001
    return value


def _decode_default(node: Node, leaves: Sequence[object], depth: int) -> defaultdict[Any, Any]:
    factory = None if node["factory"] is None else _FACTORIES[node["factory"]]
    return defaultdict(factory, _pairs(node["default"], leaves, depth))


def _decode_deque(node: Node, leaves: Sequence[object], depth: int) -> deque[Any]:
    value = deque(_items(node["deque"], leaves, depth))
    if "maxlen" not in node:
        return value
    if type(node["maxlen"]) is not int or node["maxlen"] < len(value):
        msg = f"{len(value)} items where {node['maxlen']!r} are the most"
        raise ValueError(msg)
    return deque(value, node["maxlen"])


def _items(content: Node, leaves: Sequence[object], depth: int) -> Iterable[Any]:
    return (_decode(item, leaves, depth + 1) for item in content)


def _pairs(content: Node, leaves: Sequence[object], depth: int) -> Iterable[tuple[Any, Any]]:
    for key, item in content:
        yield _decode(key, leaves, depth + 1), _decode(item, leaves, depth + 1)


def _decode_float(content: Node) -> float:
    if not _FLOAT.fullmatch(content):
        msg = f"not a float: {content[:20]!r}"
        raise ValueError(msg)
    (value,) = struct.unpack(">d", bytes.fromhex(content))
    return float(value)


def _decode_int(content: Node) -> int:
    if not _INT.fullmatch(content):
        msg = f"not an int: {content[:20]!r}"
        raise ValueError(msg)
    return int(content, 16)


def _decode_leaf(content: Node, leaves: Sequence[object]) -> object:
    if type(content) is not int or content < 0:
        msg = f"not an index: {content!r}"
        raise ValueError(msg)
    return leaves[content]


_DECODERS: dict[str, Callable[[Node, Sequence[object], int], object]] = {
    "int": lambda node, _leaves, _depth: _decode_int(node["int"]),
    "float": lambda node, _leaves, _depth: _decode_float(node["float"]),
    "leaf": lambda node, leaves, _depth: _decode_leaf(node["leaf"], leaves),
    "list": lambda node, leaves, depth: list(_items(node["list"], leaves, depth)),
    "tuple": lambda node, leaves, depth: tuple(_items(node["tuple"], leaves, depth)),
    "set": lambda node, leaves, depth: set(_items(node["set"], leaves, depth)),
    "frozenset": lambda node, leaves, depth: frozenset(_items(node["frozenset"], leaves, depth)),
    "deque": _decode_deque,
    "dict": lambda node, leaves, depth: dict(_pairs(node["dict"], leaves, depth)),
    "ordered": _decode_ordered,
    "default": _decode_default,
    "counter": lambda node, leaves, depth: Counter(dict(_pairs(node["counter"], leaves, depth))),
}
