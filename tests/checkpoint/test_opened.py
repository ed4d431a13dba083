"""Reading a checkpoint: what it is called, how little is fetched, what is put where, and that nothing is written."""

from __future__ import annotations

import sys
from collections import Counter, OrderedDict, defaultdict, deque
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.checkpoint.saved import model, save

import spotweld
from spotweld import open_checkpoint
from spotweld.checkpoint.choice import chosen, entries, parts, prune
from spotweld.checkpoint.opened import Checkpoint
from spotweld.checkpoint.tree import DEPTH, flatten
from spotweld.errors import Corrupt, NotFound, NoWholeCheckpoint, StateMismatch, UsageError
from spotweld.store.heads import read_head, take_over

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Watched

LARGE = 2**20


def kept_keys(store: Watched) -> list[str]:
    head = read_head(store, "default")
    assert head is not None
    return [kept.key for kept in head.kept]


def test_arrays_are_called_by_their_paths(store: Watched) -> None:
    optimizer = {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1, "x y": np.zeros(2)}]}
    save(store, {"model": model(), "optimizer": optimizer, "bare": torch.ones(1)})
    checkpoint = open_checkpoint(store)
    assert checkpoint.names() == [
        *(f"model.{name}" for name in model().state_dict()),
        "optimizer.state[0].exp_avg",
        "optimizer.param_groups[0]['x y']",
        "bare",
    ]
    assert checkpoint.step == 1
    assert checkpoint.size == sum(value.nbytes for value in model().state_dict().values()) + 8 + 16 + 4
    assert "step 1 of default" in repr(checkpoint)


def test_it_is_part_of_what_the_package_offers() -> None:
    assert spotweld.open_checkpoint is open_checkpoint
    assert "open_checkpoint" in spotweld.__all__


def test_names_that_would_be_the_same_get_a_number(store: Watched) -> None:
    one, two, three = torch.ones(1), torch.ones(2), torch.ones(3)
    save(store, {"part": {"a": {"b": one}, "a.b": two}, "part.a": {"b": three}})
    checkpoint = open_checkpoint(store)
    assert checkpoint.names() == ["part.a.b", "part.a.b#2", "part.a.b#3"]
    assert torch.equal(checkpoint.load("part.a.b#3")["part.a"]["b"], three)
    mine = {"b": torch.zeros(3)}
    checkpoint.load_into({"part.a": mine})
    assert torch.equal(mine["b"], three)


def test_a_part_without_a_name_can_be_left_out() -> None:
    """No program can save one, but somebody may have written the manifest by hand."""
    tree = {"dict": [["", 1], ["a", 2]]}
    every = entries(tree)
    assert [entry.path for entry in every] == ["", "a"]
    assert prune(tree, chosen(every, "a"), None) == {"dict": [["a", 2]]}


def test_the_whole_state_comes_back(store: Watched) -> None:
    log = {"x": [1, (2.5, None), b"raw"], "big": 2**70, (1, "k"): np.arange(3), "none": {}, "empty": np.zeros((0, 2))}
    net = model()
    save(store, {"model": net, "log": log})
    found = open_checkpoint(store).load()
    assert type(found["model"]) is OrderedDict
    assert found["model"]._metadata == net.state_dict()._metadata
    assert all(torch.equal(found["model"][name], value) for name, value in net.state_dict().items())
    assert found["log"]["x"] == log["x"]
    assert found["log"]["big"] == 2**70
    assert found["log"][1, "k"].tolist() == [0, 1, 2]
    assert found["log"]["empty"].shape == (0, 2)
    found["log"][1, "k"][0] = 5  # it is the caller's own


@pytest.mark.parametrize("wrap", [lambda value: [value], lambda value: {"a": value}])
def test_what_is_nested_as_deeply_as_can_be_saved_comes_back(store: Watched, wrap: Callable[[Any], Any]) -> None:
    deep: Any = 0.5
    for _ in range(DEPTH):
        deep = wrap(deep)
    save(store, {"part": deep})
    assert open_checkpoint(store).load() == {"part": deep}


def test_what_was_not_chosen_is_missing_in_dicts_and_none_in_lists(store: Watched) -> None:
    log = {"list": [1, [2, 3], {"a": 4}], "tuple": (5, 6), "rest": 7, "latest": deque([8, 9], 3)}
    save(store, {"model": model(), "log": log})
    checkpoint = open_checkpoint(store)
    assert list(checkpoint.load("model.0")["model"]) == ["0.weight", "0.bias"]
    assert checkpoint.load(["log.list[1]", "log.tuple[0]"]) == {
        "log": {"list": [None, [2, 3], None], "tuple": (5, None)}
    }
    assert checkpoint.load("log.rest") == {"log": {"rest": 7}}
    latest = checkpoint.load("log.latest[1]")["log"]["latest"]
    assert (latest, latest.maxlen) == (deque([None, 9]), 3)
    assert checkpoint.load([]) == {}


