"""A loop that a framework owns: every end that it can come to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from spotweld import Checkpointer
from spotweld.checkpoint.adapters.loop import UNLIMITED, Loop, Part, check_processes, checkpointer_for
from spotweld.errors import StateMismatch
from spotweld.store.heads import read_head

if TYPE_CHECKING:
    from collections.abc import Callable

    from spotweld.store.objects import Objects


@pytest.fixture
def made(store: Objects) -> Callable[[int], tuple[Loop, dict[str, int], Checkpointer]]:
    def make(total: int) -> tuple[Loop, dict[str, int], Checkpointer]:
        state = {"steps": 0}
        checkpointer = Checkpointer({"state": state}, store=store, every=2, notices=())
        return Loop(checkpointer, total), state, checkpointer

    return make


def train(loop: Loop, state: dict[str, int], until: int) -> None:
    loop.begin()
    while True:
        loop.reach(state["steps"])
        if state["steps"] == until:
            return
        state["steps"] += 1


def published(store: Objects) -> int:
    head = read_head(store, "default")
    assert head is not None
    return head.kept[0].step


@pytest.mark.parametrize("total", [7, 100, UNLIMITED, 3])
def test_the_last_state_is_durable_wherever_the_framework_ends(
    made: Callable[[int], tuple[Loop, dict[str, int], Checkpointer]], store: Objects, total: int
) -> None:
    loop, state, _ = made(total)
    loop.begin()
    for step in range(7):
        loop.reach(step)
        loop.reach(step)  # no news
        state["steps"] += 1
    loop.finish(7)
    assert published(store) == min(total, 7)
    loop.close()

    again, state, checkpointer = made(total)
    again.begin()
    assert (state["steps"], checkpointer.step) == (7, min(total, 7))
    again.finish(7)
    assert published(store) == min(total, 7)


def test_a_loop_that_is_left_goes_on_from_its_last_save(
    made: Callable[[int], tuple[Loop, dict[str, int], Checkpointer]], store: Objects
) -> None:
    loop, state, _ = made(100)
    train(loop, state, 5)
    loop.close()
    saved = published(store)
    assert saved in {2, 4}
    again, state, checkpointer = made(100)
    again.begin()
    assert (state["steps"], checkpointer.step) == (saved, saved)
    again.close()


def test_what_processes_have_alike_is_given_back_before_what_each_has_for_itself(store: Objects) -> None:
    given: list[tuple[str, dict[str, int]]] = []

    def part(name: str, value: int) -> Part:
        return Part(lambda: {name: value}, lambda state: given.append((name, state)))

    def loop(value: int) -> Loop:
        options = {"store": store, "every": 2, "notices": ()}
        return Loop(
            checkpointer_for({"objects": part("alike", value)}, part("own", value + 1), options, group=False), 10
        )

    first = loop(7)
    first.begin()
    for step in range(3):
        first.reach(step)
    first.finish(3)
    assert given == []
    second = loop(0)
    second.begin()
    second.close()
    assert given == [("alike", {"alike": 7}), ("own", {"own": 8})]


def test_as_many_processes_go_on() -> None:
    check_processes(2, 2)
    with pytest.raises(StateMismatch, match="2 of them saved the checkpoint, and 3 restore it"):
        check_processes(2, 3)
