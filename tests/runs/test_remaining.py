"""How much of a run is left: work that is done twice counts once, and what is lost is to be done again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.runs.samples import attempt_opened, opened

from spotweld.checkpoint.events import Restored
from spotweld.runs.events import AttemptEnded, Cause, Entry, MachineStarted, Running
from spotweld.runs.history import Progress
from spotweld.runs.remaining import REACTION, standing, working_since
from spotweld.runs.states import RunState, fold

if TYPE_CHECKING:
    from spotweld.runs.events import Event

JOB = {"work": 1000.0, "deadline": 5000.0}


def run(*events: Event, at: float = 0.0, **job: object) -> RunState:
    everything = (opened(**(JOB | job)), *events)
    return fold([Entry("r", number + 1, at + number, event) for number, event in enumerate(everything)])


def began(number: int, at: float) -> tuple[Event, ...]:
    return attempt_opened(number), MachineStarted(number, f"m-{number}", at), Running(number)


def over(number: int, at: float, cause: Cause = Cause.PREEMPTED) -> AttemptEnded:
    return AttemptEnded(number, cause, "", at)


def steps(number: int, first: int, since: float, count: int, each: float = 10.0, **more: object) -> Progress:
    marks = tuple((first + i + 1, since + (i + 1) * each) for i in range(count))
    return Progress(number, first, since, marks, **more)  # type: ignore[arg-type]


def left(state: RunState, history: dict[int, Progress], now: float) -> float:
    found = standing(state, history, now)
    assert found is not None
    return found.work


def test_a_run_without_a_deadline_has_no_standing() -> None:
    assert standing(run(deadline=None), {}, 5.0) is None


def test_at_the_beginning_everything_is_left() -> None:
    found = standing(run(at=100.0), {}, 160.0)
    assert found is not None
    assert (found.work, found.time, found.changeover) == (1000.0, 4940.0 - REACTION, 120.0)


def test_what_was_lost_is_left_again() -> None:
    first = steps(1, 0, 100.0, 9, durable=7)
    assert left(run(*began(1, 90.0)), {1: first}, 195.0) == 910.0
    assert left(run(*began(1, 90.0), over(1, 200.0)), {1: first}, 300.0) == 930.0
    second = steps(2, 7, 400.0, 1)
    assert left(run(*began(1, 90.0), over(1, 200.0), *began(2, 390.0)), {1: first, 2: second}, 410.0) == 920.0


def test_a_machine_that_has_not_said_where_it_goes_on_goes_on_from_what_is_safe() -> None:
    first = steps(1, 0, 100.0, 9, durable=7)
    assert left(run(*began(1, 90.0), over(1, 200.0), *began(2, 390.0)), {1: first}, 500.0) == 930.0


def test_a_loss_takes_what_is_not_known_to_be_in_the_store() -> None:
    def unsaved(state: RunState, history: dict[int, Progress], now: float) -> float:
        found = standing(state, history, now)
        assert found is not None
        return found.unsaved

    first = steps(1, 0, 100.0, 9, durable=7)
    second = steps(2, 7, 400.0, 3, restored=Restored(t=400.0, step=7, manifest="", seconds=0.0))
    assert unsaved(run(*began(1, 90.0)), {1: steps(1, 0, 100.0, 9)}, 195.0) == 90.0
    assert unsaved(run(*began(1, 90.0)), {1: first}, 195.0) == 20.0
    twice = run(*began(1, 90.0), over(1, 200.0), *began(2, 390.0))
    assert unsaved(twice, {1: first}, 395.0) == 0.0
    assert unsaved(twice, {1: first, 2: second}, 435.0) == 30.0
    assert unsaved(run(*began(1, 0.0)), {}, 103.0) == 100.0


def test_the_pace_of_the_steps_replaces_the_estimate_once_it_is_known() -> None:
    slow = steps(1, 0, 0.0, 5, each=60.0, total=40)
    assert left(run(*began(1, 0.0)), {1: slow}, 300.0) == pytest.approx(35 * 60.0)
    hardly = steps(1, 0, 0.0, 1, each=60.0, total=40)
    assert left(run(*began(1, 0.0)), {1: hardly}, 60.0) == 940.0


def test_a_program_that_tells_nothing_begins_anew_on_every_machine() -> None:
    assert left(run(*began(1, 0.0)), {}, 103.0) == 900.0
    assert left(run(*began(1, 0.0), over(1, 200.0)), {}, 300.0) == 1000.0


def test_something_is_left_until_the_program_has_ended() -> None:
    assert left(run(*began(1, 0.0)), {}, 4000.0) == 10.0


def test_plans_are_made_for_the_usual_start_and_the_deadline_kept_for_the_slowest() -> None:
    events: list[Event] = []
    history = {}
    for number, took in enumerate([500.0, 30.0, 40.0, 20.0, 10.0, 15.0], 1):
        events += [*began(number, number * 1000.0), over(number, number * 1000.0 + 600)]
        history[number] = steps(number, 0, number * 1000.0 + took, 0)
    found = standing(run(*events), history, 9000.0)
    assert found is not None
    assert found.changeover == 20.0
    assert found.time == 5000.0 - 9000.0 - REACTION - 20.0
    last = run(*events).attempts[-1]
    assert working_since(last, history[6]) == 6015.0
    assert working_since(last, None) == last.running


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=8))
def test_what_is_left_never_depends_on_how_often_steps_were_repeated(lives: list[tuple[int, int]]) -> None:
    """Each life goes on from some step that was reached, and makes some more."""
    events: list[Event] = []
    history: dict[int, Progress] = {}
    reached, clock = 0, 0.0
    for number, (back, count) in enumerate(lives, 1):
        first = max(0, reached - back)
        events += [*([over(number - 1, clock)] if number > 1 else []), *began(number, clock)]
        history[number] = steps(number, first, clock, count, each=2.0)
        reached, clock = first + count, clock + 2.0 * count
    assert left(run(*events), history, clock) == pytest.approx(1000.0 - 2.0 * reached)