@pytest.mark.parametrize(
    ("name", "todo"), [("modle", "model"), ("model.0.wieght", "model.0.weight"), ("model.", "model"), ("zzz", "")]
)
def test_a_name_that_nothing_has_is_refused(store: Watched, name: str, todo: str) -> None:
    save(store, {"model": model()})
    with pytest.raises(UsageError, match="The checkpoint has no") as caught:
        open_checkpoint(store).load(name)
    assert todo in caught.value.todo
    assert '"model"' in caught.value.why


def test_many_names_are_found_without_comparing_each_with_each() -> None:
    def calls(count: int) -> int:
        tree = flatten({"model": {f"layers.{at}.weight": at for at in range(count)}}, "", [])
        every, seen = entries(tree), Counter[str]()
        names = [entry.path for entry in every]
        sys.setprofile(lambda _frame, event, _argument: seen.update([event]))
        try:
            assert all(chosen(every, names))
        finally:
            sys.setprofile(None)
        return seen.total()

    assert calls(400) < 5 * calls(100)


def test_only_chunks_that_hold_something_chosen_are_fetched(store: Watched) -> None:
    state = {name: torch.full((LARGE,), at, dtype=torch.uint8) for at, name in enumerate("abcd")}
    save(store, {"big": state, "small": {"x": torch.ones(3)}})
    spans: list[int] = []
    inner = store.inner.get
    store.inner.get = lambda key, *, start=0, length=None: (  # type: ignore[method-assign]
        spans.append(length or 0) if "/packs/" in key else None,
        inner(key, start=start, length=length),
    )[1]
    checkpoint = open_checkpoint(store)
    assert spans == []
    assert checkpoint.load("big.c")["big"]["c"][0] == 2
    assert spans == [LARGE]
    checkpoint.load("small")
    assert spans == [LARGE, 4096]


def test_reading_writes_nothing_and_takes_nothing_over(store: Watched) -> None:
    save(store, {"model": model()})
    before = store.get("runs/default/head")
    store.calls.clear()
    checkpoint = open_checkpoint(store)
    checkpoint.load()
    checkpoint.load_into({"model": model(2)})
    assert {verb for verb, _ in store.calls} == {"get"}
    assert store.get("runs/default/head") == before


def test_tensors_are_converted_on_the_way(store: Watched) -> None:
    state = {"f": torch.ones(3), "i": torch.ones(3, dtype=torch.int32), "c": torch.ones(2, dtype=torch.complex64)}
    save(store, {"part": state | {"n": np.ones(2), "t": 0.5}})
    checkpoint = open_checkpoint(store)
    for dtype in (torch.bfloat16, "bfloat16", "torch.bfloat16"):
        found = checkpoint.load(dtype=dtype)["part"]
        assert [found[name].dtype for name in "fic"] == [torch.bfloat16, torch.int32, torch.complex64]
        assert found["n"].dtype == np.float64
        assert found["t"] == 0.5
    assert checkpoint.load(device="meta")["part"]["f"].is_meta
    for wrong in ("int32", "nonsense", "nn"):
        with pytest.raises(UsageError, match="no floating-point dtype"):
            checkpoint.load(dtype=wrong)


def test_the_newest_is_opened_unless_a_step_is_named(store: Watched) -> None:
    for step in (1, 2, 3):
        save(store, {"x": {"step": step}}, step)
    assert open_checkpoint(store).load() == {"x": {"step": 3}}
    assert open_checkpoint(store, step=2).load() == {"x": {"step": 2}}
    with pytest.raises(UsageError, match="no checkpoint of step 9") as caught:
        open_checkpoint(store, step=9)
    assert caught.value.why == "it has 3, 2, 1"


def test_there_must_be_such_a_run(store: Watched) -> None:
    with pytest.raises(UsageError, match='no run "none"'):
        open_checkpoint(store, "none")
    for name in ("../x", "", "a/b", ".."):
        with pytest.raises(UsageError, match="cannot be a run's name"):
            open_checkpoint(store, name)
    take_over(store, "begun", 0)
    with pytest.raises(UsageError, match="no checkpoint yet"):
        open_checkpoint(store, "begun")


