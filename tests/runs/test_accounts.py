"""What is learned from the lives of machines."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from tests.runs.samples import ON_DEMAND_PRICE, offer, opened

from spotweld.checkpoint.hazard import STEADY, USUAL, Hazard, hourly
from spotweld.runs.accounts import hazard
from spotweld.runs.events import AttemptEnded, AttemptOpened, Cause, Entry, Event, MachineStarted
from spotweld.runs.states import RunState, fold
from spotweld.values.offers import CapacityType, Offer

A, B, FIRM = offer("a"), offer("b"), offer("a", CapacityType.ON_DEMAND)


def run(*lives: tuple[Offer, float, Cause | None]) -> RunState:
    """A run whose attempts lived so long and ended so; None: the last one goes on."""
    log: list[Event] = [opened()]
    at = 1000.0
    for number, (where, seconds, cause) in enumerate(lives, 1):
        log += [
            AttemptOpened(number, where, ON_DEMAND_PRICE, f"t-{number}", "why"),
            MachineStarted(number, f"m-{number}", at),
        ]
        at += seconds
        if cause is not None:
            log.append(AttemptEnded(number, cause, "", at))
    return fold([Entry("r", seq, float(seq), event) for seq, event in enumerate(log, 1)])


def rates(table: Hazard) -> list[float]:
    return [rate.hourly for rate in table]


def test_before_anything_was_seen_machines_are_the_usual_ones() -> None:
    assert rates(hazard([run()], A, 0.0)) == pytest.approx(rates(USUAL))
    assert hazard([run((A, 60.0, Cause.PREEMPTED))], FIRM, 2000.0) == STEADY


def test_the_zone_counts_more_than_the_others_and_those_count_as_well() -> None:
    short = [(A, 120.0, Cause.PREEMPTED_UNNOTICED)] * 5
    assert hourly(hazard([run(*short)], B, 9e3), 0.0) > 2 * hourly(USUAL, 0.0)
    both = [run(*short), run(*[(B, 7200.0, Cause.DONE)] * 5)]
    assert hourly(hazard(both, A, 9e3), 0.0) > 1.5 * hourly(hazard(both, B, 9e3), 0.0)


def test_only_interruptions_are_deaths_and_all_time_is_life() -> None:
    long = 100 * 3600.0
    for cause in (Cause.DONE, Cause.FAILED, Cause.CANCELLED, Cause.MOVED):
        assert hourly(hazard([run((A, long, cause))], A, long), 3600.0) < hourly(USUAL, 3600.0)
    going_on = hazard([run((A, 0.0, None))], A, 1000.0 + long)
    assert going_on == hazard([run((A, long, Cause.DONE))], A, 9e9)
    # What an on-demand machine lives says nothing of spot.
    assert rates(hazard([run((FIRM, long, Cause.DONE))], A, long)) == pytest.approx(rates(USUAL))


def test_all_runs_are_learned_from_and_a_clock_set_back_is_no_life() -> None:
    one, other = run((A, 60.0, Cause.PREEMPTED)), run((A, 90.0, Cause.PREEMPTED))
    assert hourly(hazard([one, other], A, 0.0), 0.0) > hourly(hazard([one], A, 0.0), 0.0)
    future = run((replace(A, machine_type="other"), 0.0, None))
    assert rates(hazard([future], A, 0.0)) == pytest.approx(rates(USUAL))
