"""What a job will cost, by what its runs have shown."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace
from tests.checkpoint.plans import PLAN
from tests.runs.pasts import Past
from tests.runs.samples import OFFERS, attempt_opened, opened
from tests.runs.telling import ship, training

from spotweld.checkpoint import events as told
from spotweld.checkpoint.cadence import LONGEST
from spotweld.costs.estimates import ON_DEMAND, SPOT, UNDISTURBED, Hourly
from spotweld.costs.renewals import Range
from spotweld.errors import UsageError
from spotweld.project.nouns import CheckpointPolicy, EverySeconds, EverySteps, Job, PlacementRules
from spotweld.runs.estimating import Given, Learned, estimate_job, learned, past_of
from spotweld.runs.events import AttemptEnded, Cause, Ended, Entry, MachineStarted, Opened, Outcome, Running
from spotweld.runs.following import Told
from spotweld.runs.history import progress
from spotweld.runs.states import fold
from spotweld.store.opening import open_store
from spotweld.values.money import Money

if TYPE_CHECKING:
    from pathlib import Path

    from spotweld.costs.estimates import Estimate
    from spotweld.runs.events import Event
    from spotweld.runs.history import Progress
    from spotweld.runs.states import RunState

JOB, RULES, HOUR = Job("job", "true", work=7200.0), PlacementRules(), 3600.0


def run(*events: tuple[float, Event], opening: Opened | None = None) -> RunState:
    every = [(0.0, opening or opened()), *events, (9999.0, Ended(Outcome.DONE, ""))]
    return fold([Entry("r", seq, time, event) for seq, (time, event) in enumerate(every, 1)])


def machine(number: int, started: float, running: float, ended: float, cause: Cause) -> list[tuple[float, Event]]:
    return [
        (started, attempt_opened(number)),
        (started, MachineStarted(number, f"m{number}", started)),
        (running, Running(number)),
        (ended, AttemptEnded(number, cause, "", ended)),
    ]


def interrupted() -> tuple[RunState, dict[int, Progress]]:
    """25 steps, of which 5 are lost with the machine, then 80; a step takes a second."""
    state = run(*machine(1, 0.0, 10.0, 50.0, Cause.PREEMPTED), *machine(2, 100.0, 120.0, 300.0, Cause.DONE))
    events = [(1, event) for event in training(20.0, 0, 25)] + [(2, event) for event in training(130.0, 20, 100)]
    events.append((2, told.Cadence(200.0, PLAN)))
    return state, progress([Told(number, event) for number, event in events])


def silent(seconds: float) -> tuple[RunState, dict[int, Progress]]:
    """A program that tells nothing: what it did on its first machine was in vain."""
    lost = machine(1, 0.0, 10.0, 50.0, Cause.PREEMPTED)
    return run(*lost, *machine(2, 100.0, 130.0, 130.0 + seconds, Cause.DONE)), {}


def ask(job: Job = JOB, shown: Learned = Learned(), given: Given = Given(), **more: object) -> Estimate:  # noqa: B008
    return estimate_job(job, RULES, OFFERS, more.get("states", []), shown, given, 0.0)  # type: ignore[arg-type]


def test_steps_that_were_done_twice_are_work_once() -> None:
    shown = learned([interrupted()])
    # The program logs in the middle of a step, half a second before the step is told, on each of the two machines.
    assert shown == Learned(1, Range.exactly(99.0), changeover=10.0 + 15.0, interval=42.0, pace=0.99)


def test_a_program_that_tells_nothing_did_its_work_on_its_last_machine() -> None:
    shown = learned([silent(100.0), silent(400.0), silent(160.0)])
    assert (shown.runs, shown.work, shown.changeover) == (3, Range(100.0, 160.0, 400.0), 20.0)
    assert (shown.interval, shown.pace) == (None, None)
    assert learned([]) == Learned()


def test_only_runs_of_the_job_that_were_done_count(tmp_path: Path) -> None:
    past, store = Past(tmp_path / "events.db"), open_store("memory:")
    for name, outcome in (("done", Outcome.DONE), ("failed", Outcome.FAILED), ("late", Outcome.LATE)):
        past.attempt(name, 0.0, 1.0, Cause.DONE)
        past.log.append(name, past.generations[name], Ended(outcome, ""))
    past.attempt("running", 2.0, None, Cause.DONE)
    ship(store, "done", 1, training(past.at(0.1), 0, 100))
    found = past_of(past.log, "job", lambda _: store)
    assert {state.run: len(history) for state, history in found} == {"done": 1, "late": 0}
    assert past_of(past.log, "another", lambda _: store) == []


def test_what_is_said_goes_before_what_was_measured_and_that_before_the_file() -> None:
    shown = Learned(2, Range(3000.0, 3600.0, 5000.0), 30.0, 60.0, 0.5)
    seconds = [
        found.line(UNDISTURBED).seconds for found in (ask(), ask(shown=shown), ask(shown=shown, given=Given(60)))
    ]
    assert seconds == [Range.exactly(7320.0), Range(3030.0, 3630.0, 5030.0), Range.exactly(90.0)]
    assert "measured in 2 runs" in ask(shown=shown).notes[0]
    with pytest.raises(UsageError, match="nobody knows how long"):
        ask(replace(JOB, work=None))


@pytest.mark.parametrize(
    ("policy", "shown", "given", "seconds"),
    [
        (CheckpointPolicy(), Learned(), Given(), LONGEST),
        (CheckpointPolicy(), Learned(interval=42.0), Given(), 42.0),
        (CheckpointPolicy(max_lost_work=20.0), Learned(interval=42.0), Given(), 20.0),
        (CheckpointPolicy(EverySeconds(600.0)), Learned(interval=42.0), Given(), 600.0),
        (CheckpointPolicy(EverySteps(50)), Learned(pace=2.0), Given(), 100.0),
        (CheckpointPolicy(EverySteps(50), max_lost_work=20.0), Learned(pace=2.0), Given(cadence=900.0), 900.0),
    ],
    ids=str,
)
def test_how_often_it_is_saved(policy: CheckpointPolicy, shown: Learned, given: Given, seconds: float) -> None:
    found = ask(replace(JOB, checkpoint=policy), shown, replace(given, interruptions=2))
    line = found.line("spot, 2 interruptions").seconds
    assert line is not None
    assert line.high - line.low == pytest.approx(2 * seconds)


def test_steps_whose_pace_nobody_has_seen_are_no_time() -> None:
    with pytest.raises(UsageError, match="how long a step takes"):
        ask(replace(JOB, checkpoint=CheckpointPolicy(EverySteps(50))))


def test_prices_are_those_of_the_cheapest_offers_unless_they_are_said() -> None:
    assert [ask().line(way).hourly for way in (SPOT, ON_DEMAND)] == [
        min(offer.hourly for offer in OFFERS),
        max(offer.hourly for offer in OFFERS),
    ]
    said = ask(given=Given(hourly=Hourly(on_demand=Money(Decimal(25)))))
    assert said.line(ON_DEMAND).hourly == Money(Decimal(25))
    assert "on-demand: 25.00 USD/h, as you say" in said.notes
    nothing = estimate_job(JOB, RULES, [], [], Learned(), Given(), 0.0)
    assert all(line.cost is None for line in nothing.lines)
    dearer = replace(OFFERS[0], hourly=Money(Decimal(1), "EUR"))
    with pytest.raises(UsageError, match="different currencies"):
        estimate_job(JOB, RULES, [*OFFERS, dearer], [], Learned(), Given(), 0.0)


def test_machines_that_were_taken_here_make_it_dearer() -> None:
    often = Given(cadence=60.0)
    calm = ask(given=often).line(SPOT).cost
    state = run(*(event for number in range(1, 9) for event in machine(number, 0.0, 1.0, 900.0, Cause.PREEMPTED)))
    found = ask(given=often, states=[state])
    stormy = found.line(SPOT).cost
    assert calm is not None
    assert stormy is not None
    assert stormy.expected > calm.expected
    assert any("corrected by 8 of this project, of which 8 were taken" in note for note in found.notes)
