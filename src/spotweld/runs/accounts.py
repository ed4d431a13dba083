"""What a run has cost, and how long machines have lived: folded from runs' states."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotweld.checkpoint.hazard import STEADY, USUAL, Life, informed
from spotweld.values.money import Money, per_second
from spotweld.values.offers import CapacityType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spotweld.checkpoint.hazard import Hazard
    from spotweld.runs.states import RunState
    from spotweld.values.offers import Offer


def spent(state: RunState, now: float) -> Money | None:
    """The price of all machine time so far, the running machine's until ``now`` included; None: no machine yet."""
    total: Money | None = None
    for attempt in state.attempts:
        if attempt.started is None:
            continue
        ended = attempt.ended if attempt.ended is not None else now
        cost = per_second(attempt.offer.hourly, max(0.0, ended - attempt.started))
        total = cost if total is None else total + cost
    return total


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
