"""The keeper: one process that keeps one pool, and that may be killed at any instant.

Like a run's controller it folds the log, observes, asks for the one next thing, and does it: intention, effect, result.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import msgspec

from spotweld.errors import IllegalTransition, NoCapacity, ProviderError, Unavailable
from spotweld.placement.bounds import permitted
from spotweld.providers.provider import MachineState, rooms
from spotweld.runs import boots
from spotweld.runs.accounts import hazard
from spotweld.runs.decisions import on_demand_price
from spotweld.runs.pools import members as told
from spotweld.runs.pools.deciding import (
    Close,
    Empty,
    End,
    NoteReady,
    NoteStarted,
    NoteTaken,
    Observed,
    Open,
    Start,
    Stop,
    Watch,
    decide,
)
from spotweld.runs.pools.events import (
    Down,
    MemberClosed,
    MemberEnd,
    MemberEnded,
    MemberOpened,
    MemberReady,
    MemberStarted,
    MemberTaken,
)
from spotweld.runs.pools.members import Claim, Orders, claim, member_prefix
from spotweld.runs.silences import Silences

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from spotweld.placement.fleets import FleetPolicy
    from spotweld.providers.provider import Provider
    from spotweld.runs.pools.deciding import Action
    from spotweld.runs.pools.events import PoolEvent
    from spotweld.runs.pools.log import PoolLog
    from spotweld.runs.pools.states import Member, PoolState
    from spotweld.store.objects import Objects
    from spotweld.values.clocks import Clock

AFTER_A_FAULT = 1.0
_LOOK = 0.2
_LOOK_FAR = 2.0
"""Seconds between two looks where each costs requests."""


class Keeper:
    """Keeps one pool until it is down.

    Args:
        name: the pool's.
        log: where intentions are kept.
        objects: the pool's store.
        provider: where machines come from.
        policy: what to start and stop.
        clock: time.
        complain: told, in one line, what went wrong outside and will be tried again.
    """

    def __init__(
        self,
        name: str,
        log: PoolLog,
        objects: Objects,
        provider: Provider,
        policy: FleetPolicy,
        clock: Clock,
        complain: Callable[[str], None],
    ) -> None:
        self._name = name
        self._log = log
        self._objects = objects
        self._provider = provider
        self._policy = policy
        self._clock = clock
        self._complain = complain
        self._generation = log.take_over(name)
        self._state = log.state(name)
        self._local = self._state.wanted.local
        self._silences = Silences(clock)
        self._trouble = ""
        self._look = _LOOK if objects.url.startswith(("file:", "memory:")) else _LOOK_FAR

    def keep(self) -> PoolState:
        """Turn until the pool is down, or its provider has to be opened anew; its last state.

        Raises:
            StaleWriter: another keeper has taken over.
        """
        while True:
            try:
                pause = self.turn()
                self._trouble = ""
            except IllegalTransition:
                # Somebody has said meanwhile what is wanted now.
                pause = 0.0
            except (ProviderError, Unavailable, OSError) as error:
                pause = AFTER_A_FAULT
                if str(error) != self._trouble:
                    self._trouble = str(error)
                    self._complain(f"{error}; trying again")
            if self._state.down or self._state.wanted.local != self._local:
                return self._state
            self._clock.sleep(pause)

    def turn(self) -> float:
        """Do the one next thing; seconds after which to look again."""
        self._state = self._log.advance(self._name, self._state)
        if self._state.down:
            return 0.0
        action = decide(self._state, self._observe(), self._policy)
        self._do(action)
        # A provider may take a while to say that what was ended has ended.
        return self._look if isinstance(action, Watch | Stop) else 0.0

    def _observe(self) -> Observed:
        live = self._state.live
        machines = {
            machine.token: machine
            for machine in self._provider.machines(pool_labels(self._state.wanted.project, self._name))
        }
        # The machine is looked at before its claim: one that has ended and left no claim never will.
        claims, readinesses, beats = {}, {}, {}
        with self._silences.listening():
            for member in live:
                at = member_prefix(self._state.wanted.project, member.token)
                found = told.read_claim(self._objects, at) if member.closed is None else None
                if found is not None:
                    claims[member.token] = found
                readiness = told.read_readiness(self._objects, at) if member.machine is not None else None
                if readiness is not None:
                    readinesses[member.token] = readiness
                if member.machine is not None:
                    beats[member.token] = readiness.beat if readiness is not None else 0
        silent = self._silences.look(beats)
        offers = permitted(self._provider.offers(), self._state.wanted.placement, ())
        room = rooms(self._provider, offers)
        return Observed(self._clock.now(), offers, machines, readinesses, claims, silent, room)

    def _do(self, action: Action) -> None:  # noqa: C901 - one case for each kind
        match action:
            case Open(offer=offer, why=why):
                token = f"{self._name}-{secrets.token_hex(8)}"
                price = on_demand_price(offer, self._provider.offers())
                self._append(MemberOpened(token, offer, price, why, self._state.wanted.recipe))
            case Start(member=member):
                self._start(member)
            case NoteStarted(member=member, machine=machine):
                self._append(MemberStarted(member.token, machine.id, machine.started))
            case NoteReady(member=member):
                self._append(MemberReady(member.token))
            case NoteTaken(member=member, claim=found):
                self._append(MemberTaken(member.token, found.run, found.attempt, found.time))
            case Close(member=member, end=end, why=why):
                self._close(member, end, why)
            case Stop(member=member):
                self._provider.stop(member.machine or "")
            case End(member=member, ended=ended, end=end):
                at = member_prefix(self._state.wanted.project, member.token)
                # The claim stays: whoever is late has to find it.
                self._objects.delete(told.orders_key(at))
                self._objects.delete(told.readiness_key(at))
                self._append(MemberEnded(member.token, ended, end))
            case Empty():
                self._sweep()
                self._append(Down())
            case Watch():
                pass

    def _start(self, member: Member) -> None:
        at = member_prefix(self._state.wanted.project, member.token)
        orders = Orders(member.recipe, hazard((), member.offer, self._clock.now()))
        self._objects.put(told.orders_key(at), msgspec.json.encode(orders))
        boot = boots.standby(at, member.recipe.store, member.recipe.image)
        try:
            machine = self._provider.start(member.offer, boot, token=member.token, labels=labels(self._state))
        except NoCapacity as error:
            self._close(member, MemberEnd.REFUSED, str(error))
            return
        self._append(MemberStarted(member.token, machine.id, machine.started))

    def _close(self, member: Member, end: MemberEnd, why: str) -> None:
        at = member_prefix(self._state.wanted.project, member.token)
        found = claim(self._objects, at, Claim(time=self._clock.now(), why=why))
        if not found.run:
            self._append(MemberClosed(member.token, end, why))
        elif member.machine is not None:
            self._append(MemberTaken(member.token, found.run, found.attempt, found.time))
        # Otherwise it has been taken before its start was known here; the next turn finds it.

    def _sweep(self) -> None:
        """End what still carries the pool's labels and no run has taken: an answer that was lost, and a late list."""
        for machine in self._provider.machines(pool_labels(self._state.wanted.project, self._name)):
            if machine.state is not MachineState.ENDED:
                at = member_prefix(self._state.wanted.project, machine.token)
                if not claim(self._objects, at, Claim(time=self._clock.now(), why="the pool is down")).run:
                    self._provider.stop(machine.id)

    def _append(self, event: PoolEvent) -> None:
        self._state = self._log.append(self._name, self._generation, self._state, event)


def labels(state: PoolState) -> Mapping[str, str]:
    """What every machine of the pool carries."""
    return pool_labels(state.wanted.project, state.name) | {"job": state.wanted.pool.job}


def pool_labels(project: str, name: str) -> dict[str, str]:
    """What tells a pool's machines from all others."""
    return {"managed-by": "spotweld", "project": project, "pool": name}
