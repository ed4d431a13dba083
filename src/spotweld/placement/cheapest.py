"""The placer of runs without a deadline: the cheapest spot machine, and on-demand after too many interruptions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spotweld.errors import UsageError
from spotweld.placement.bounds import share_holds
from spotweld.placement.placer import Ending, Observation, Placement, Placer, Rent, Wait
from spotweld.placement.refusals import ended, left_alone
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
class CheapestSpot(Placer):
    """Cheapest spot first; on-demand after ``interruptions`` of them within ``window``; spot again after ``cool_off``.

    All times are seconds, so that a demo can run the same rules a hundred times as fast.
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

    min_spot_share: float | None = None
    """The share of machine time that has to be spot's; None: none has to."""

    name = "cheapest-spot"
    every = 2.0

    @classmethod
    def of(cls, rules: PlacementRules) -> CheapestSpot:
        """What a project file asks for."""
        return cls(
            window=rules.window,
            interruptions=rules.interruptions,
            cool_off=rules.window,
            backoff=rules.back_off,
            backoff_most=rules.longest_back_off,
            avoid=rules.avoid,
            min_spot_share=rules.min_spot_share,
        )

    def decide(self, observation: Observation) -> Rent | Wait:
        spot = [offer for offer in observation.offers if offer.capacity_type is CapacityType.SPOT]
        firm = [offer for offer in observation.offers if offer.capacity_type is CapacityType.ON_DEMAND]
        if observation.spot_policy is SpotUse.SPOT:
            return self._cheapest(spot, observation, "") or self._wait(spot, observation)
        if observation.spot_policy is SpotUse.ON_DEMAND:
            return self._cheapest(firm, observation, "") or self._wait(firm, observation)
        if not share_holds(observation.past, self.min_spot_share):
            why = f"min_spot_share of {self.min_spot_share:.0%}: "
            return self._cheapest(spot, observation, why) or self._wait(spot, observation)
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

    def reconsider(self, observation: Observation) -> str | None:
        """Why a run that fled to on-demand should go back to spot now.

        An on-demand machine is not taken away, so nothing else would end its time there. It stays for one window at
        least: should spot be refused again, the move costs one restart a window and no more.
        """
        held = observation.held
        fled = held is not None and held.offer.capacity_type is CapacityType.ON_DEMAND
        if held is None or held.running is None or not fled or observation.spot_policy is not SpotUse.AUTO:
            return None
        if observation.now - held.running < self.window and share_holds(observation.past, self.min_spot_share):
            return None
        choice = self.decide(observation)
        spot = isinstance(choice, Rent) and choice.offer.capacity_type is CapacityType.SPOT
        return f"back to spot: {choice.why}" if spot else None

    def _cooling(self, seen: Observation) -> float:
        """Seconds for which spot is not considered any more; 0: it is."""
        ends = sorted(ended(seen, past) for past in seen.past if _interrupted(past))
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
            past.zone: ended(seen, past)
            for past in sorted(seen.past, key=lambda past: past.ended)
            if _interrupted(past) and seen.now - ended(seen, past) < self.avoid
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
        return left_alone(offer, seen, self.backoff, self.backoff_most)

    def _wait(self, offers: list[Offer], seen: Observation) -> Wait:
        if not offers:
            return Wait(self.backoff, f"nothing is offered that this job may use (spot_policy: {seen.spot_policy})")
        seconds = min(self._closed(offer, seen) for offer in offers)
        zones = len({offer.zone for offer in offers})
        return Wait(seconds, f"all {zones} zones have refused; asking again in {format_duration(seconds)}")


def _interrupted(past: Placement) -> bool:
    return past.ending is Ending.INTERRUPTED and past.capacity_type is CapacityType.SPOT


def _zones(offers: Iterable[Offer]) -> str:
    return ", ".join(sorted({offer.zone for offer in offers}))
