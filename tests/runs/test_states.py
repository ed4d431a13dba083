from decimal import Decimal

import pytest
from tests.runs.samples import ON_DEMAND_PRICE, attempt_opened, opened

from spotweld.costs.usage import Since
from spotweld.errors import IllegalTransition
from spotweld.providers.provider import MachineEnd
from spotweld.runs.events import (
    AttemptEnded,
    CancelRequested,
    Cause,
    Ended,
    Entry,
    Event,
    MachineStarted,
    Noticed,
    Outcome,
    Priced,
    Recorded,
    Reopened,
    Running,
    StopAsked,
    Waiting,
    decode,
    encode,
)
from spotweld.runs.states import RunState, fold
from spotweld.values.money import Money


def run(*events: Event) -> RunState:
    return fold([Entry("r", i + 1, float(i), event) for i, event in enumerate(events)])


LIFE: tuple[Event, ...] = (
    opened(),
    attempt_opened(1),
    MachineStarted(1, "m-1", 1.5),
    Running(1),
    Noticed(1, "aws", 9.0),
    Priced(1, Money(Decimal("0.95")), ON_DEMAND_PRICE, "market"),
    AttemptEnded(1, Cause.PREEMPTED, "taken", 8.0, 75, MachineEnd.STOPPED),
    Recorded(1, 1.4, 7.5, MachineEnd.INTERRUPTED),
    Waiting(12.0, "no capacity"),
    attempt_opened(2),
    AttemptEnded(2, Cause.NO_CAPACITY, "refused", 9.0),
    attempt_opened(3),
    MachineStarted(3, "m-3", 10.0),
    CancelRequested(),
    AttemptEnded(3, Cause.CANCELLED, "by hand", 11.0),
    Ended(Outcome.CANCELLED, "by hand"),
)
SPENT: tuple[Event, ...] = (*LIFE[:9], StopAsked("all", 1, "2 of 1 are spent"), Ended(Outcome.BUDGET, "2 of 1"))


def test_phases_of_a_life() -> None:
    phases = [run(*LIFE[: n + 1]).phase for n in range(len(LIFE))]
    assert phases == [
        "placing", "starting", "starting", "running", "running", "running", "placing", "placing", "waiting",
        "starting", "placing", "starting", "starting", "cancelling", "cancelling", "cancelled",
    ]  # fmt: skip


def test_an_attempt_keeps_what_happened_to_it() -> None:
    first, second, third = run(*LIFE).attempts
    assert (first.machine, first.started, first.ended, first.cause, first.exit_code) == (
        "m-1", 1.4, 7.5, Cause.PREEMPTED, 75,
    )  # fmt: skip
    assert (first.logged, first.end) == ((1.5, 8.0), MachineEnd.INTERRUPTED)
    assert first.prices == (Since(5.0, Money(Decimal("0.95")), ON_DEMAND_PRICE, "market"),)
    assert first.noticed == Noticed(1, "aws", 9.0)
    assert (second.machine, second.started, second.cause) == (None, None, Cause.NO_CAPACITY)
    assert not third.open


@pytest.mark.parametrize("event", LIFE, ids=lambda event: type(event).__name__)
def test_nothing_follows_the_end(event: Event) -> None:
    with pytest.raises(IllegalTransition):
        run(opened(), Ended(Outcome.FAILED, ""), event)


@pytest.mark.parametrize(
    "events",
    [
        (attempt_opened(1),),
        (opened(), attempt_opened(2)),
        (opened(), attempt_opened(1), attempt_opened(2)),
        (opened(), Running(1)),
        (opened(), attempt_opened(1), Running(1)),
        (opened(), attempt_opened(1), MachineStarted(2, "m", 0.0)),
        (opened(), attempt_opened(1), Ended(Outcome.DONE, "")),
        (opened(), attempt_opened(1), Waiting(1.0, "")),
        (opened(), *LIFE[1:3], MachineStarted(1, "other", 0.0)),
        (opened(), attempt_opened(1), LIFE[5]),
        (opened(), *LIFE[1:3], Recorded(1, 0.0, 1.0, None)),
        (opened(), *LIFE[1:3], LIFE[6], Recorded(2, 0.0, 1.0, None)),
        (opened(), attempt_opened(1), LIFE[10], Recorded(1, 0.0, 1.0, None)),
        (opened(), opened()),
    ],
)
def test_illegal_transitions(events: tuple[Event, ...]) -> None:
    with pytest.raises(IllegalTransition):
        run(*events)


