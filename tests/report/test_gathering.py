"""From a log and what processes told to the story, and on to the page and the terminal."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from msgspec.structs import replace
from tests.runs.samples import OFFER, ON_DEMAND_PRICE, opened
from tests.runs.telling import saved, training

from spotweld.checkpoint import events as told
from spotweld.preemption.notices import Kind, Notice
from spotweld.providers.provider import MachineEnd
from spotweld.report.figures import figures
from spotweld.report.gathering import gather
from spotweld.report.page import render
from spotweld.report.story import Comparison, Outcome, State, Story
from spotweld.report.summary import summary, to_json
from spotweld.runs import events as logged
from spotweld.runs.events import (
    AttemptEnded,
    AttemptOpened,
    Cause,
    Entry,
    Event,
    MachineStarted,
    Recorded,
    Running,
    Waiting,
)
from spotweld.runs.following import Told
from spotweld.runs.states import fold
from spotweld.values.money import Money

TERMINATE = Notice("n-1", Kind.TERMINATE, "aws", 29.0, 26.0)
REBALANCE = Notice("n-0", Kind.REBALANCE, "aws", None, 20.0)


def begin(number: int, at: float) -> list[tuple[float, Event]]:
    return [
        (at, AttemptOpened(number, OFFER, ON_DEMAND_PRICE, f"t-{number}", "cheapest")),
        (at + 0.1, MachineStarted(number, f"m-{number}", at + 0.1)),
        (at + 1, Running(number)),
    ]


def end(number: int, at: float, cause: Cause) -> tuple[float, Event]:
    return at, AttemptEnded(number, cause, "because", at)


LIFE: list[tuple[float, Event]] = [
    (0.0, opened(labels={"team": "vision"})),
    *begin(1, 1.0),
    end(1, 30.0, Cause.PREEMPTED),
    (30.5, AttemptOpened(2, OFFER, ON_DEMAND_PRICE, "t-2", "cheapest")),
    end(2, 31.0, Cause.NO_CAPACITY),
    *begin(3, 32.0),
]
PROCESS = [
    *(Told(1, event) for event in training(2.0, 0, 25)),
    Told(1, told.Noticed(20.0, REBALANCE)),
    Told(1, told.Noticed(26.0, TERMINATE)),
    Told(1, told.Saving(27.5, 25, "emergency")),
    *(Told(3, event) for event in training(40.0, 20, 100)),
]


def story(*more: tuple[float, Event], process: list[Told] = PROCESS, comparison: Comparison | None = None) -> Story:
    entries = [Entry("r", seq, time, event) for seq, (time, event) in enumerate([*LIFE, *more], 1)]
    return gather(fold(entries), [*entries, *process], 130.0, comparison)


DONE = [end(3, 121.0, Cause.DONE), (122.0, logged.Ended(logged.Outcome.DONE, ""))]


def test_attempts_with_their_steps_losses_and_notices() -> None:
    first, second, third = story(*DONE).attempts
    assert (first.first_step, first.last_step, first.durable_step, first.steps_lost) == (0, 25, 20, 5)
    assert (first.noticed, first.notice_lead, first.booted, first.running_since) == (26.0, 3.0, 2.0, 2.0)
    assert (second.cause, second.started, second.first_step) == (Cause.NO_CAPACITY, 30.5, None)
    assert (third.first_step, third.last_step, third.steps_lost) == (20, 100, 0)


def test_a_save_that_its_machine_did_not_live_to_end_was_cut_off() -> None:
    cut = [save for save in story(*DONE).checkpoints if save.outcome is Outcome.CUT]
    assert [(save.step, save.attempt, save.reason) for save in cut] == [(25, 1, "emergency")]
    running = [*PROCESS, Told(3, told.Saving(125.0, 100, "final"))]
    assert len([save for save in story(process=running).checkpoints if save.outcome is Outcome.CUT]) == 1


def test_a_failed_save_is_told_once_though_it_is_noticed_some_steps_later() -> None:
    process = [
        Told(1, told.Fresh(2.0)),
        Told(1, told.Saving(3.0, 10, "cadence")),
        Told(1, told.SaveFailed(4.5, 13, "no answer", 1)),
        Told(1, told.Saving(6.0, 15, "cadence")),
        Told(1, saved(7.0, 15)),
    ]
    assert [(s.step, s.outcome, s.seconds) for s in story(process=process).checkpoints] == [
        (10, Outcome.FAILED, 1.5),
        (15, Outcome.SAVED, 0.1),
    ]


def test_what_was_found_damaged_is_the_newest_save_of_that_step() -> None:
    process = [
        *PROCESS[:-1],
        Told(3, told.Restored(40.0, 10, "m", 0.1, (told.Damage(20, "a bit"), told.Damage(99, "never seen")))),
    ]
    damaged = [save for save in story(process=process).checkpoints if save.outcome is Outcome.DAMAGED]
    assert [(save.step, save.detail) for save in damaged] == [(20, "a bit")]


def test_figures_of_one_step_are_results_and_others_are_curves() -> None:
    found = story(*DONE, process=[*PROCESS, Told(3, told.Metrics(121.0, 100, {"accuracy": 0.978, "bad": None}))])
    assert [curve.name for curve in found.curves] == ["loss"]
    assert set(found.results) == {"accuracy", "bad"}
    redone = [point for point in found.curves[0].points if point.redone]
    assert {point.step for point in redone} == set(range(20, 25))
    assert all(point.same for point in redone)


NEAR = "file:/dev/shm/x"


def test_saves_in_a_tier_say_where_they_came_to() -> None:
    process = [
        Told(1, told.Fresh(2.0)),
        *(Told(1, replace(saved(float(step), step), tier=NEAR)) for step in (5, 6, 7)),
        Told(1, told.Carried(8.0, 5, "file:/middle", 0.5, "m")),
        Told(1, told.Carried(8.5, 5, "file:/far", 3.0, "m", published=True)),
        Told(
            3, told.Restored(40.0, 5, "m", 0.1, (told.Damage(6, f"a bit (in {NEAR})"),), "", 5, f"{NEAR} was damaged")
        ),
    ]
    found = story(*DONE, process=process)
    five, six, seven = found.checkpoints
    assert [(carry.store, carry.published) for carry in five.carried] == [("file:/middle", False), ("file:/far", True)]
    assert (five.durable, six.durable, seven.durable) == (3.0, None, None)
    assert (five.outcome, six.outcome, seven.outcome) == (Outcome.SAVED, Outcome.DAMAGED, Outcome.SAVED)
    assert (found.attempts[0].durable_step, found.attempts[2].durable_step) == (5, 5)
    known = figures(found)
    assert (known.saved, known.published, known.median_durable) == (2, 1, 3.0)
    page = render(found)
    for said in (f"{NEAR} in 100 ms", "file:/far in 3.0 s", "from the store (file:/dev/shm/x was damaged)"):
        assert said in page
    assert "2 checkpoints, 1 of them in the run's store" in "\n".join(summary(found))


def test_a_copy_that_is_damaged_harms_no_checkpoint_that_is_whole_elsewhere() -> None:
    process = [
        Told(1, told.Fresh(2.0)),
        Told(1, replace(saved(5.0, 5), tier=NEAR)),
        Told(1, told.Carried(8.5, 5, "file:/far", 3.0, "m", published=True)),
        Told(
            3, told.Restored(40.0, 5, "m", 0.1, (told.Damage(5, f"a bit (in {NEAR})"),), "", 5, f"{NEAR} was damaged")
        ),
    ]
    (one,) = story(*DONE, process=process).checkpoints
    assert (one.outcome, one.detail, one.durable) == (Outcome.SAVED, f"a bit (in {NEAR})", 3.0)


def test_rows_add_up_and_losses_are_a_part_of_them() -> None:
    found = story(*DONE)
    assert found.rows
    assert {row.run for row in found.rows} == {"r"} if hasattr(found.rows[0], "run") else True


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ([], State.RUNNING),
        ([end(3, 40.0, Cause.PREEMPTED), (41.0, Waiting(50.0, "no capacity"))], State.WAITING),
        (DONE, State.DONE),
        ([end(3, 40.0, Cause.FAILED), (41.0, logged.Ended(logged.Outcome.FAILED, "x"))], State.FAILED),
        ([end(3, 40.0, Cause.CANCELLED), (41.0, logged.Ended(logged.Outcome.CANCELLED, "x"))], State.CANCELLED),
        ([end(3, 40.0, Cause.BUDGET), (41.0, logged.Ended(logged.Outcome.BUDGET, "x"))], State.BUDGET),
        ([end(3, 40.0, Cause.TIMED_OUT), (41.0, logged.Ended(logged.Outcome.TIMED_OUT, "x"))], State.FAILED),
        ([end(3, 40.0, Cause.NO_CAPACITY), (41.0, logged.Ended(logged.Outcome.NO_CAPACITY, ""))], State.FAILED),
    ],
)
def test_every_state_has_a_page_a_summary_and_json(more: list[tuple[float, Event]], state: State) -> None:
    comparison = Comparison(weights_identical=True, curves_identical=False, seconds=9.0, cost=Money(Decimal(1)))
    for found in (story(*more), story(*more, process=[]), story(*more, comparison=comparison)):
        assert found.state is state
        assert render(found).startswith("<!")
        assert "r" in "\n".join(summary(found))
        assert json.loads(to_json(found))["story"]["run"] == "r"


def test_the_same_happenings_give_the_same_bytes() -> None:
    assert render(story(*DONE)) == render(story(*DONE))


def test_hostile_names_harm_no_page() -> None:
    nasty = "<script>alert(1)</script>\x1b[31m[red]"
    process = [Told(1, told.Fresh(2.0)), *(Told(1, told.Metrics(3.0 + n, n, {nasty: 0.5 + n})) for n in range(3))]
    page = render(story(process=process))
    assert "<script>alert" not in page
    assert "\x1b" not in page + "\n".join(summary(story(process=process)))


def test_what_was_decided_and_seen_is_told_with_its_reasons() -> None:
    given = story(
        end(3, 50.0, Cause.MOVED),
        (51.0, logged.Sighted({"b": True, "a": False}, {"b": 0.9})),
        (52.0, logged.Sighted({}, {"b": 0.8})),
        (53.0, Waiting(60.0, "nothing is up; slack 3h")),
    )
    told_so = [(one.what, one.why) for one in given.decisions]
    assert told_so[0] == ("rent a spot", "cheapest")
    assert told_so[-3:] == [
        ("give up #3", "because"),
        ("spot capacity: b has some, none in a", ""),
        ("wait", "nothing is up; slack 3h"),
    ]
    page = render(given)
    assert "Every decision, and why" in page
    assert "nothing is up; slack 3h" in page


def test_a_run_that_went_on_after_a_budget_s_stop_goes_on_and_says_so() -> None:
    stop = [end(3, 40.0, Cause.BUDGET), (41.0, logged.Ended(logged.Outcome.BUDGET, "x"))]
    given = story(*stop, (60.0, logged.Reopened(ON_DEMAND_PRICE)), *begin(4, 70.0))
    assert (given.state, given.closed, len(given.attempts)) == (State.RUNNING, None, 4)
    assert [one.why for one in given.decisions if one.what == "go on"] == ["the budget is 3.06 USD now"]
    assert {row.attempt for row in given.rows} == {1, 3, 4}
    assert "the budget is 3.06 USD now" in render(given)


def test_a_run_that_was_done_too_late_says_so() -> None:
    late = story(end(3, 50.0, Cause.DONE), (51.0, logged.Ended(logged.Outcome.LATE, "5.0 s after its deadline")))
    assert late.state is State.LATE
    assert "Done, but after its deadline" in render(late)


def test_where_the_provider_s_record_differs_the_page_says_so() -> None:
    ended = end(3, 400.0, Cause.DONE)
    late = story(ended, (401.0, Recorded(3, 33.0, 280.0, MachineEnd.INTERRUPTED)))
    (one,) = late.differences
    assert (one.attempt, one.machine, round(one.started, 3), one.ended) == (3, "m-3", 0.9, -120.0)
    assert one.cost.amount == pytest.approx(Decimal("0.90") * Decimal("-120.9") / 3600)
    says = "the machine of attempt 3 ends 2m 00s earlier than was logged, and costs 0.03022 USD less"
    assert says in render(late)
    # What it is charged is the provider's time, and the page's table is that of the rows.
    assert sum(row.consumed_quantity for row in late.rows if row.attempt == 3) == pytest.approx(247)
    close = story(ended, (401.0, Recorded(3, 32.2, 400.4, None)))
    assert len(close.differences) == 1
    assert "than was logged" not in render(close)
    assert story(ended).differences == ()
