"""How long a zone is left alone that has refused: who is short of machines, or lies, is not asked again at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotweld.placement.placer import Ending

if TYPE_CHECKING:
    from spotweld.placement.placer import Observation, Placement
    from spotweld.values.offers import Offer


def left_alone(offer: Offer, seen: Observation, first: float, most: float) -> float:
    """Seconds for which this offer is not asked for; not above 0: it may be.

    Args:
        offer: spot and on-demand in one zone are counted apart.
        seen: the past is in it.
        first: the pause after one refusal, in seconds; it doubles with every further one in a row.
        most: what the doubling stops at.
    """
    here = [p for p in seen.past if p.zone == offer.zone and p.capacity_type is offer.capacity_type]
    refusals = 0
    for past in reversed(here):
        if past.ending is not Ending.REFUSED:
            break
        refusals += 1
    if not refusals:
        return 0.0
    # The exponent is bounded so that no number of refusals overflows a float.
    pause = min(first * 2.0 ** min(refusals - 1, 64), most)
    return ended(seen, here[-1]) + pause - seen.now


def ended(seen: Observation, past: Placement) -> float:
    """A clock that was set back must not turn a short pause into a long one: nothing ended in the future."""
    return min(past.ended, seen.now)