def test_a_clock_that_was_set_back_makes_no_negative_machine_time() -> None:
    state = run(opened(), attempt_opened(1), MachineStarted(1, "m", 100.0), AttemptEnded(1, Cause.DONE, "", 40.0))
    assert state.attempts[0].ended == 100.0


def test_a_run_that_a_budget_stopped_goes_on_where_it_was() -> None:
    before, after = run(*SPENT[:9]), run(*SPENT, Reopened(Money(Decimal(9))))
    assert (after.outcome, after.why, after.ended, after.stop_asked, after.phase) == (None, "", None, None, "placing")
    assert after.job.budget == Money(Decimal(9))
    assert (after.opened, after.attempts, after.deadline) == (before.opened, before.attempts, before.deadline)
    assert run(*SPENT, Reopened(None), attempt_opened(2)).attempts[1].number == 2


def test_it_keeps_its_budget_unless_there_is_a_new_one() -> None:
    mine = Money(Decimal(3))
    assert run(opened(budget=mine), Ended(Outcome.BUDGET, ""), Reopened(None)).job.budget == mine


def test_a_wish_to_cancel_that_came_with_the_stop_ends_with_it() -> None:
    state = run(opened(), CancelRequested(), Ended(Outcome.BUDGET, ""), Reopened(None))
    assert not state.cancel_requested


def test_it_can_be_stopped_and_go_on_as_often_as_one_likes() -> None:
    state = run(*SPENT, Reopened(None), Waiting(99.0, ""), Ended(Outcome.BUDGET, "again"), Reopened(None))
    assert (state.outcome, state.rested) == (None, 2.0)
    assert run(*SPENT, Reopened(None), Ended(Outcome.BUDGET, "again")).why == "again"


def test_the_time_for_which_it_was_over_is_told() -> None:
    entries = [opened(), Ended(Outcome.BUDGET, ""), Reopened(None)]
    for at, rested in ((50.0, 40.0), (4.0, 0.0)):
        times = (0.0, 10.0, at)
        folded = fold(
            [Entry("r", n + 1, time, event) for n, (time, event) in enumerate(zip(times, entries, strict=True))]
        )
        assert folded.rested == rested


@pytest.mark.parametrize("outcome", [one for one in Outcome if one is not Outcome.BUDGET])
def test_nothing_else_goes_on(outcome: Outcome) -> None:
    with pytest.raises(IllegalTransition):
        run(opened(), Ended(outcome, ""), Reopened(Money(Decimal(9))))


@pytest.mark.parametrize("event", SPENT, ids=lambda event: type(event).__name__)
def test_after_a_budget_s_stop_nothing_but_that_follows(event: Event) -> None:
    with pytest.raises(IllegalTransition):
        run(*SPENT, event)


@pytest.mark.parametrize("before", [(opened(),), (opened(), attempt_opened(1)), (*SPENT, Reopened(None))])
def test_what_goes_on_cannot_be_reopened(before: tuple[Event, ...]) -> None:
    with pytest.raises(IllegalTransition):
        run(*before, Reopened(None))


@pytest.mark.parametrize("event", [Reopened(None), Reopened(Money(Decimal("0.3"), "EUR"))])
def test_a_reopening_survives_encoding(event: Event) -> None:
    assert decode(encode(event)) == event


@pytest.mark.parametrize("event", LIFE, ids=lambda event: type(event).__name__)
def test_events_survive_encoding(event: Event) -> None:
    assert decode(encode(event)) == event


def test_a_record_that_is_corrected_again_still_tells_what_was_logged_first() -> None:
    (attempt,) = run(*LIFE[:8], Recorded(1, 1.4, 7.9, None)).attempts
    assert (attempt.logged, attempt.started, attempt.ended) == ((1.5, 8.0), 1.4, 7.9)


def test_a_record_that_ends_before_it_begins_is_no_time() -> None:
    (attempt,) = run(*LIFE[:7], Recorded(1, 5.0, 3.0, None)).attempts
    assert (attempt.started, attempt.ended) == (5.0, 5.0)


def test_an_end_that_an_older_spotweld_logged_can_be_read() -> None:
    old = b'{"type":"attempt-ended","attempt":1,"cause":"done","detail":"","ended":8.0,"exit_code":0}'
    assert decode(old) == AttemptEnded(1, Cause.DONE, "", 8.0, 0)
