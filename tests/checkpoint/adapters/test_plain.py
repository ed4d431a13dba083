from __future__ import annotations

import enum
from collections import Counter, OrderedDict, defaultdict, deque
from pathlib import Path

import pytest
import torch

from spotweld.checkpoint.adapters.plain import from_plain, to_plain
from spotweld.checkpoint.tree import flatten, unflatten
from spotweld.errors import UnsupportedState


class Colour(enum.StrEnum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


@pytest.mark.parametrize(
    "value",
    [
        Counter({3: 2, 5: 1}),
        {"milestones": Counter([1, 1, 2]), "nested": [(1, {2.5}), frozenset({"a"})]},
        deque([1, 2], maxlen=3),
        defaultdict(list, {"a": [{1}, torch.float16]}),
        deque([Path("a")]),
        Path("a/b"),
        torch.float16,
        torch.device("cpu"),
        OrderedDict(a=1),
        {"spotweld.type": "counter"},
        {(1, "x"): None, True: b"bytes"},
    ],
)
def test_what_a_framework_holds_comes_back(value: object) -> None:
    node = flatten(to_plain(value), "x", leaves := [])
    back = from_plain(unflatten(node, [leaf.source for leaf in leaves]))
    assert back == value
    assert type(back) is type(value)


def test_a_deque_keeps_its_bound() -> None:
    assert from_plain(to_plain(deque([1], 7))).maxlen == 7


def test_members_of_enums_become_what_they_equal() -> None:
    plain = to_plain({Colour.RED: [Number.ONE, torch.Size([2, 3])]})
    assert plain == {"red": [1, (2, 3)]}
    assert [type(key) for key in plain] == [str]
    assert type(plain["red"][0]) is int


def test_tensors_pass_untouched() -> None:
    tensor = torch.ones(2)
    assert to_plain({"a": tensor})["a"] is tensor


def test_what_is_not_known_is_left_to_be_refused() -> None:
    with pytest.raises(UnsupportedState, match=r"x\.f"):
        flatten(to_plain({"f": print}), "x", [])


def test_a_type_that_is_not_known_is_not_made() -> None:
    with pytest.raises(KeyError):
        from_plain({"spotweld.type": "os.system", "value": "true"})
    with pytest.raises(KeyError):
        from_plain({"spotweld.type": "torch.dtype", "value": "load"})


def test_a_module_keeps_its_metadata() -> None:
    state = torch.nn.BatchNorm1d(2).state_dict()
    assert from_plain(to_plain(state))._metadata == state._metadata
