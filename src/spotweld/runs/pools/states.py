"""What is known of a pool: folded from its events, and nothing else."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from spotweld.costs.usage import Usage
from spotweld.errors import IllegalTransition
from spotweld.project.nouns import SpotUse
from spotweld.providers.provider import MachineEnd
from spotweld.runs.pools.events import (
    Down,
    DownWanted,
    MemberClosed,
    MemberEnd,
    MemberEnded,
    MemberOpened,
    MemberReady,
    MemberStarted,
    MemberTaken,
    PoolEntry,
    Wanted,
)
from spotweld.runs.pools.members import Recipe
from spotweld.values.money import Money
from spotweld.values.offers import CapacityType, Offer

if TYPE_CHECKING:
    from collections.abc import Sequence


class Member(msgspec.Struct, frozen=True):
    """A machine of the pool, from the intention to rent it on."""

    token: str
    offer: Offer
    on_demand_hourly: Money
    why: str
    recipe: Recipe
    opened: float
    machine: str | None = None
    started: float | None = None
    """When it began to cost; None: it never did."""
    ready: float | None = None
    closed: MemberEnd | None = None
    closed_why: str = ""
    closed_at: float | None = None
    taken: tuple[str, int] | None = None
    """The run and the attempt that have it."""
    ended: float | None = None
    """When the pool stopped paying for it."""
    end: MachineEnd | None = None
    """Why its machine ended, by the provider's own record."""

    @property
    def live(self) -> bool:
        """Whether the pool has still to care for it."""
        return self.ended is None

    @property
    def spot(self) -> bool:
        """Whether the provider may take it."""
        return self.offer.capacity_type is CapacityType.SPOT


class PoolState(msgspec.Struct, frozen=True):
    """A pool, at one moment of its log."""

    wanted: Wanted
    since: float
    """When it came up last."""
    seq: int
    going_down: bool = False
    down: bool = False
    members: tuple[Member, ...] = ()

    @property
    def name(self) -> str:
        """Its name in the project file."""
        return self.wanted.pool.name

    @property
    def live(self) -> tuple[Member, ...]:
        """The members that the pool has to care for."""
        return tuple(member for member in self.members if member.live)

    @property
    def waiting(self) -> tuple[Member, ...]:
        """Those that a run could have."""
        return tuple(m for m in self.live if m.ready is not None and m.closed is None)

    @property
    def phase(self) -> str:
        """One word for people."""
        if self.down:
            return "down"
        if self.going_down:
            return "going down"
        return "ready" if len(self.waiting) >= self.wanted.pool.machines else "filling"


def fold(entries: Sequence[PoolEntry]) -> PoolState:
    """The state after these entries; the first one says what is wanted.

    Raises:
        IllegalTransition: an entry does not fit what came before it.
    """
    first = entries[0]
    if not isinstance(first.event, Wanted):
        raise IllegalTransition(f"the log of the pool {first.pool} begins with {type(first.event).__name__}")
    return reduce(apply, entries[1:], PoolState(first.event, first.time, first.seq))


def apply(state: PoolState, entry: PoolEntry) -> PoolState:
    """The state after one more entry.

    Raises:
        IllegalTransition: it does not fit the state.
    """
    event = entry.event
    state = replace(state, seq=entry.seq)
    match event:
        case Wanted():
            since = entry.time if state.down else state.since
            return replace(state, wanted=event, since=since, going_down=False, down=False)
        case DownWanted() if not state.down:
            return replace(state, going_down=True)
        case Down() if state.going_down and not state.live:
            return replace(state, down=True)
        case MemberOpened() if not state.down:
            given = event.token, event.offer, event.on_demand_hourly, event.why, event.recipe
            return replace(state, members=(*state.members, Member(*given, opened=entry.time)))
        case MemberStarted() | MemberReady() | MemberClosed() | MemberTaken() | MemberEnded():
            members = tuple(_advance(state, entry, m) if m.token == event.token else m for m in state.members)
            if members != state.members:
                return replace(state, members=members)
    raise _illegal(state, entry)


def _advance(state: PoolState, entry: PoolEntry, member: Member) -> Member:
    if member.live:
        match entry.event:
            case MemberStarted(machine=machine, started=started) if member.machine is None:
                return replace(member, machine=machine, started=started)
            case MemberReady() if member.machine is not None and member.ready is None:
                return replace(member, ready=entry.time)
            case MemberClosed(end=end, why=why) if member.closed is None:
                return replace(member, closed=end, closed_why=why, closed_at=entry.time)
            case MemberTaken(run=run, attempt=attempt, at=at) if member.started is not None and member.closed is None:
                return replace(member, taken=(run, attempt), ended=max(at, member.started))
            case MemberEnded(ended=ended, end=end) if member.closed is not None:
                return replace(member, ended=max(ended, member.started or ended), end=end)
    raise _illegal(state, entry)


def _illegal(state: PoolState, entry: PoolEntry) -> IllegalTransition:
    return IllegalTransition(f"{type(entry.event).__name__} does not fit the pool {entry.pool}, which is {state.phase}")


def usages(state: PoolState, now: float) -> list[Usage]:
    """The time that machines waited in the pool, as the ledger takes it. What a run took it pays from then on.

    Args:
        state: the pool.
        now: the end of what still waits.
    """
    return [
        Usage(
            project=state.wanted.project,
            run=f"pool {state.name}",
            attempt=number,
            machine=member.machine or "",
            offer=member.offer,
            on_demand_hourly=member.on_demand_hourly,
            started=member.started,
            ended=member.ended if member.ended is not None else max(now, member.started),
            closed=member.ended is not None,
            lost_seconds=0.0,
            labels=state.wanted.labels | {"pool": state.name},
            taken=member.end is MachineEnd.INTERRUPTED,
            settled=member.end is not None,
            whole=member.taken is None,
        )
        for number, member in enumerate(state.members, 1)
        if member.started is not None
    ]


def allowed(pool_policy: SpotUse, capacity: CapacityType) -> bool:
    """Whether a spot policy lets this capacity be used."""
    return {
        SpotUse.SPOT: capacity is CapacityType.SPOT,
        SpotUse.ON_DEMAND: capacity is CapacityType.ON_DEMAND,
    }.get(pool_policy, True)
