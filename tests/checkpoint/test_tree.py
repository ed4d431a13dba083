from __future__ import annotations

import contextlib
import math
import struct
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from enum import IntEnum
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spotweld.checkpoint.arrays import Leaf, allocate, build, copy_part, flat
from spotweld.checkpoint.tree import DEPTH, flatten, unflatten
from spotweld.errors import Corrupt, UnsupportedState

floats = st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack(">d", bits.to_bytes(8, "big"))[0])
texts = st.text(st.characters(exclude_categories=["Cs"]))
scalars = st.none() | st.booleans() | st.integers() | st.integers(-(2**200), 2**200) | floats | texts
keys = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=4)
trees = st.recursive(
    scalars | st.binary(max_size=80),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
        | st.dictionaries(keys, inner, max_size=3).map(OrderedDict)
        | st.dictionaries(keys, inner, max_size=3).map(Counter)
        | st.builds(defaultdict, st.sampled_from([None, int, list, dict, Counter]), st.dictionaries(keys, inner))
        | st.lists(inner, max_size=4).map(deque)
        | st.lists(inner, max_size=4).map(lambda items: deque(items, len(items) + 1))
        | st.sets(keys, max_size=4)
        | st.frozensets(keys, max_size=4)
    ),
    max_leaves=20,
)


def restored(leaves: list[Leaf]) -> list[object]:
    values = []
    for leaf in leaves:
        memory = allocate(leaf.size)
        if leaf.size:
            copy_part(flat(leaf), 0, memory)
        values.append(build(leaf.kind, leaf.dtype, leaf.shape, memory))
    return values


def round_trip(value: object) -> Any:  # noqa: ANN401
    leaves: list[Leaf] = []
    node = flatten(value, "x", leaves)
    return unflatten(msgspec.json.decode(msgspec.json.encode(node)), restored(leaves))


def same(one: object, other: object) -> bool:
    """Equal in value, type and order, and floats in every bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return struct.pack(">d", one) == struct.pack(">d", other)
    if isinstance(one, defaultdict) and one.default_factory is not other.default_factory:
        return False
    if isinstance(one, deque) and one.maxlen != other.maxlen:
        return False
    if isinstance(one, (list, tuple, deque)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, (set, frozenset)):
        return sorted(map(repr, one)) == sorted(map(repr, other))
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    return one == other


@given(trees)
def test_what_goes_in_comes_out(value: object) -> None:
    assert same(round_trip(value), value)


def test_equal_sets_look_equal() -> None:
    one, other = set([8, 0]), set([0, 8])  # noqa: C405 - they collide, and lie in the order in which they came
    assert list(one) != list(other)
    assert flatten(one, "x", []) == flatten(other, "x", [])


def test_metadata_of_modules_survives() -> None:
    state = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)).state_dict()
    back = round_trip(state)
    assert type(back) is OrderedDict
    assert back._metadata == state._metadata
    assert list(back) == list(state)


def test_large_integers_pass_pythons_limit_for_decimal_digits() -> None:
    assert round_trip(-(7**9000)) == -(7**9000)


class Colour(IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": [{"b": object()}]}, "x.a[0].b"),
        ({"a b": {3: Path()}}, "x['a b'][3]"),
        (Colour.RED, "x"),
        ([1, namedtuple("P", "a")(1)], "x[1]"),  # noqa: PYI024
        (defaultdict(lambda: 1), "x"),
        (defaultdict(int, a=object()), "x.a"),
        (Counter(a=object()), "x.a"),
        ({1.5: {1, b"a"}}, "x[1.5] (item)"),
        (frozenset([(1, Colour.RED)]), "x (item)"),
        (deque([0, object()]), "x[1]"),
        (1j, "x"),
        (bytearray(b"a"), "x"),
        (torch.float32, "x"),
        ("\ud800", "x"),
        ({b"a": 1}, "x[b'a']"),
        ({(1, Colour.RED): 1}, "x[(1, <Colour.RED: 1>)]"),
        ({"deep.name": lambda: 0}, "x.deep.name"),
    ],
)
def test_what_cannot_be_stored_is_named_with_its_place(value: object, path: str) -> None:
    with pytest.raises(UnsupportedState) as caught:
        flatten(value, "x", [])
    assert str(caught.value).startswith(f"{path} cannot be saved: ")


def test_a_state_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop += [loop, loop]
    with pytest.raises(UnsupportedState, match="contains itself"):
        flatten(loop, "x", [])


def test_nesting_has_a_limit_in_both_directions() -> None:
    def nested(levels: int) -> Any:  # noqa: ANN401
        value: Any = 1
        for _ in range(levels):
            value = [value]
        return value

    assert same(round_trip(nested(DEPTH)), nested(DEPTH))
    with pytest.raises(UnsupportedState, match="deeper"):
        flatten(nested(DEPTH + 1), "x", [])
    node: Any = 1
    for _ in range(DEPTH + 15):
        node = {"list": [node]}
    with pytest.raises(Corrupt, match="deeper"):
        unflatten(node, [])


@pytest.mark.parametrize(
    "node",
    [
        [],
        {},
        {"list": 3},
        {"list": [1], "tuple": [2]},
        {"float": "3ff"},
        {"float": 1},
        {"int": "12"},
        {"int": 5},
        {"leaf": 1},
        {"leaf": -1},
        {"leaf": True},
        {"leaf": "0"},
        {"dict": [[1]]},
        {"dict": [[{"list": []}, 1]]},
        {"dict": 7},
        {"ordered": [[{"dict": []}, 1]]},
        {"ordered": [], "more": 1},
        {"set": [{"list": []}]},
        {"frozenset": 3},
        {"counter": [1]},
        {"default": []},
        {"default": [], "factory": "eval"},
        {"default": [], "factory": ["list"]},
        {"deque": [1, 2], "maxlen": 1},
        {"deque": [], "maxlen": "1"},
        {"deque": [], "maxlen": -1},
        {"list": [], "maxlen": 1},
        {"pickle": "gASVAAAA"},
        1.5,
    ],
)
def test_a_structure_that_nobody_writes_is_damage(node: object) -> None:
    with pytest.raises(Corrupt):
        unflatten(node, [b""])


TAGS = [
    "dict",
    "list",
    "leaf",
    "int",
    "float",
    "ordered",
    "metadata",
    "set",
    "counter",
    "deque",
    "maxlen",
    "default",
    "factory",
    "x",
]
anything = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.floats(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(TAGS), inner, max_size=2),
    max_leaves=15,
)


@given(anything)
def test_any_json_is_read_or_refused(node: object) -> None:
    with contextlib.suppress(Corrupt):
        unflatten(node, [b"", np.zeros(3)])


def test_nan_keeps_its_payload() -> None:
    value = struct.unpack(">d", bytes.fromhex("7ff8deadbeef0001"))[0]
    assert math.isnan(value)
    assert struct.pack(">d", round_trip([value])[0]).hex() == "7ff8deadbeef0001"
