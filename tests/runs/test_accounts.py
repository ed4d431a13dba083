"""What is learned from the lives of machines."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec.structs import replace
from tests.runs.samples import ON_DEMAND_PRICE, offer, opened

from spotweld.checkpoint.hazard import STEADY, USUAL, Hazard, hourly
from spotweld.costs.ledger import ledger
from spotweld.costs.totals import total
from spotweld.providers.provider import Machine, MachineEnd, MachineState
from spotweld.runs.accounts import corrections, hazard, spent
from spotweld.runs.events import AttemptEnded, AttemptOpened, Cause, Drawn, Entry, Event, MachineStarted, Recorded
from spotweld.runs.history import Loss, usages
from spotweld.runs.states import RunState, apply, fold
from spotweld.values.money import Money
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


def record(
    number: int, started: float, ended: float | None, end: MachineEnd | None = MachineEnd.INTERRUPTED
) -> Machine:
    state = MachineState.RUNNING if ended is None else MachineState.ENDED
    return Machine(f"m-{number}", f"t-{number}", A, {}, state, started, ended, end)


TWO = run((A, 60.0, Cause.PREEMPTED), (A, 90.0, None))


def test_where_the_provider_s_record_differs_its_word_counts_and_the_difference_stays() -> None:
    records = [record(1, 1000.0, 1050.0), record(2, 1060.0, None), record(9, 0.0, 1.0)]
    (correction,) = corrections(TWO, records)
    assert correction == Recorded(1, 1000.0, 1050.0, MachineEnd.INTERRUPTED)
    ended = apply(TWO, Entry("r", 8, 0.0, AttemptEnded(2, Cause.DONE, "", 1150.0, end=MachineEnd.STOPPED)))
    corrected = apply(ended, Entry("r", 9, 0.0, correction))
    assert [usage.ended - usage.started for usage in usages(corrected, {}, 0.0)] == [50.0, 90.0]
    assert corrected.attempts[0].logged == (1000.0, 1060.0)
    # Once is enough.
    assert corrections(corrected, [*records, record(2, 1060.0, 1150.0, MachineEnd.STOPPED)]) == []


def test_a_machine_that_still_runs_for_us_or_for_the_provider_is_not_corrected() -> None:
    assert corrections(TWO, [record(1, 1000.0, None), record(2, 1060.0, 1070.0)]) == []


def test_what_a_pool_handed_on_began_before_the_run_had_it() -> None:
    drawn = replace(TWO.attempts[0], drawn=Drawn("p", "m-1"))
    assert corrections(replace(TWO, attempts=(drawn,)), [record(1, 900.0, 1050.0)]) == []


def test_a_record_that_ends_before_it_begins_is_corrected_once() -> None:
    (correction,) = corrections(TWO, [record(1, 1000.0, 990.0)])
    corrected = apply(replace(TWO, attempts=TWO.attempts[:1]), Entry("r", 9, 0.0, correction))
    assert corrections(corrected, [record(1, 1000.0, 990.0)]) == []


def test_what_is_spent_is_what_the_ledger_s_rows_come_to() -> None:
    free = replace(A, provider="aws")
    state = run((A, 60.0, Cause.PREEMPTED), (free, 7.0, Cause.DONE), (A, 5000.0, None))
    (sums,) = total(ledger(usages(state, {1: Loss(3, 20.0)}, 9000.0)))
    assert spent(state, 9000.0) == sums.billed
    # The machine of AWS is charged for a minute.
    assert sums.billed.amount * 3600 / Decimal("0.90") == pytest.approx(60 + 60 + 9000 - 1067)
    assert spent(run(), 9000.0) is None
    assert spent(run((A, 0.0, None)), 0.0) == Money(Decimal(0))
