"""The first policy: the cheapest spot machine that can be had, and on-demand after too many interruptions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spotweld.errors import UsageError
from spotweld.placement.policy import Ending, Observation, Placement, Policy, Rent, Wait
from spotweld.project.nouns import SpotUse
from spotweld.values.durations import format_duration
from spotweld.values.money import format_money
from spotweld.values.offers import CapacityType

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal

    from spotweld.project.nouns import PlacementRules
    from spotweld.values.offers import Offer


@dataclass(frozen=True)
class CheapestSpot(Policy):
    """Cheapest spot first; on-demand after ``interruptions`` of them within ``window``; spot again after ``cool_off``.

    All times are seconds, so that a demo can run the same policy a hundred times as fast.
    """

    window: float = 3600.0
    """How far apart the first and the last of ``interruptions`` may lie to count as too many."""
    interruptions: int = 3
    """The interruption with this number within the window sends a run that may use either to on-demand."""
    cool_off: float = 3600.0
    """How long after that interruption spot is not considered."""
    backoff: float = 30.0
    """How long a zone is left alone after a refusal; doubles with every further refusal in a row."""
    backoff_most: float = 600.0
    """What the doubling stops at."""
    avoid: float = 300.0
    """How long a zone that has interrupted the run comes after all others, whatever its price."""

    name = "cheapest-spot"

    @classmethod
    def of(cls, rules: PlacementRules) -> CheapestSpot:
        """The policy that a project file asks for."""
        return cls(
            window=rules.window,
            interruptions=rules.interruptions,
            cool_off=rules.window,
            backoff=rules.back_off,
            backoff_most=20 * rules.back_off,
            avoid=rules.avoid,
        )

    def decide(self, observation: Observation) -> Rent | Wait:
        spot = [offer for offer in observation.offers if offer.capacity_type is CapacityType.SPOT]
        firm = [offer for offer in observation.offers if offer.capacity_type is CapacityType.ON_DEMAND]
        if observation.spot_policy is SpotUse.SPOT:
            return self._cheapest(spot, observation, "") or self._wait(spot, observation)
        if observation.spot_policy is SpotUse.ON_DEMAND:
            return self._cheapest(firm, observation, "") or self._wait(firm, observation)
        left = self._cooling(observation)
        if left > 0:
            storm = (
                f"{self.interruptions} interruptions within {format_duration(self.window)}: "
                f"no spot for another {format_duration(left)}; "
            )
            return (
                self._cheapest(firm, observation, storm)
                or self._cheapest(spot, observation, "on-demand cannot be had; ")
                or self._wait([*spot, *firm], observation)
            )
        why = "no spot machine can be had; " if spot else "no spot machine is offered; "
        return (
            self._cheapest(spot, observation, "")
            or self._cheapest(firm, observation, why)
            or self._wait([*spot, *firm], observation)
        )

    def _cooling(self, seen: Observation) -> float:
        """Seconds for which spot is not considered any more; 0: it is."""
        ends = sorted(_ended(seen, past) for past in seen.past if _interrupted(past))
        groups = zip(ends, ends[self.interruptions - 1 :], strict=False)
        storms = [last for first, last in groups if last - first <= self.window]
        return max(0.0, storms[-1] + self.cool_off - seen.now) if storms else 0.0

    def _cheapest(self, offers: list[Offer], seen: Observation, why: str) -> Rent | None:
        """The cheapest that is not backing off; zones that have just interrupted come last, the oldest first."""
        open_now = [offer for offer in offers if self._closed(offer, seen) <= 0]
        if not open_now:
            return None
        if len({offer.hourly.currency for offer in open_now}) > 1:
            raise UsageError(
                "The prices on offer are in several currencies",
                "amounts in different currencies cannot be compared",
                "write all prices of the project file in one currency.",
            )
        hot = {
            past.zone: _ended(seen, past)
            for past in sorted(seen.past, key=lambda past: past.ended)
            if _interrupted(past) and seen.now - _ended(seen, past) < self.avoid
        }

        def rank(offer: Offer) -> tuple[float, Decimal, Offer]:
            risk = hot.get(offer.zone, -math.inf) if offer.capacity_type is CapacityType.SPOT else -math.inf
            return risk, offer.hourly.amount, offer

        best = min(open_now, key=rank)
        passed = [o for o in open_now if o.hourly < best.hourly]
        note = f"; {_zones(passed)} cheaper but has just interrupted the run" if passed else ""
        return Rent(best, f"{why}cheapest {best.capacity_type}: {best.zone} at {format_money(best.hourly)}/h{note}")

    def _closed(self, offer: Offer, seen: Observation) -> float:
        """Seconds for which this offer's zone is left alone after refusals; not above 0: it may be asked."""
        here = [p for p in seen.past if p.zone == offer.zone and p.capacity_type is offer.capacity_type]
        refusals = 0
        for past in reversed(here):
            if past.ending is not Ending.REFUSED:
                break
            refusals += 1
        if not refusals:
            return 0.0
        # The exponent is bounded so that no number of refusals overflows a float.
        pause = min(self.backoff * 2.0 ** min(refusals - 1, 64), self.backoff_most)
        return _ended(seen, here[-1]) + pause - seen.now

    def _wait(self, offers: list[Offer], seen: Observation) -> Wait:
        if not offers:
            return Wait(self.backoff, f"nothing is offered that this job may use (spot_policy: {seen.spot_policy})")
        seconds = min(self._closed(offer, seen) for offer in offers)
        zones = len({offer.zone for offer in offers})
        return Wait(seconds, f"all {zones} zones have refused; asking again in {format_duration(seconds)}")


def _interrupted(past: Placement) -> bool:
    return past.ending is Ending.INTERRUPTED and past.capacity_type is CapacityType.SPOT


def _ended(seen: Observation, past: Placement) -> float:
    """A clock that was set back must not turn a short pause into a long one: nothing ended in the future."""
    return min(past.ended, seen.now)


def _zones(offers: Iterable[Offer]) -> str:
    return ", ".join(sorted({offer.zone for offer in offers}))
