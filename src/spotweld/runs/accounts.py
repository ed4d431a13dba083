"""What a run has cost, and how often it was interrupted: folded from its state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotweld.values.money import Money, per_second

if TYPE_CHECKING:
    from spotweld.runs.states import RunState


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


def hazard(state: RunState, now: float) -> float | None:
    """Interruptions per machine-hour seen by this run; None before the first one.

    The maximum-likelihood estimate of an exponential life: events over exposure.
    """
    taken = sum(1 for attempt in state.attempts if attempt.cause is not None and attempt.cause.interruption)
    exposed = sum(
        max(0.0, (attempt.ended if attempt.ended is not None else now) - attempt.started)
        for attempt in state.attempts
        if attempt.started is not None
    )
    return taken / (exposed / 3600) if taken and exposed > 0 else None
