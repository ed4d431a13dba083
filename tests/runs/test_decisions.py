"""The controller's decisions, as a table of situations and as laws over random ones."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.runs.samples import OFFER, OFFERS, ON_DEMAND_PRICE, attempt_opened, opened

from spotweld.costs.billing import TAKING
from spotweld.placement.placer import Observation, Placer, Rent, Wait
from spotweld.project.nouns import Retry, RetryOn
from spotweld.providers.provider import Machine, MachineEnd, MachineState
from spotweld.runs import decisions
from spotweld.runs.decisions import (
    EndAttempt,
    Finish,
    NoteNotice,
    NotePrice,
    NoteRunning,
    NoteSighting,
    Observed,
    OpenAttempt,
    Pause,
    StartMachine,
    Watch,
    decide,
)
from spotweld.runs.events import (
    AttemptEnded,
    CancelRequested,
    Cause,
    Drawn,
    Ended,
    Entry,
    Event,
    MachineStarted,
    Outcome,
    Priced,
    Reopened,
    Running,
    Sighted,
    Waiting,
)
from spotweld.runs.pools.taking import Warm
from spotweld.runs.reports import Heard, Result, Stage, Status
from spotweld.runs.states import RunState, apply, fold
from spotweld.values.money import Money
from spotweld.values.offers import Offer


class First(Placer):
    """Rents the first offer, or waits if there is none."""

    name = "first"
    every = 1.0

    def decide(self, observation: Observation) -> Rent | Wait:
        return Rent(observation.offers[0], "first") if observation.offers else Wait(7.0, "nothing is offered")

    def reconsider(self, observation: Observation) -> str | None:
        del observation
        return None


class Restless(First):
    """Always knows something better than what is held."""

    def reconsider(self, observation: Observation) -> str | None:
        return None if observation.held is None else f"better than {observation.held.offer.place}"


class Patient(Restless):
    """Waits for cheaper hours, and holds nothing until then."""

    def decide(self, observation: Observation) -> Rent | Wait:
        del observation
        return Wait(7.0, "cheaper soon")


def state_after(*events: Event, **job: object) -> RunState:
    entries = [Entry("r", i + 1, float(i), event) for i, event in enumerate((opened(**job), *events))]
    return fold(entries)


def ended(attempt: int, cause: Cause, at: float = 10.0) -> AttemptEnded:
    return AttemptEnded(attempt, cause, "because", at)


def machine(state: MachineState, end: MachineEnd | None = None, noticed: float | None = None) -> Machine:
    return Machine("m-1", "t", OFFER, {}, state, 1.0, None if end is None else 9.0, end, noticed)


RUNNING = (attempt_opened(1), MachineStarted(1, "m-1", 1.0), Running(1))
UP = machine(MachineState.RUNNING)
ALIVE = Status(5, Stage.RUNNING)


def test_a_new_run_rents_what_the_policy_says_with_the_on_demand_price_beside_it() -> None:
    action = decide(state_after(), Observed(0.0, OFFERS), First())
    assert action == OpenAttempt(OFFERS[0], ON_DEMAND_PRICE, "first")


def test_an_opened_attempt_starts_its_machine_however_often_it_is_asked() -> None:
    state = state_after(attempt_opened(1))
    assert decide(state, Observed(5.0), First()) == StartMachine()
    assert decide(state, Observed(500.0), First()) == StartMachine()


def test_the_first_sign_of_life_is_noted_and_then_watched() -> None:
    state = state_after(attempt_opened(1), MachineStarted(1, "m-1", 1.0))
    assert decide(state, Observed(2.0, machine=UP), First()) == Watch()
    assert decide(state, Observed(2.0, machine=UP, status=ALIVE), First()) == NoteRunning()
    assert decide(state_after(*RUNNING), Observed(2.0, machine=UP, status=ALIVE), First()) == Watch()


def test_a_notice_is_noted_once() -> None:
    heard = Status(6, Stage.RUNNING, Heard("aws", 30.0, 2.0))
    action = decide(state_after(*RUNNING), Observed(2.0, machine=UP, status=heard), First())
    assert action == NoteNotice("aws", 30.0)


@pytest.mark.parametrize(
    ("code", "stage", "notice", "end", "cause"),
    [
        (0, Stage.RUNNING, None, None, Cause.DONE),
        (0, Stage.RUNNING, Heard("aws", 1.0, 0.5), MachineEnd.INTERRUPTED, Cause.DONE),
        (1, Stage.RUNNING, None, None, Cause.FAILED),
        (75, Stage.RUNNING, None, None, Cause.FAILED),
        (75, Stage.RUNNING, Heard("aws", 1.0, 0.5), None, Cause.PREEMPTED),
        (143, Stage.RUNNING, Heard("signal", None, 0.5), None, Cause.PREEMPTED),
        (137, Stage.RUNNING, None, MachineEnd.INTERRUPTED, Cause.PREEMPTED_UNNOTICED),
        (1, Stage.SETTING_UP, None, None, Cause.SETUP_FAILED),
        (143, Stage.SETTING_UP, Heard("aws", 1.0, 0.5), None, Cause.PREEMPTED),
        (137, Stage.SETTING_UP, None, MachineEnd.INTERRUPTED, Cause.PREEMPTED_UNNOTICED),
        (1, Stage.PREPARING, None, None, Cause.SETUP_FAILED),
    ],
)
def test_causes_from_results(
    code: int, stage: Stage, notice: Heard | None, end: MachineEnd | None, cause: Cause
) -> None:
    up = machine(MachineState.ENDED if end else MachineState.RUNNING, end)
    action = decide(state_after(*RUNNING), Observed(9.0, machine=up, result=Result(stage, code, notice, 8.0)), First())
    assert isinstance(action, EndAttempt)
    assert action.cause is cause


@pytest.mark.parametrize(
    ("gone", "status", "cause"),
    [
        (machine(MachineState.ENDED, MachineEnd.INTERRUPTED), ALIVE, Cause.PREEMPTED_UNNOTICED),
        (machine(MachineState.ENDED, MachineEnd.INTERRUPTED, noticed=3.0), ALIVE, Cause.PREEMPTED),
        (machine(MachineState.ENDED, MachineEnd.LOST), ALIVE, Cause.PREEMPTED_UNNOTICED),
        (machine(MachineState.ENDED, MachineEnd.STOPPED), ALIVE, Cause.PREEMPTED_UNNOTICED),
        (machine(MachineState.ENDED, MachineEnd.EXITED), ALIVE, Cause.FAILED),
        (machine(MachineState.ENDED, MachineEnd.EXITED), None, Cause.SETUP_FAILED),
        (machine(MachineState.ENDED, MachineEnd.EXITED, noticed=3.0), None, Cause.PREEMPTED),
    ],
)
def test_causes_without_a_result(gone: Machine, status: Status | None, cause: Cause) -> None:
    action = decide(state_after(*RUNNING), Observed(9.0, machine=gone, status=status), First())
    assert isinstance(action, EndAttempt)
    assert action.cause is cause


def test_a_machine_that_is_not_listed_is_gone_once_it_is_silent_too() -> None:
    state = state_after(*RUNNING)
    lagging = Observed(9.0, status=ALIVE, silent=decisions.UNLISTED - 1)
    assert decide(state, lagging, First()) == Watch()
    action = decide(state, Observed(9.0, status=ALIVE, silent=decisions.UNLISTED + 1), First())
    assert isinstance(action, EndAttempt)
    assert action.cause is Cause.PREEMPTED_UNNOTICED


@pytest.mark.parametrize(("code", "cause"), [(0, Cause.DONE), (75, Cause.CANCELLED)])
def test_what_we_stopped_ourselves_is_no_interruption(code: int, cause: Cause) -> None:
    stopped = machine(MachineState.ENDED, MachineEnd.STOPPED)
    result = Result(Stage.RUNNING, code, Heard("signal", None, 0.5), 8.0)
    action = decide(state_after(*RUNNING, CancelRequested()), Observed(9.0, (), stopped, ALIVE, result), First())
    assert isinstance(action, EndAttempt)
    assert action.cause is cause


@pytest.mark.parametrize("history", [(), (attempt_opened(1), ended(1, Cause.FAILED, at=100.0))])
def test_a_clock_that_was_set_back_makes_no_pause_longer(history: tuple[Event, ...]) -> None:
    now, state, spent = 3.0, state_after(*history), 0.0
    offers = OFFERS if history else ()
    for _ in range(100):
        action = decide(state, Observed(now, offers), First())
        if isinstance(action, Pause):
            waited = Entry("r", len(history) + 2, now, Waiting(action.until, action.why))
            state = apply(state, waited)
            if spent:
                break
        elif isinstance(action, Watch):
            now, spent = now + action.seconds, spent + action.seconds
        else:
            break
    assert 4.0 <= spent <= 10.0


def test_silence_ends_an_attempt_only_after_patience() -> None:
    state = state_after(*RUNNING)
    quiet = Observed(9.0, machine=UP, status=ALIVE, silent=decisions.SILENCE - 1)
    assert decide(state, quiet, First()) == Watch()
    dead = Observed(9.0, machine=UP, status=ALIVE, silent=decisions.SILENCE + 1)
    action = decide(state, dead, First())
    assert isinstance(action, EndAttempt)
    assert action.cause is Cause.PREEMPTED_UNNOTICED


def test_preemptions_never_use_up_retries() -> None:
    events: list[Event] = []
    for number in range(1, 51):
        events += [attempt_opened(number), ended(number, Cause.PREEMPTED_UNNOTICED)]
    action = decide(state_after(*events, retry=Retry(failures=0)), Observed(99.0, OFFERS), First())
    assert isinstance(action, OpenAttempt)


def test_a_failing_program_is_tried_again_after_a_pause_and_not_for_ever() -> None:
    once = [attempt_opened(1), ended(1, Cause.FAILED)]
    retry = Retry(failures=1)
    paused = decide(state_after(*once, retry=retry), Observed(11.0, OFFERS), First())
    assert isinstance(paused, Pause)
    assert isinstance(decide(state_after(*once, retry=retry), Observed(paused.until, OFFERS), First()), OpenAttempt)
    twice = [*once, attempt_opened(2), ended(2, Cause.SETUP_FAILED)]
    over = decide(state_after(*twice, retry=retry), Observed(999.0, OFFERS), First())
    assert isinstance(over, Finish)
    assert over.outcome is Outcome.FAILED


def test_retry_events_are_obeyed() -> None:
    only_errors = Retry(on_events=(RetryOn.ERROR,))
    gone = state_after(attempt_opened(1), ended(1, Cause.PREEMPTED), retry=only_errors)
    assert decide(gone, Observed(99.0, OFFERS), First()).outcome is Outcome.INTERRUPTED  # type: ignore[union-attr]
    assert decide(state_after(retry=only_errors), Observed(0.0), First()).outcome is Outcome.NO_CAPACITY  # type: ignore[union-attr]
    refused = state_after(attempt_opened(1), ended(1, Cause.NO_CAPACITY), retry=only_errors)
    assert decide(refused, Observed(99.0, OFFERS), First()).outcome is Outcome.NO_CAPACITY  # type: ignore[union-attr]


def test_a_pause_is_logged_once_for_each_reason() -> None:
    state = state_after()
    pause = decide(state, Observed(100.0), First())
    assert pause == Pause(107.0, "nothing is offered")
    waiting = apply(state, Entry("r", 2, 100.0, decisions_event(pause)))
    assert isinstance(decide(waiting, Observed(101.0), First()), Watch)


def test_a_machine_of_a_pool_that_would_be_given_up_at_once_is_not_taken() -> None:
    seen = Observed(100.0, (), warm=(Warm("p", "token", "m-1", OFFER, 1.0),))
    taken = decide(state_after(), seen, First())
    assert isinstance(taken, OpenAttempt)
    assert taken.warm == seen.warm[0]
    assert decide(state_after(), seen, Patient()) == Pause(107.0, "cheaper soon")


def decisions_event(pause: object) -> Event:
    assert isinstance(pause, Pause)
    return Waiting(pause.until, pause.why)


@pytest.mark.parametrize(
    ("job", "seen", "cause", "outcome"),
    [
        ({"budget": Money(Decimal(1))}, {"spent": Money(Decimal("1.01"))}, Cause.BUDGET, Outcome.BUDGET),
        ({"max_duration": 60.0}, {"now": 61.0}, Cause.TIMED_OUT, Outcome.TIMED_OUT),
    ],
)
def test_limits_stop_the_attempt_and_then_the_run(
    job: dict[str, object], seen: dict[str, object], cause: Cause, outcome: Outcome
) -> None:
    observed = Observed(**({"now": 5.0, "machine": UP, "status": ALIVE} | seen))  # type: ignore[arg-type]
    action = decide(state_after(*RUNNING, **job), observed, First())
    assert isinstance(action, EndAttempt)
    assert action.cause is cause
    after = decide(state_after(*RUNNING, ended(1, cause), **job), observed, First())
    assert isinstance(after, Finish)
    assert after.outcome is outcome


def test_a_finished_program_is_done_even_if_it_overdrew_its_budget() -> None:
    state = state_after(*RUNNING, ended(1, Cause.DONE), budget=Money(Decimal(1)))
    assert decide(state, Observed(99.0, spent=Money(Decimal(9))), First()) == Finish(Outcome.DONE, "")


causes = st.sampled_from([c for c in Cause if c is not Cause.DONE])


@given(st.lists(causes, max_size=12), st.integers(0, 3))
def test_failures_end_a_run_exactly_when_the_retries_are_used_up(history: list[Cause], failures: int) -> None:
    history = [c for c in history if c not in {Cause.CANCELLED, Cause.BUDGET, Cause.TIMED_OUT}]
    events: list[Event] = []
    for number, cause in enumerate(history, 1):
        events += [attempt_opened(number), ended(number, cause)]
    action = decide(state_after(*events, retry=Retry(failures=failures)), Observed(1e6, OFFERS), First())
    failed = sum(cause.failure for cause in history)
    last_failed = bool(history) and history[-1].failure
    assert isinstance(action, Finish) == (last_failed and failed > failures)


@pytest.mark.parametrize(
    ("offers", "deadline", "moves"), [(OFFERS, 3600.0, True), ((), 3600.0, False), (OFFERS, None, False)]
)
def test_a_run_with_a_deadline_moves_when_its_placer_says_so_and_only_after_a_look_at_the_market(
    offers: tuple[Offer, ...], deadline: float | None, moves: bool
) -> None:
    state = state_after(*RUNNING, deadline=deadline)
    while isinstance(action := decide(state, Observed(9.0, offers, UP, ALIVE), Restless()), NoteSighting):
        state = apply(state, Entry("r", 9, 9.0, Sighted(action.sighting.up, action.sighting.prices)))
    assert action == (EndAttempt(Cause.MOVED, "better than a spot") if moves else Watch())


def dearer(offer: Offer, amount: str = "0.95") -> Offer:
    return replace(offer, hourly=Money(Decimal(amount)), price_source="market")


def test_a_new_price_of_the_machine_is_noted_once() -> None:
    state = state_after(*RUNNING)
    offers = (dearer(OFFER), *OFFERS[1:])
    seen = Observed(9.0, offers, UP, ALIVE)
    assert decide(state, seen, First()) == NotePrice(offers[0], ON_DEMAND_PRICE)
    state = apply(state, Entry("r", 9, 9.0, Priced(1, offers[0].hourly, ON_DEMAND_PRICE, "market")))
    assert decide(state, seen, First()) == Watch()
    # The first price again is news again.
    assert decide(state, Observed(69.0, OFFERS, UP, ALIVE), First()) == NotePrice(OFFER, ON_DEMAND_PRICE)
    # But not so often that the log fills up; a clock that was set back delays nothing.
    assert decide(state, Observed(68.9, OFFERS, UP, ALIVE), First()) == Watch()
    assert decide(state, Observed(8.9, OFFERS, UP, ALIVE), First()) == NotePrice(OFFER, ON_DEMAND_PRICE)


def test_what_other_machines_cost_is_no_news_but_on_demand_beside_ours_is() -> None:
    state = state_after(*RUNNING)
    elsewhere = tuple(dearer(offer) if offer.zone != "a" else offer for offer in OFFERS)
    assert decide(state, Observed(9.0, elsewhere, UP, ALIVE), First()) == Watch()
    assert decide(state, Observed(9.0, OFFERS[2:], UP, ALIVE), First()) == Watch(), "not offered: nobody knows"
    firm = (OFFERS[0], dearer(OFFERS[1], "4.00"), *OFFERS[2:])
    assert decide(state, Observed(9.0, firm, UP, ALIVE), First()) == NotePrice(OFFER, Money(Decimal("4.00")))


SAVED = Result(Stage.RUNNING, 75, Heard("aws", 1000.0, 880.0), 890.0)
BUDGET = {"budget": Money(Decimal(1))}


def on(provider: str, *, drawn: bool = False, **job: object) -> RunState:
    begun = attempt_opened(1)
    begun = replace(begun, offer=replace(OFFER, provider=provider), drawn=Drawn("p", "m-1") if drawn else None)
    return state_after(begun, *RUNNING[1:], **job)


def ends(state: RunState, seen: Observed) -> bool:
    return isinstance(decide(state, seen, First()), EndAttempt)


def test_a_machine_that_is_free_if_the_provider_takes_it_is_left_to_the_provider() -> None:
    seen = Observed(900.0, (), UP, None, SAVED)
    assert ends(on("local"), seen)
    assert ends(on("gcp"), seen)
    assert not ends(on("aws"), seen)
    # Not even for a budget: waiting costs nothing, and ending it would.
    broke = replace(seen, spent=Money(Decimal(9)))
    assert not ends(on("aws", **BUDGET), broke)
    assert ends(on("local", **BUDGET), broke)
    # Neither before the agent is through.
    saving = Observed(900.0, (), UP, replace(ALIVE, notice=SAVED.notice), spent=Money(Decimal(9)))
    assert not ends(on("aws", **BUDGET), saving)


@pytest.mark.parametrize(
    "seen",
    [
        Observed(900.0, (), machine(MachineState.ENDED, MachineEnd.INTERRUPTED), None, SAVED),
        Observed(900.0, (), None, None, SAVED),
        Observed(1000.0 + TAKING, (), UP, None, SAVED),
        Observed(900.0, (), UP, None, replace(SAVED, notice=Heard("aws", None, 880.0))),
        Observed(900.0, (), UP, None, replace(SAVED, notice=Heard("aws", 3601.0, 880.0))),
        Observed(900.0, (), UP, None, replace(SAVED, notice=None)),
        Observed(900.0, (), UP, None, replace(SAVED, exit_code=0)),
    ],
    ids=["taken", "gone", "not taken after all", "nobody knows when", "after its first hour", "no notice", "done"],
)
def test_it_is_ended_once_nothing_is_to_be_had_by_waiting(seen: Observed) -> None:
    assert ends(on("aws"), seen)


def test_a_run_with_a_deadline_waits_for_no_free_hour() -> None:
    state, seen = on("aws", work=10.0, deadline=5000.0, **BUDGET), Observed(900.0, (), UP, None, SAVED)
    assert ends(state, seen)
    assert not ends(state, replace(seen, spent=Money(Decimal(9)))), "it does not go on, and has time"


def test_the_free_hour_of_a_machine_that_a_pool_has_had_is_nobody_knows_when() -> None:
    assert ends(on("aws", drawn=True), Observed(900.0, (), UP, None, SAVED))


def test_a_run_that_goes_on_rents_again_until_its_new_budget_is_spent() -> None:
    events = (*RUNNING, ended(1, Cause.BUDGET), Ended(Outcome.BUDGET, "1 of 1"), Reopened(Money(Decimal(2))))
    state = state_after(*events, budget=Money(Decimal(1)))
    assert isinstance(decide(state, Observed(10.0, OFFERS, spent=Money(Decimal("1.5"))), First()), OpenAttempt)
    action = decide(state, Observed(10.0, OFFERS, spent=Money(Decimal(2))), First())
    assert action == Finish(Outcome.BUDGET, "2.00 USD of 2.00 USD are spent")


def test_time_for_which_a_run_was_over_is_no_part_of_its_longest_duration() -> None:
    events = [opened(max_duration=60.0), Ended(Outcome.BUDGET, ""), Reopened(None)]
    entries = [
        Entry("r", n + 1, time, event) for n, (time, event) in enumerate(zip((0.0, 50.0, 1000.0), events, strict=True))
    ]
    assert isinstance(decide(fold(entries), Observed(1009.0, OFFERS), First()), OpenAttempt)
    action = decide(fold(entries), Observed(1010.0, OFFERS), First())
    assert isinstance(action, Finish)
    assert action.outcome is Outcome.TIMED_OUT
