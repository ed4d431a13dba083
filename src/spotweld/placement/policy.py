"""The seam between what was observed and what to rent next."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import StrEnum

import msgspec

from spotweld.project.nouns import SpotUse
from spotweld.values.offers import CapacityType, Offer


class Ending(StrEnum):
    """How a placement ended, as far as placement cares."""

    INTERRUPTED = "interrupted"
    REFUSED = "refused"
    """The offer could not be had at all."""
    OTHER = "other"


class Placement(msgspec.Struct, frozen=True):
    """One try to run on one offer, in the past."""

    zone: str
    capacity_type: CapacityType
    started: float
    ended: float
    ending: Ending


class Observation(msgspec.Struct, frozen=True):
    """All that a policy may look at."""

    now: float
    """Seconds since 1970 UTC."""
    spot_policy: SpotUse
    offers: tuple[Offer, ...]
    past: tuple[Placement, ...]
    """Oldest first."""


class Rent(msgspec.Struct, frozen=True):
    """Rent this one now."""

    offer: Offer
    why: str


class Wait(msgspec.Struct, frozen=True):
    """Rent nothing now; decide again after ``seconds``."""

    seconds: float
    why: str


class Policy(ABC):
    """A pure function; the simulator and the controller use the same object."""

    name: str

    @abstractmethod
    def decide(self, observation: Observation) -> Rent | Wait:
        """What to do next, and why in one sentence for people."""
