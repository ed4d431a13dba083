"""What a run has cost, and how long machines have lived: folded from runs' states."""

from __future__ import annotations

from decimal import localcontext
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

from spotweld.checkpoint.hazard import STEADY, USUAL, Life, informed
from spotweld.costs.charges import EXACT
from spotweld.costs.ledger import cost
from spotweld.runs.events import Recorded
from spotweld.runs.history import usages
from spotweld.values.offers import CapacityType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spotweld.checkpoint.hazard import Hazard
    from spotweld.providers.provider import Machine
    from spotweld.runs.states import RunState
    from spotweld.values.money import Money
    from spotweld.values.offers import Offer


def spent(state: RunState, now: float) -> Money | None:
    """The price of all machines and their disks so far, what runs until ``now`` included; None: no machine yet.

    It is what the ledger's rows of these come to.
    """
    costs = [cost(usage) for usage in usages(state, {}, now)]
    with localcontext(EXACT):
        return reduce(add, costs) if costs else None


def corrections(state: RunState, machines: Iterable[Machine]) -> list[Recorded]:
    """Where the provider's record of the run's machines that have ended differs from what was logged.

    A machine that a pool handed on is left out: its record begins before the run had it.
    """
    records = {machine.id: machine for machine in machines if machine.ended is not None}
    found = []
    for attempt in state.attempts:
        record = records.get(attempt.machine or "")
        if record is None or record.ended is None or attempt.ended is None or attempt.drawn is not None:
            continue
        theirs = record.started, max(record.started, record.ended), record.end
        if theirs != (attempt.started, attempt.ended, attempt.end):
            found.append(Recorded(attempt.number, *theirs))
    return found


def hazard(states: Iterable[RunState], offer: Offer, now: float) -> Hazard:
    """How often machines of this offer are taken, by their age.

    Args:
        states: the runs from whose machines to learn. Those of the same zone and type count most; the others say how
            good or bad a time it is.
        offer: what is about to be rented.
        now: seconds since 1970 UTC; machines that still run have lived until then.
    """
    if offer.capacity_type is CapacityType.ON_DEMAND:
        return STEADY
    here: list[Life] = []
    elsewhere: list[Life] = []
    for attempt in (attempt for state in states for attempt in state.attempts):
        if attempt.started is None or attempt.offer.capacity_type is CapacityType.ON_DEMAND:
            continue
        ended = attempt.ended if attempt.ended is not None else now
        taken = attempt.cause is not None and attempt.cause.interruption
        lives = here if _market(attempt.offer) == _market(offer) else elsewhere
        lives.append(Life(max(0.0, ended - attempt.started), taken))
    return informed(informed(USUAL, elsewhere), here)


def _market(offer: Offer) -> tuple[str, str, str]:
    return offer.provider, offer.zone, offer.machine_type
