from __future__ import annotations

from collections import Counter, defaultdict, deque
from typing import Any

import numpy as np
import pytest
import torch

from spotweld.checkpoint.sampler import Sampler
from spotweld.checkpoint.state import check_parts, put_back, take
from spotweld.checkpoint.tree import flatten
from spotweld.errors import StateMismatch, UsageError


def model() -> torch.nn.Sequential:
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))


def trained() -> dict[str, Any]:
    torch.manual_seed(1)
    net = model()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    for _ in range(3):
        optimizer.zero_grad()
        net(torch.rand(5, 3)).sum().backward()
        optimizer.step()
        schedule.step()
    return {"net": net, "optimizer": optimizer, "schedule": schedule}


def test_modules_optimizers_and_schedules_become_what_they_were() -> None:
    saved, fresh = trained(), trained_fresh()
    put_back(fresh, take(saved))
    for old, new in zip(saved["net"].state_dict().values(), fresh["net"].state_dict().values(), strict=True):
        assert torch.equal(old, new)
    assert fresh["schedule"].state_dict() == saved["schedule"].state_dict()
    old, new = saved["optimizer"].state_dict(), fresh["optimizer"].state_dict()
    assert old["param_groups"] == new["param_groups"]
    for index, values in old["state"].items():
        assert all(torch.equal(values[name], new["state"][index][name]) for name in values)


def trained_fresh() -> dict[str, Any]:
    net = model()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    return {
        "net": net,
        "optimizer": optimizer,
        "schedule": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10),
    }


def test_arrays_and_containers_are_restored_in_place() -> None:
    tensor, array, inner = torch.zeros(3), np.zeros(2), np.zeros(1)
    log: dict[str, Any] = {"old": 1, "inner": inner, "list": [torch.zeros(2)]}
    first = log["list"][0]
    rows: list[Any] = []
    state = {"tensor": tensor, "array": array, "log": log, "rows": rows}
    saved = {
        "tensor": torch.arange(3.0),
        "array": np.arange(2.0),
        "log": {"new": (1, 2), "inner": np.ones(1), "list": [torch.ones(2), "more"]},
        "rows": [1.5, 2.5],
    }
    put_back(state, saved)
    assert tensor.tolist() == [0, 1, 2]
    assert array.tolist() == [0, 1]
    assert list(log) == ["new", "inner", "list"]
    assert log["inner"] is inner
    assert inner[0] == 1
    assert log["list"][0] is first
    assert first.tolist() == [1, 1]
    assert log["list"][1] == "more"
    assert rows == [1.5, 2.5]


def test_other_containers_stay_the_same_objects_too() -> None:
    log = {"counts": Counter("a"), "seen": {1}, "latest": deque([torch.zeros(2)], 2), "bound": deque([1], 2)}
    log["curves"] = defaultdict(list, loss=[1.0])
    before = dict(log)
    saved = {
        "counts": Counter("bb"),
        "seen": {2, 3},
        "latest": deque([torch.ones(1), 5], 2),
        "bound": deque([1, 2, 3], 3),
        "curves": defaultdict(list, loss=[1.0, 2.0], rate=[0.5]),
    }
    put_back({"log": log}, {"log": saved})
    assert log == saved
    assert all(log[name] is before[name] for name in ("counts", "seen", "latest", "curves"))
    assert log["bound"].maxlen == 3


def test_every_scheduler_of_pytorch_can_be_saved() -> None:
    """That with milestones counts them in a ``Counter``."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    schedules = torch.optim.lr_scheduler
    made = {
        "milestones": schedules.MultiStepLR(optimizer, [2, 4, 4]),
        "plateau": schedules.ReduceLROnPlateau(optimizer),
        "cycle": schedules.OneCycleLR(optimizer, 0.1, total_steps=9),
        "up and down": schedules.CyclicLR(optimizer, 0.1, 0.2, cycle_momentum=False),
        "warm": schedules.CosineAnnealingWarmRestarts(optimizer, 5),
        "two": schedules.SequentialLR(
            optimizer, [schedules.ConstantLR(optimizer), schedules.StepLR(optimizer, 2)], [3]
        ),
        "average": torch.optim.swa_utils.SWALR(optimizer, 0.05),
        "function": schedules.LambdaLR(optimizer, lambda epoch: 0.9**epoch),
    }
    for name, schedule in made.items():
        assert flatten(schedule.state_dict(), name, [])


def test_a_parameter_that_requires_a_gradient_is_restored_in_place() -> None:
    weight = torch.zeros(2, requires_grad=True)
    put_back({"w": weight}, {"w": torch.ones(2)})
    assert weight.tolist() == [1, 1]
    assert weight.is_leaf


def frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("now", "then", "path"),
    [
        (torch.zeros(2), torch.zeros(3), "part"),
        (torch.zeros(2), torch.zeros(2, dtype=torch.float64), "part"),
        (torch.zeros(2), np.zeros(2), "part"),
        (torch.zeros(2), [0.0, 0.0], "part"),
        (np.zeros(2), np.zeros(2, dtype=">f8"), "part"),
        (frozen(np.zeros(2)), np.zeros(2), "part"),
        ({"a": [np.zeros(2)]}, {"a": [np.zeros(3)]}, "part.a[0]"),
        ({"a b": np.zeros(2)}, {"a b": 7}, "part['a b']"),
        ({}, [], "part"),
        ([], {}, "part"),
        (torch.nn.Linear(2, 2), torch.nn.Linear(2, 3).state_dict(), "part.weight"),
        (torch.nn.Linear(2, 2), torch.nn.Linear(2, 2, dtype=torch.float64).state_dict(), "part.weight"),
        (torch.nn.Linear(2, 2), torch.nn.Linear(2, 2, bias=False).state_dict(), "part does not fit: only the"),
        (torch.nn.Linear(2, 2), 5, "part does not accept"),
        (torch.optim.SGD([torch.zeros(1)], 0.1), {"param_groups": [], "state": {}}, "part does not accept"),
        (Sampler(4, 2), Sampler(5, 2).state_dict(), "part: The sampler"),
        (Sampler(4, 2), {}, "part: The sampler"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_changed(now: object, then: object, path: str) -> None:
    other = torch.zeros(2)
    with pytest.raises(StateMismatch) as caught:
        put_back({"part": now, "zz": other}, {"part": then, "zz": torch.ones(2)})
    assert str(caught.value).startswith(path)
    assert other.tolist() == [0, 0]


def test_other_parts_are_a_mismatch() -> None:
    with pytest.raises(StateMismatch, match=r"\['a'\] then, \['b'\] now"):
        put_back({"b": {}}, {"a": {}})
    with pytest.raises(StateMismatch):
        put_back({"b": {}}, [])
    with pytest.raises(StateMismatch, match=r"\['3', 'a'\] then"):
        put_back({"b": {}}, {"a": {}, 3: {}})


@pytest.mark.parametrize("part", [5, "text", (1, 2), None, np.float32(1), b"ab", {1, 2}])
def test_parts_that_cannot_change_in_place_are_refused(part: object) -> None:
    with pytest.raises(UsageError, match=r"state\['x'\] cannot be restored in place"):
        check_parts({"x": part})


@pytest.mark.parametrize("name", ["", 5, None])
def test_parts_have_names(name: Any) -> None:  # noqa: ANN401
    with pytest.raises(UsageError, match="named by strings"):
        check_parts({name: {}})
