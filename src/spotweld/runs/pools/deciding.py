"""What a pool's keeper does next: a pure function of the pool's state and of what was observed."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from spotweld.costs.billing import goes_free
from spotweld.placement.fleets import FleetSeen, Site
from spotweld.placement.fleets import Member as Replica
from spotweld.providers.provider import Machine, MachineEnd, MachineState
from spotweld.runs.decisions import (
    FAILURE_PAUSE,
    LONGEST_PAUSE,
    SILENCE,
    SILENCE_BEFORE_FIRST_SIGN,
    UNLISTED,
)
from spotweld.runs.pools.events import MemberEnd
from spotweld.runs.pools.members import Claim, Readiness
from spotweld.runs.pools.states import Member, allowed
from spotweld.values.durations import format_duration
from spotweld.values.offers import CapacityType, Offer

if TYPE_CHECKING:
    from spotweld.placement.fleets import FleetPolicy
    from spotweld.runs.pools.states import PoolState

_LEAD = 120.0
"""Seconds between a notice and the end that it announces: AWS's. A provider's list tells only when the notice came."""
_MOST_DOUBLINGS = 5
"""A zone that goes on refusing is asked again after at most 32 times the back-off."""
_NOT_SOLD = 1e9
"""The hourly price of an on-demand machine where there is none: policies reckon with it, so it is finite."""


class Observed(msgspec.Struct, frozen=True):
    """What the keeper sees; by the members' tokens."""

    now: float
    offers: tuple[Offer, ...] = ()
    machines: dict[str, Machine] = {}
    readinesses: dict[str, Readiness] = {}
    claims: dict[str, Claim] = {}
    silent: dict[str, float] = {}
    """Seconds since the last new sign of life, by the keeper's monotonic clock."""
    rooms: dict[str, int] = {}
    """How many more spot machines could be had, for zones of which the provider tells."""


class Open(msgspec.Struct, frozen=True):
    """Log the intention to rent this."""

    offer: Offer
    why: str


class Start(msgspec.Struct, frozen=True):
    """Call the provider with the logged intention; harmless when repeated."""

    member: Member


class NoteStarted(msgspec.Struct, frozen=True):
    """The machine is there although no answer said so."""

    member: Member
    machine: Machine


class NoteReady(msgspec.Struct, frozen=True):
    """Log that the member waits for a run."""

    member: Member


class NoteTaken(msgspec.Struct, frozen=True):
    """Log which run has it."""

    member: Member
    claim: Claim


class Close(msgspec.Struct, frozen=True):
    """See that no run can take it any more, if none has, and log that."""

    member: Member
    end: MemberEnd
    why: str


class Stop(msgspec.Struct, frozen=True):
    """End the machine of a member that is closed."""

    member: Member


class End(msgspec.Struct, frozen=True):
    """Log that a closed member's machine has ended."""

    member: Member
    ended: float
    end: MachineEnd | None = None


class Empty(msgspec.Struct, frozen=True):
    """Log that the pool is down."""


class Watch(msgspec.Struct, frozen=True):
    """Nothing to do now."""


Action: TypeAlias = Open | Start | NoteStarted | NoteReady | NoteTaken | Close | Stop | End | Empty | Watch


def decide(state: PoolState, seen: Observed, policy: FleetPolicy) -> Action:
    """The one next thing to do. What is there comes before what should be."""
    stops = []
    for member in state.live:
        action = _care(state, member, seen)
        # Ending a machine takes seconds, in which nothing else would be done.
        if isinstance(action, Stop):
            stops.append(action)
        elif action is not None:
            return action
    wanted = None if state.going_down else _fleet(state, seen, policy)
    if wanted is not None:
        return wanted
    if stops:
        return stops[0]
    return Empty() if state.going_down and not state.live else Watch()


def _care(state: PoolState, member: Member, seen: Observed) -> Action | None:
    machine, claim = seen.machines.get(member.token), seen.claims.get(member.token)
    if claim is not None and member.closed is None:
        if not claim.run:
            end = MemberEnd.FAILED if claim.failed else MemberEnd.INTERRUPTED
            return Close(member, end, claim.why)
        if member.machine is not None:
            return NoteTaken(member, claim)
    if member.machine is None and machine is not None:
        return NoteStarted(member, machine)
    if member.closed is not None:
        return _leave(member, machine, seen)
    if claim is None:
        leaving = _reason_to_close(state, member, seen)
        if leaving is not None:
            return Close(member, *leaving)
    if member.machine is None:
        return Start(member)
    readiness = seen.readinesses.get(member.token)
    return NoteReady(member) if member.ready is None and readiness is not None and readiness.ready else None


def _leave(member: Member, machine: Machine | None, seen: Observed) -> Action | None:
    if member.machine is None:
        return End(member, seen.now)
    if machine is not None and machine.ended is not None:
        return End(member, machine.ended, machine.end)
    began, noticed = member.started, None if machine is None else machine.noticed
    if began is not None and noticed is not None and goes_free(member.offer, began, noticed + _LEAD, seen.now):
        return None
    since = seen.now - (member.closed_at if member.closed_at is not None else seen.now)
    # The lists of real clouds lag behind; what has not been seen for so long is gone.
    return End(member, seen.now) if machine is None and since > UNLISTED else Stop(member)