def test_a_damaged_manifest_is_passed_over_with_a_warning(store: Watched, caplog: pytest.LogCaptureFixture) -> None:
    for step in (1, 2):
        save(store, {"x": {"step": step}}, step)
    newest, older = kept_keys(store)
    store.put(newest, b"rubbish")
    assert open_checkpoint(store).step == 1
    assert "step 2" in caplog.text
    with pytest.raises(Corrupt):
        open_checkpoint(store, step=2)
    store.put(older, b"rubbish")
    with pytest.raises(NoWholeCheckpoint, match="All 2 checkpoints"):
        open_checkpoint(store)


def test_damaged_data_is_never_handed_out(store: Watched) -> None:
    save(store, {"x": torch.ones(100)})
    (pack,) = store.keys("runs/default/packs/")
    store.put(pack, bytes(byte ^ 1 for byte in store.get(pack)))
    with pytest.raises(Corrupt, match="is damaged"):
        open_checkpoint(store).load("x")


def test_a_checkpoint_that_the_run_drops_meanwhile_is_said_to_be_dropped(store: Watched) -> None:
    save(store, {"x": torch.ones(3)}, 1)
    checkpoint = open_checkpoint(store)
    save(store, {"x": torch.ones(4)}, 2, keep_last=1)
    with pytest.raises(NotFound, match="was dropped while it was read"):
        checkpoint.load()
    (pack,) = store.keys("runs/default/packs/")
    store.delete(pack)
    with pytest.raises(NotFound, match="There is no object"):
        open_checkpoint(store).load()


def test_a_run_that_goes_on_between_two_looks_is_looked_at_again(store: Watched) -> None:
    save(store, {"x": torch.ones(3)}, 1)

    def overtake(_verb: str, key: str) -> None:
        if "/manifests/" in key:
            store.before = lambda _verb, _key: None
            save(store, {"x": torch.ones(4)}, 2, keep_last=1)

    store.before = overtake
    assert open_checkpoint(store).step == 2


def test_a_manifest_that_is_lost_is_not_looked_for_forever(store: Watched) -> None:
    save(store, {"x": torch.ones(3)})
    store.delete(kept_keys(store)[0])
    with pytest.raises(NotFound):
        open_checkpoint(store)


@pytest.mark.parametrize("state", [{"list": []}, {"tuple": ["group", {"dict": []}]}, {"tuple": []}, 5])
def test_a_state_without_parts_is_damaged(store: Watched, state: object) -> None:
    save(store, {"x": torch.ones(3)})
    checkpoint = open_checkpoint(store)
    with pytest.raises(Corrupt, match="no parts"):
        Checkpoint(store, checkpoint.kept, replace(checkpoint.manifest, state=state))


def test_parts_are_put_back_in_place(store: Watched) -> None:
    trained = model(1)
    save(store, {"model": trained, "log": {"n": 5}, "bare": torch.ones(3)})
    fresh, bare = model(2), torch.zeros(3)
    address = fresh[0].weight.data_ptr()
    open_checkpoint(store).load_into({"model": fresh, "bare": bare})
    assert fresh[0].weight.data_ptr() == address
    assert all(
        torch.equal(one, other)
        for one, other in zip(fresh.state_dict().values(), trained.state_dict().values(), strict=True)
    )
    assert torch.equal(bare, torch.ones(3))


def test_a_layer_alone_is_put_back_and_the_rest_stays(store: Watched) -> None:
    trained = model(1)
    then = {"list": [1, 2, 3], "deep": {"a": 1, "b": 2}, "latest": deque([1, 2], 2), "only then": 4}
    save(store, {"model": trained, "log": then})
    fresh, log = model(2), {"list": [7, 8, 9], "deep": {"a": 5, "b": 6}, "latest": deque([7, 8], 2), "only now": 8}
    before = fresh[1].weight.clone()
    open_checkpoint(store).load_into(
        {"model": fresh, "log": log}, ["model.0", "log.list[1]", "log.deep.b", "log.latest[0]"]
    )
    assert torch.equal(fresh[0].weight, trained[0].weight)
    assert torch.equal(fresh[1].weight, before)
    assert log == {"list": [7, 2, 9], "deep": {"a": 5, "b": 2}, "latest": deque([1, 8]), "only now": 8}
    open_checkpoint(store).load_into({"model": fresh, "log": log}, only="log")
    assert log == then


