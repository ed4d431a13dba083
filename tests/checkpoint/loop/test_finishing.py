"""Runs that end before their last step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from spotweld import Checkpointer
from spotweld.errors import UsageError
from spotweld.store.heads import read_head

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.checkpoint.conftest import Announcer, HandClock, Watched

    Make = Callable[..., tuple[Checkpointer, dict[str, int]]]


@pytest.fixture
def make(store: Watched, clock: HandClock) -> Make:
    def made(announcer: Announcer | None = None) -> tuple[Checkpointer, dict[str, int]]:
        state = {"sum": 0}
        notices = [announcer] if announcer else []
        return Checkpointer({"state": state}, store=store, every=1000, notices=notices, clock=clock), state

    return made


def published(store: Watched) -> list[int]:
    head = read_head(store, "default")
    return [kept.step for kept in head.kept] if head else []


def test_the_step_in_which_it_is_called_is_the_last(make: Make, store: Watched) -> None:
    checkpointer, state = make()
    done = []
    for step in checkpointer.steps(100):
        if step == 4:
            checkpointer.finish()
        done.append(step)
        state["sum"] += step
    assert done == [0, 1, 2, 3, 4]
    assert published(store) == [5]
    checkpointer.finish()  # it is over already

    checkpointer, state = make()
    assert next(iter(checkpointer.steps(100))) == 5
    assert state["sum"] == 10
    checkpointer.close()


def test_a_program_that_knows_why_ends_with_the_same_bits(make: Make, store: Watched) -> None:
    for _ in range(2):
        checkpointer, state = make()
        for step in checkpointer.steps(100):
            if state["sum"] > 20:
                checkpointer.finish(step)
                continue
            state["sum"] += step
        assert state["sum"] == 21
        assert published(store) == [7]


def test_the_last_step_can_be_named_so_too(make: Make, store: Watched) -> None:
    checkpointer, _ = make()
    for step in checkpointer.steps(3):
        if step == 2:
            checkpointer.finish()
    assert published(store) == [3]


def test_a_loop_that_is_left_after_it_is_told(make: Make, store: Watched, caplog: pytest.LogCaptureFixture) -> None:
    checkpointer, _ = make()
    for _ in checkpointer.steps(3):
        checkpointer.finish()
        break
    assert published(store) == []
    assert "finish() is not heeded" in caplog.text


def test_a_notice_is_only_a_reason_to_hurry(make: Make, store: Watched, announcer: Announcer) -> None:
    checkpointer, _ = make(announcer)
    for step in checkpointer.steps(100):
        if step == 4:
            checkpointer.finish()
            announcer.terminate(None)
    assert published(store) == [5]


@pytest.mark.parametrize("steps", [3, 101])
def test_a_number_that_cannot_be_is_refused(make: Make, steps: int) -> None:
    checkpointer, _ = make()
    with pytest.raises(UsageError, match="before the loop"):
        checkpointer.finish()
    for step in checkpointer.steps(100):
        if step == 4:
            with pytest.raises(UsageError, match=f"over after {steps} steps"):
                checkpointer.finish(steps)
            checkpointer.finish()
    assert checkpointer.step == 5
