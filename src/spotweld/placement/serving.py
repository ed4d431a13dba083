"""A fleet of replicas through a recorded market: how much of the time enough of them were ready, and for how much."""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from spotweld.errors import UsageError
from spotweld.placement.fleets import FleetSeen, Member, Site
from spotweld.placement.market import ages, exact

if TYPE_CHECKING:
    from collections.abc import Callable

    from spotweld.placement.fleets import FleetPolicy, FleetWant
    from spotweld.placement.market import Market

REMEMBERED = 16
"""Losses and refusals of a zone that are told."""


@dataclass(frozen=True)
class Service:
    """What is asked for.

    Raises:
        UsageError: a number that cannot be.
    """

    target: int
    """Members that should be ready at all times."""
    spare: int = 1
    """Members that may be had on top."""
    cold_start: float = 120.0
    """Seconds from a member's start until it is ready: paid. Rounded to 1/1024 s."""

    def __post_init__(self) -> None:
        low = {"target": 1, "spare": 0, "cold_start": 0}
        for name, least in low.items():
            value = getattr(self, name)
            if not least <= value < 1e9:
                raise UsageError(f"a service's {name} cannot be {value}", "", f"give a number from {least} on")
        object.__setattr__(self, "cold_start", exact(self.cold_start))


class Served(msgspec.Struct, frozen=True):
    """What became of a service. Times are seconds."""

    policy: str
    time: float
    """All of it; what follows about readiness is of the time after the first cold start."""
    enough: float
    """With at least the target ready."""
    availability: float
    """The share of time with at least the target ready."""
    ready: float
    """The mean share of the target that was ready."""
    cost: float
    firm_cost: float
    """Of as many on-demand machines as the target, where they are cheapest."""
    cost_share: float
    """``cost`` over ``firm_cost``."""
    preemptions: int
    """Spot members lost."""
    refused: int
    """Spot members that could not be had."""
    starts: int
    spot: float
    """Machine-seconds paid."""
    on_demand: float
    """Machine-seconds paid."""
    ticks: tuple[tuple[float, float, float, float], ...]
    """By tick: the means of spot members ready, of on-demand members ready, and of those not ready yet; and the share
    of it with at least the target ready."""


@dataclass
class _Machine:
    id: str
    zone: int
    spot: bool
    started: float


def serve(
    market: Market,
    service: Service,
    policy: FleetPolicy,
    tell: Callable[[int, int], None] = lambda _done, _all: None,
) -> Served:
    """Keep ``service`` up through all of ``market`` under ``policy``.

    The policy is asked at each tick, after losses, and at each moment in between at which a member becomes ready.

    Args:
        market: what could be had; ``capacity`` is how many machines fit.
        service: what is asked for.
        policy: who decides.
        tell: called now and then with the ticks that are done and all there are.

    Raises:
        UsageError: the recording is shorter than a cold start.
        ValueError: the policy wants what does not exist.
    """
    if market.ticks * market.gap <= service.cold_start:
        raise UsageError("the recording is too short", "it ends before the first replica is ready", "use a longer")
    fleet = _Fleet(market, service, policy)
    for tick in range(market.ticks):
        fleet.live(tick)
        if tick % 256 == 0:
            tell(tick, market.ticks)
    tell(market.ticks, market.ticks)
    return fleet.served()


def roomy(market: Market, count: int) -> Market:
    """The same, with room for ``count`` machines for each one of the recording's."""
    return replace(market, capacity=market.capacity * count)