def test_of_the_dicts_in_a_list_only_what_was_chosen_is_put_back(store: Watched) -> None:
    optimizer = torch.optim.SGD(model().parameters(), lr=0.5, momentum=0.9)
    save(store, {"optimizer": optimizer, "log": {"all": [{"a": 1, "b": 2}], "some": ({"a": 3, "b": 4}, [5])}})
    fresh = torch.optim.SGD(model().parameters(), lr=0.1, momentum=0.1)
    log = {"all": [{"a": 6, "b": 7}], "some": ({"a": 8, "b": 9}, [10])}
    checkpoint = open_checkpoint(store)
    live = {"optimizer": fresh, "log": log}
    checkpoint.load_into(live, ["optimizer.param_groups[0].lr", "log.all[0].a", "log.some[0].b", "log.some[1]"])
    assert (fresh.param_groups[0]["lr"], fresh.param_groups[0]["momentum"]) == (0.5, 0.1)
    assert log == {"all": [{"a": 1, "b": 7}], "some": ({"a": 8, "b": 4}, [5])}
    log["all"] = [{"a": 11}, {"a": 12}]
    with pytest.raises(StateMismatch, match="only some were asked for"):
        checkpoint.load_into(live, "log.all[0].a")
    checkpoint.load_into(live, "log.all")
    assert log["all"] == [{"a": 1, "b": 2}]


def test_what_does_not_fit_is_refused_before_anything_is_changed(store: Watched) -> None:
    save(store, {"model": model(), "log": {"list": [1, 2]}})
    checkpoint = open_checkpoint(store)
    other = torch.nn.Sequential(torch.nn.Linear(3, 5))
    before = other[0].weight.clone()
    with pytest.raises(StateMismatch, match=r"model\.0\.weight"):
        checkpoint.load_into({"model": other})
    assert torch.equal(other[0].weight, before)
    with pytest.raises(UsageError, match="The checkpoint has no"):
        checkpoint.load_into({"model": model(), "schedule": {}})
    with pytest.raises(UsageError, match="no part"):
        checkpoint.load_into({"model": model()}, only="log")
    with pytest.raises(StateMismatch, match="only some were asked for"):
        checkpoint.load_into({"log": {"list": [1, 2, 3]}}, only="log.list[0]")
    with pytest.raises(UsageError, match="cannot be restored in place"):
        checkpoint.load_into({"model": 5})


class Lenient(torch.nn.Linear):
    """Has an opinion of its own on what it takes."""

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:  # noqa: ANN401, ARG002
        return super().load_state_dict(state_dict, strict=False, assign=assign)


@pytest.mark.parametrize(("then", "now", "who"), [(True, False, "checkpoint"), (False, True, "program")])
def test_a_module_of_other_names_is_left_as_it_was(store: Watched, then: bool, now: bool, who: str) -> None:
    save(store, {"model": torch.nn.Linear(512, 512, bias=then)})
    checkpoint, other = open_checkpoint(store), torch.nn.Linear(512, 512, bias=now)
    before = other.weight.clone()
    with pytest.raises(StateMismatch, match=rf"only the {who} has model\.bias"):
        checkpoint.load_into({"model": other})
    assert torch.equal(other.weight, before)
    checkpoint.load_into({"model": (lenient := Lenient(512, 512, bias=now))})
    assert torch.equal(lenient.weight, checkpoint.load("model.weight")["model"]["weight"])


def test_an_optimizer_starts_from_what_was_saved(store: Watched) -> None:
    net = model()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.5)
    net(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    save(store, {"model": net, "optimizer": optimizer})
    fresh = torch.optim.AdamW(model(3).parameters(), lr=0.1)
    open_checkpoint(store).load_into({"optimizer": fresh})
    assert fresh.param_groups[0]["lr"] == 0.5
    assert torch.equal(fresh.state_dict()["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"])


keys = st.sampled_from(["a", "b", "a.b", "x y", "#2", "a#2"]) | st.integers(0, 2) | st.just((1, "a"))
states = st.recursive(
    st.integers() | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=2).map(tuple)
        | st.lists(inner, max_size=2).map(lambda items: deque(items, 2))
        | st.dictionaries(keys, inner, max_size=4)
        | st.dictionaries(keys, inner, max_size=2).map(Counter)
        | st.dictionaries(keys, inner, max_size=2).map(lambda pairs: defaultdict(list, pairs))
        | st.sets(keys, max_size=2)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["a", "b", "a.b", "a[0]"]), states, max_size=3), st.data())
def test_every_name_is_of_one_thing_and_choosing_it_gives_that(state: dict[str, Any], data: st.DataObject) -> None:
    tree = flatten(state, "state", [])
    every = entries(tree)
    assert len({entry.path for entry in every}) == len(every)
    assert parts(every) == list(state)
    assert prune(tree, [True] * len(every), None) == tree
    assert prune(tree, [False] * len(every), None) == {"dict": []}
    if every:
        one = data.draw(st.sampled_from(every))
        flags = chosen(every, one.path)
        assert flags[every.index(one)]
        exact = [entry is one for entry in every]
        assert one.node in [entry.node for entry in entries(prune(tree, exact, None))]
