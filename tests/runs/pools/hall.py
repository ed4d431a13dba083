"""A pool in no time: a clock that only a sleep moves, machines that follow a script, members that follow a plan."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import msgspec
from tests.runs.samples import LOCAL, OFFERS, opened
from tests.runs.world import RULES, ManualClock

from spotweld.errors import ProviderError, Unavailable
from spotweld.placement.cheapest import CheapestSpot
from spotweld.placement.fleets import FleetPolicy, FleetSeen, FleetWant
from spotweld.project.nouns import Pool
from spotweld.providers.provider import MachineEnd, MachineState
from spotweld.runs.controller import Controller
from spotweld.runs.log import EventLog
from spotweld.runs.pools.events import Wanted
from spotweld.runs.pools.keeper import AFTER_A_FAULT, Keeper
from spotweld.runs.pools.log import PoolLog
from spotweld.runs.pools.members import (
    Claim,
    Readiness,
    claim,
    member_prefix,
    read_claim,
    read_orders,
    readiness_key,
    recipe_of,
)
from spotweld.runs.reports import Result, Stage, Status, over_key, result_key, status_key
from spotweld.store.opening import open_store
from spotweld.testing.providers import ScriptedProvider

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from spotweld.project.nouns import Job
    from spotweld.providers.provider import Machine
    from spotweld.runs.pools.states import PoolState
    from spotweld.runs.states import RunState
    from spotweld.store.objects import Objects
    from spotweld.testing.providers import Answer

NAME = "warm"


class Fill(FleetPolicy):
    """Target and spare as spot where some may be had, and on-demand while spot is not ready."""

    name = "fill"

    def decide(self, seen: FleetSeen) -> FleetWant:
        spot = [member for member in seen.members if member.spot]
        firm = [member for member in seen.members if not member.spot]
        sites = [site for site in seen.sites if site.spot is not None and site.up is not False]
        missing = seen.target + seen.spare - len(spot)
        start = [(min(sites, key=lambda site: site.spot or 0.0).zone, True)] * missing if sites else []
        gap = max(0, seen.target - sum(member.ready for member in spot))
        start += [(seen.sites[0].zone, False)] * (gap - len(firm))
        return FleetWant(tuple(start), tuple(member.id for member in firm[gap:]), "fill")


class Hall:
    """A pool, its machines, and runs that want them.

    Args:
        folder: for the logs.
        script: the provider's answers.
        pool: what is kept.
        job: fields of the job.
    """

    def __init__(self, folder: Path, script: Iterable[Answer] = (), pool: Pool | None = None, **job: object) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self.clock.passing = self._pass
        self.objects: Objects = open_store("memory:")
        self.log = PoolLog(folder / "pools.db", self.clock)
        self.runs = EventLog(folder / "events.db", self.clock)
        self.provider = ScriptedProvider(OFFERS, script, self.clock)
        self.warm_up = 3.0
        """Seconds that a member needs to be prepared."""
        self.works = 5.0
        """Seconds that a run's program needs."""
        self.failing = False
        """Preparing fails."""
        self.hung: set[str] = set()
        """Machines whose members say nothing."""
        self.pool = pool or Pool(NAME, "job", machines=2)
        self.opened = msgspec.structs.replace(opened(**job), placement=RULES)
        self._beats = itertools.count(1)
        self.want()

    @property
    def job(self) -> Job:
        return self.opened.job

    def want(self, **changes: object) -> bool:
        self.pool = msgspec.structs.replace(self.pool, **changes)
        recipe = recipe_of(self.job, "memory:", self.opened.source, None)
        return self.log.want(Wanted("project", self.pool, recipe, LOCAL, RULES))

    def keeper(self) -> Keeper:
        return Keeper(NAME, self.log, self.objects, self.provider, Fill(), self.clock, lambda _: None)

    def keep(self, seconds: float, keeper: Keeper | None = None) -> PoolState:
        """Let a keeper work for so long."""
        keeper, until = keeper or self.keeper(), self.clock.elapsed + seconds
        while self.clock.elapsed < until and not self.state.down:
            try:
                pause = keeper.turn()
            except (ProviderError, Unavailable):
                pause = AFTER_A_FAULT
            # Whatever is done takes a moment.
            self.clock.sleep(max(pause, 0.01))
        return self.state

    def controller(self, run: str) -> Controller:
        self.runs.open_run(run, self.opened)
        policy = CheapestSpot.of(RULES)
        return Controller(run, self.runs, self.objects, self.provider, policy, self.clock, lambda _: None)

    def drive(self, run: str) -> RunState:
        return self.controller(run).drive()

    @property
    def state(self) -> PoolState:
        return self.log.state(NAME)

    def alive(self) -> list[Machine]:
        found = self.provider.machines({"project": "project"})
        return [machine for machine in found if machine.state is not MachineState.ENDED]

    def at(self, token: str) -> str:
        return member_prefix("project", token)

    def claim_of(self, token: str) -> Claim | None:
        return read_claim(self.objects, self.at(token))

    def _pass(self) -> None:
        for machine in self.alive():
            since = self.clock.now() - machine.started
            if machine.id in self.hung:
                continue
            if "pool" in machine.labels:
                self._wait(machine, since)
            else:
                number = int(self.provider.boots[machine.id].env["SPOTWELD_ATTEMPT"])
                self._work(machine, machine.labels["run"], number, since)

    def _wait(self, machine: Machine, since: float) -> None:
        at = self.at(machine.token)
        found = read_claim(self.objects, at)
        if found is None and read_orders(self.objects, at) is None:
            raise AssertionError(f"{machine.token} came up without orders")
        ready = since >= self.warm_up and not self.failing
        if found is None:
            if machine.noticed is not None:
                found = claim(self.objects, at, Claim(why="noticed"))
            elif self.failing and since >= self.warm_up:
                found = claim(self.objects, at, Claim(why="exit status 4", failed=True))
            else:
                readiness = Readiness(next(self._beats), ready, "ready")
                self.objects.put(readiness_key(at), msgspec.json.encode(readiness))
                return
        if not found.run:
            self.provider.end(machine.id, MachineEnd.EXITED)
            return
        self._work(machine, found.run, found.attempt, self.clock.now() - found.time)

    def _work(self, machine: Machine, run: str, attempt: int, since: float) -> None:
        if any(meta.key == over_key(run, attempt) for meta in self.objects.list(over_key(run, attempt))):
            self.provider.end(machine.id, MachineEnd.EXITED)
            return
        status = Status(next(self._beats), Stage.RUNNING)
        self.objects.put(status_key(run, attempt), msgspec.json.encode(status))
        if since >= self.works:
            result = Result(Stage.RUNNING, 0, None, self.clock.now())
            self.objects.put(result_key(run, attempt), msgspec.json.encode(result))