def _reason_to_close(state: PoolState, member: Member, seen: Observed) -> tuple[MemberEnd, str] | None:
    machine, silent = seen.machines.get(member.token), seen.silent.get(member.token, 0.0)
    if machine is not None and machine.state is MachineState.ENDED:
        end = MemberEnd.FAILED if machine.end is MachineEnd.EXITED and machine.noticed is None else None
        return end or MemberEnd.INTERRUPTED, f"the machine is gone ({machine.end})"
    if machine is not None and machine.noticed is not None:
        return MemberEnd.INTERRUPTED, "the provider takes it back"
    if state.going_down:
        return MemberEnd.RETURNED, "the pool goes down"
    if member.recipe != state.wanted.recipe:
        return MemberEnd.RETURNED, "it was prepared for what the job was before"
    if not allowed(state.wanted.pool.spot_policy, member.offer.capacity_type):
        return MemberEnd.RETURNED, f"the pool is to hold {state.wanted.pool.spot_policy} machines"
    if member.machine is not None:
        if machine is None and silent > UNLISTED:
            return MemberEnd.INTERRUPTED, "the provider does not know the machine any more"
        if silent > (SILENCE if seen.readinesses.get(member.token) else SILENCE_BEFORE_FIRST_SIGN):
            return MemberEnd.INTERRUPTED, f"it has not given a sign of life for {format_duration(silent)}"
    return None


def _fleet(state: PoolState, seen: Observed, policy: FleetPolicy) -> Action | None:
    """What the policy wants: its first start that may be tried now, or else its first stop."""
    want = policy.decide(fleet_seen(state, seen))
    if _failing_until(state, seen.now) <= seen.now:
        for zone, spot in want.start:
            offer = _offer(state, seen, zone, CapacityType.SPOT if spot else CapacityType.ON_DEMAND)
            if offer is not None and _refused_until(state, offer, seen.now) <= seen.now:
                return Open(offer, want.why)
    members = {member.token: member for member in state.live if member.closed is None}
    stop = next((members[token] for token in want.stop if token in members), None)
    return Close(stop, MemberEnd.RETURNED, want.why) if stop is not None else None


def fleet_seen(state: PoolState, seen: Observed) -> FleetSeen:
    """What a fleet policy gets to see."""
    pool = state.wanted.pool
    members = tuple(
        Replica(
            id=member.token,
            zone=member.offer.zone,
            spot=member.spot,
            ready=member.ready is not None,
            age=max(0.0, seen.now - (member.started if member.started is not None else member.opened)),
        )
        for member in state.live
        if member.closed is None
    )
    warming = [m.ready - m.started for m in state.members[-20:] if m.ready is not None and m.started is not None]
    return FleetSeen(
        target=pool.machines,
        spare=pool.spare,
        members=members,
        sites=tuple(_site(state, seen, zone) for zone in sorted({offer.zone for offer in seen.offers})),
        cold_start=max(0.0, median(warming)) if warming else state.wanted.placement.changeover,
    )


def _site(state: PoolState, seen: Observed, zone: str) -> Site:
    spot = _offer(state, seen, zone, CapacityType.SPOT)
    firm = _cheapest(seen, zone, CapacityType.ON_DEMAND)
    lost = [
        max(0.0, seen.now - member.closed_at)
        for member in reversed(state.members)
        if member.spot and member.offer.zone == zone and member.closed_at is not None
        if member.closed in {MemberEnd.REFUSED, MemberEnd.INTERRUPTED}
    ]
    room = seen.rooms.get(zone)
    # What is full of our own machines has capacity.
    ours = any(m.spot and m.offer.zone == zone and m.machine and m.closed is None for m in state.live)
    up = None if room is None else room > 0 or ours
    if spot is not None and _refused_until(state, spot, seen.now) > seen.now:
        up = False
    return Site(
        zone=zone,
        spot=float(spot.hourly.amount) if spot is not None else None,
        on_demand=float(firm.hourly.amount) if firm is not None else _NOT_SOLD,
        up=up,
        age=min(lost, default=max(0.0, seen.now - state.since)),
        losses=tuple(sorted(lost)),
        region=(spot or firm or seen.offers[0]).region,
        room=room,
    )


def _offer(state: PoolState, seen: Observed, zone: str, capacity: CapacityType) -> Offer | None:
    return _cheapest(seen, zone, capacity) if allowed(state.wanted.pool.spot_policy, capacity) else None


def _cheapest(seen: Observed, zone: str, capacity: CapacityType) -> Offer | None:
    fit = [offer for offer in seen.offers if offer.zone == zone and offer.capacity_type is capacity]
    return min(fit, key=lambda offer: (offer.hourly.amount, offer), default=None)


def _refused_until(state: PoolState, offer: Offer, now: float) -> float:
    """When a zone that has refused may be asked again; every refusal in a row doubles the pause."""
    last, refusals = 0.0, 0
    for member in reversed(state.members):
        if (member.offer.zone, member.offer.capacity_type) != (offer.zone, offer.capacity_type):
            continue
        if member.closed is not MemberEnd.REFUSED:
            break
        last, refusals = max(last, _closed_at(member, now)), refusals + 1
    if not refusals:
        return 0.0
    return last + state.wanted.placement.back_off * 2.0 ** min(refusals - 1, _MOST_DOUBLINGS)


def _failing_until(state: PoolState, now: float) -> float:
    """When preparing may be tried again; every failure in a row doubles the pause."""
    last, failures = 0.0, 0
    for member in reversed(state.members):
        if member.ready is not None or member.recipe != state.wanted.recipe:
            break
        if member.closed is MemberEnd.FAILED:
            last, failures = max(last, _closed_at(member, now)), failures + 1
    pause: float = min(LONGEST_PAUSE, FAILURE_PAUSE * 2.0 ** min(failures - 1, 16)) if failures else 0.0
    return last + pause


def _closed_at(member: Member, now: float) -> float:
    """When it was closed. A clock that was set back must not keep a pause from ending: nothing was closed later."""
    return member.closed_at if member.closed_at is not None and member.closed_at <= now else 0.0
