"""The seam between what a run's controller has observed and what it rents next."""

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
    """By its own doing, by ours, or not yet."""


class Placement(msgspec.Struct, frozen=True):
    """One try to run on one offer, in the past."""

    zone: str
    capacity_type: CapacityType
    started: float
    ended: float
    """The present, while it is going on."""
    ending: Ending


class Held(msgspec.Struct, frozen=True):
    """The machine that the run is on now."""

    offer: Offer
    began: float
    """When it began to cost, seconds since 1970 UTC."""
    running: float | None
    """When its agent reported; None: not yet."""
    working: float | None
    """When the program had what it needed to go on; None: not yet, or it does not tell."""


class Standing(msgspec.Struct, frozen=True):
    """How a run with a deadline stands. Durations are seconds."""

    work: float
    """That is left, if what is held is kept."""
    time: float
    """Until the deadline; below 0 after it."""
    changeover: float
    """From a machine's start until the program makes progress."""
    cadence: float
    """Between two saves, about; 0: not known, or each step is saved."""
    size: int = 0
    """Bytes of its state; 0: not known."""
    unsaved: float = 0.0
    """Of the work on what is held, that would be left again if it were lost now."""


class Sighting(msgspec.Struct, frozen=True):
    """What was seen of zones at a moment; of those that are missing, what was seen before still holds."""

    time: float
    """Seconds since 1970 UTC."""
    up: dict[str, bool]
    """Whether a spot machine could be had, by zone."""
    prices: dict[str, float]
    """Of spot per machine and hour."""


class Observation(msgspec.Struct, frozen=True):
    """All that a placer may look at."""

    now: float
    """Seconds since 1970 UTC."""
    spot_policy: SpotUse
    offers: tuple[Offer, ...]
    past: tuple[Placement, ...]
    """Oldest first; the last one may be going on."""
    rooms: dict[str, int] = {}
    """How many more spot machines could be had, by zone; what is missing is not known without trying."""
    held: Held | None = None
    standing: Standing | None = None
    """None: the run has no deadline."""
    sightings: tuple[Sighting, ...] = ()
    """Of this run, oldest first."""


class Rent(msgspec.Struct, frozen=True):
    """Rent this one now."""

    offer: Offer
    why: str


class Wait(msgspec.Struct, frozen=True):
    """Rent nothing now; decide again after ``seconds``, or earlier."""

    seconds: float
    why: str


class Placer(ABC):
    """Decides for a run while it goes on. It keeps nothing between two questions, so it may be restarted anywhere."""

    name: str
    every: float
    """Seconds after which it wants to be asked anew, about."""

    @abstractmethod
    def decide(self, observation: Observation) -> Rent | Wait:
        """What to rent, while nothing is held; and why, in one sentence for people."""

    @abstractmethod
    def reconsider(self, observation: Observation) -> str | None:
        """Why what is held should be given up now, in one sentence for people; None: it should be kept."""