class _Fleet:
    """The members at one moment, and the accounts."""

    def __init__(self, market: Market, service: Service, policy: FleetPolicy) -> None:
        self._market, self._service, self._policy = market, service, policy
        # Plain lists: single items of an array are slow.
        self._capacity: list[list[int]] = market.capacity.tolist()
        self._spot: list[list[float]] = market.spot.tolist()
        self._age: list[list[float]] = ages(market.up(1), market.gap).tolist()
        self._on_demand: list[float] = market.on_demand.tolist()
        self._place = {zone: place for place, zone in enumerate(market.zones)}
        self._losses: list[deque[float]] = [deque(maxlen=REMEMBERED) for _ in market.zones]
        self._machines: list[_Machine] = []
        self._cost = self._enough = self._ready = 0.0
        self._paid = {True: 0.0, False: 0.0}
        self._preemptions = self._refused = self._starts = 0
        self._ticks: list[tuple[float, float, float, float]] = []

    def live(self, tick: int) -> None:
        """One tick: losses, then as many questions as there are moments to decide, and the time between them."""
        gap = self._market.gap
        begin, end = tick * gap, (tick + 1) * gap
        self._lose(tick, begin)
        now, sums = begin, np.zeros(4)
        while now < end:
            self._do(self._policy.decide(self._see(tick, now)), tick, now)
            ready = [machine.started + self._service.cold_start for machine in self._machines]
            until = min([end, *(moment for moment in ready if moment > now)])
            sums += self._pass(tick, now, until)
            now = until
        spot, firm, cold, enough = (sums / gap).tolist()
        self._ticks.append((spot, firm, cold, enough))

    def _lose(self, tick: int, now: float) -> None:
        """Of those that do not fit any more the newest are lost: what was there longest is what was ready."""
        room, kept = list(self._capacity[tick]), []
        for machine in self._machines:
            if machine.spot and not room[machine.zone]:
                self._losses[machine.zone].appendleft(now)
                self._preemptions += 1
                continue
            room[machine.zone] -= machine.spot
            kept.append(machine)
        self._machines = kept

    def _see(self, tick: int, now: float) -> FleetSeen:
        market, service = self._market, self._service
        passed = now - tick * market.gap
        taken = Counter(machine.zone for machine in self._machines if machine.spot)
        return FleetSeen(
            target=service.target,
            spare=service.spare,
            members=tuple(
                Member(
                    machine.id,
                    market.zones[machine.zone],
                    machine.spot,
                    machine.started + service.cold_start <= now,
                    now - machine.started,
                )
                for machine in self._machines
            ),
            sites=tuple(
                Site(
                    zone,
                    self._spot[tick][place],
                    self._on_demand[place],
                    self._capacity[tick][place] > 0,
                    self._age[tick][place] + passed,
                    tuple(now - moment for moment in self._losses[place]),
                    market.regions[place],
                    self._capacity[tick][place] - taken[place],
                )
                for place, zone in enumerate(market.zones)
            ),
            cold_start=service.cold_start,
        )

    def _do(self, want: FleetWant, tick: int, now: float) -> None:
        known, stop = {machine.id for machine in self._machines}, set(want.stop)
        if not stop <= known or any(zone not in self._place for zone, _ in want.start):
            raise ValueError("a policy wants what does not exist")
        self._machines = [machine for machine in self._machines if machine.id not in stop]
        taken = Counter(machine.zone for machine in self._machines if machine.spot)
        for zone, spot in want.start:
            place = self._place[zone]
            if spot and taken[place] >= self._capacity[tick][place]:
                self._losses[place].appendleft(now)
                self._refused += 1
                continue
            taken[place] += spot
            self._starts += 1
            self._machines.append(_Machine(f"m{self._starts}", place, spot, now))

    def _pass(self, tick: int, now: float, until: float) -> tuple[float, float, float, float]:
        """Account for the time from ``now`` to ``until``, in which nothing changes.

        Returns:
            Machine-seconds of spot that is ready, of on-demand that is ready, and of what is not; seconds with enough.
        """
        length = until - now
        ready, cold = {True: 0, False: 0}, 0
        for machine in self._machines:
            price = self._spot[tick][machine.zone] if machine.spot else self._on_demand[machine.zone]
            self._cost += price * length / 3600.0
            self._paid[machine.spot] += length
            if machine.started + self._service.cold_start <= now:
                ready[machine.spot] += 1
            else:
                cold += 1
        count = ready[True] + ready[False]
        enough = count >= self._service.target
        # Nobody could be ready in the first cold start: it does not count.
        counted = max(0.0, until - max(now, self._service.cold_start))
        self._enough += counted * enough
        self._ready += counted * min(1.0, count / self._service.target)
        return ready[True] * length, ready[False] * length, cold * length, enough * length

    def served(self) -> Served:
        """The accounts."""
        time = self._market.ticks * self._market.gap
        counted = time - self._service.cold_start
        firm = min(self._on_demand) * self._service.target * time / 3600.0
        return Served(
            policy=self._policy.name,
            time=time,
            enough=self._enough,
            availability=self._enough / counted,
            ready=self._ready / counted,
            cost=self._cost,
            firm_cost=firm,
            cost_share=self._cost / firm if firm else math.inf,
            preemptions=self._preemptions,
            refused=self._refused,
            starts=self._starts,
            spot=self._paid[True],
            on_demand=self._paid[False],
            ticks=tuple(self._ticks),
        )
