"""Real event logs of runs that were some hours long, written in no time."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from msgspec.structs import replace
from tests.runs.samples import LOCAL, ON_DEMAND_PRICE, offer, opened
from tests.runs.world import ManualClock

from spotweld.runs.events import AttemptEnded, AttemptOpened, Cause, MachineStarted
from spotweld.runs.log import EventLog
from spotweld.values.money import Money
from spotweld.values.offers import CapacityType

if TYPE_CHECKING:
    from pathlib import Path

    from spotweld.runs.states import RunState

HOUR = 3600.0


class Past:
    """A project's log. Times are hours after the clock's beginning."""

    def __init__(self, path: Path, begin: float = 1_000_000_000.0) -> None:
        self.clock = ManualClock()
        self.begin = self.clock.offset = begin
        self.log = EventLog(path, self.clock)
        self.generations: dict[str, int] = {}

    def open(self, run: str, speed: float = 1.0, at: float = 0.0) -> None:
        self.clock.elapsed = at * HOUR
        self.log.open_run(run, replace(opened(), local=replace(LOCAL, speed=speed)))
        self.generations[run] = self.log.take_over(run)

    def attempt(
        self,
        run: str,
        at: float,
        until: float | None,
        cause: Cause,
        zone: str = "a",
        price: str = "0.90",
        spot: bool = True,
        provider: str = "cloud",
    ) -> None:
        """A machine from ``at`` to ``until`` (None: it still runs), or a refusal."""
        if run not in self.generations:
            self.open(run, at=at)
        what = offer(zone, CapacityType.SPOT if spot else CapacityType.ON_DEMAND)
        what = replace(what, provider=provider, hourly=Money(Decimal(price)))
        generation, number = self.generations[run], len(self.log.state(run).attempts) + 1
        self.clock.elapsed = at * HOUR
        token = f"{run}-{number}"
        self.log.append(run, generation, AttemptOpened(number, what, ON_DEMAND_PRICE, token, "cheapest"))
        if cause is not Cause.NO_CAPACITY:
            self.log.append(run, generation, MachineStarted(number, f"m-{token}", self.clock.now()))
        if until is not None:
            self.clock.elapsed = until * HOUR
            self.log.append(run, generation, AttemptEnded(number, cause, "", self.clock.now()))

    def refused(self, run: str, at: float, zone: str = "a", price: str = "0.90") -> None:
        self.attempt(run, at, at, Cause.NO_CAPACITY, zone, price)

    def states(self) -> list[RunState]:
        return [self.log.state(run) for run in self.log.runs()]

    def at(self, hours: float) -> float:
        return self.begin + hours * HOUR
