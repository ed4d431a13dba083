"""The seam between what is seen of a fleet of replicas and what to start and stop: for the simulator and for pools."""

from __future__ import annotations

from abc import ABC, abstractmethod

import msgspec


class Site(msgspec.Struct, frozen=True):
    """A zone, as it is seen now. Money is per machine and hour; times are seconds."""

    zone: str
    spot: float | None
    """None: spot is not sold there."""
    on_demand: float
    """Infinite: it is not to be had there."""
    up: bool | None
    """Whether there is spot capacity, be it taken by this fleet or not; None: nobody knows without trying."""
    age: float
    """Since ``up`` changed, as far back as is known."""
    losses: tuple[float, ...] = ()
    """How long ago spot machines were lost or refused there, the newest first."""
    region: str = ""
    room: int | None = None
    """How many more spot machines could be had; None: not known."""


class Member(msgspec.Struct, frozen=True):
    """A machine of the fleet, from the moment it was asked for. One that was lost is no member any more."""

    id: str
    zone: str
    spot: bool
    ready: bool
    age: float
    """Seconds since its start."""
    going: bool = False
    """The provider has said that it will take it."""


class FleetSeen(msgspec.Struct, frozen=True):
    """All that a policy may look at."""

    target: int
    """How many members should be ready at all times."""
    spare: int
    """How many more may be had on top."""
    members: tuple[Member, ...]
    sites: tuple[Site, ...]
    cold_start: float = 0.0
    """Seconds from a member's start until it is ready. At 0 a loss harms nobody: give a guess, if nothing is known."""


class FleetWant(msgspec.Struct, frozen=True):
    """What to do now. Stops and starts happen at once; a start may be refused."""

    start: tuple[tuple[str, bool], ...] = ()
    """(zone, whether as spot) of each new member."""
    stop: tuple[str, ...] = ()
    """Ids of members."""
    why: str = ""
    """For people."""


class FleetPolicy(ABC):
    """A pure function: it keeps nothing between two questions, and has an answer whatever is seen."""

    name: str

    @abstractmethod
    def decide(self, seen: FleetSeen) -> FleetWant:
        """What to start and what to stop until it is asked again."""
