"""The cadence of one attempt: watches steps and saves, and asks the pure decisions when to save."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

from spotweld.checkpoint import cadence, events
from spotweld.checkpoint import hazard as hazards
from spotweld.checkpoint.explaining import cannot_keep
from spotweld.checkpoint.interference import Interference
from spotweld.checkpoint.risk import assess
from spotweld.checkpoint.voice import warn

if TYPE_CHECKING:
    from spotweld.checkpoint.cadence import Plan
    from spotweld.checkpoint.events import EventFile
    from spotweld.checkpoint.risk import Risk
    from spotweld.checkpoint.saves import Saves
    from spotweld.checkpoint.settings import Settings
    from spotweld.preemption.notices import Notice
    from spotweld.values.clocks import Clock

_LOOK = 0.2
"""Seconds for which a plan holds unless a save ends or a notice comes: steps may take less than the planning."""
_TELL, _TELL_ANYWAY = 5.0, 60.0
"""Seconds between two ``cadence`` events: at least, and when nothing worth a word has changed."""


class Past(Protocol):
    """The saves so far."""

    @property
    def mark(self) -> tuple[int, float]:
        """Step and time of the newest that has not failed."""
        ...

    @property
    def costs(self) -> tuple[cadence.Cost, ...]:
        """Of the latest, until they were saved."""
        ...

    @property
    def deliveries(self) -> tuple[cadence.Cost, ...]:
        """Of the latest, until they were in the store."""
        ...

    @property
    def failures(self) -> int:
        """In a row."""
        ...


class Pacing:
    """For the training thread alone.

    Args:
        settings: what was asked for.
        tell: where events go.
        clock: time.
    """

    def __init__(self, settings: Settings, tell: EventFile, clock: Clock) -> None:
        self._policy, self._hazard = settings.policy, settings.hazard or hazards.USUAL
        self._tell, self._clock = tell, clock
        self._age = _uptime() if settings.started is None else clock.now() - settings.started
        self._began = clock.monotonic()
        self._interference = Interference()
        self._warm = False
        self._disturbed = False
        self._costs: tuple[cadence.Cost, ...] = ()
        self._deliveries: tuple[cadence.Cost, ...] = ()
        self._failures = 0
        self._paces: deque[float] = deque(maxlen=5)
        self._plan: Plan | None = None
        self._planned_at = float("-inf")
        self._risky = False
        self._told: Plan | None = None
        self._told_at = float("-inf")
        self._warned = False

    @property
    def pace(self) -> float:
        """Seconds of the longest of the latest steps; 0 before the first."""
        return max(self._paces, default=0.0)

    def step_begins(self, saves: Saves) -> None:
        """The program goes on."""
        self.settled(saves)
        self._disturbed = saves.active

    def step_ended(self, seconds: float) -> None:
        """It took so long."""
        self._paces.append(seconds)
        if self._warm:  # the first step compiles, allocates and reads ahead: it compares with nothing
            self._interference.step(seconds, disturbed=self._disturbed)
        self._warm = True

    def settled(self, saves: Past) -> None:
        """Whatever has ended by now, ``saves`` has taken note of."""
        if saves.costs is not self._costs:
            self._costs, self._plan = saves.costs, None
            self._interference.saved(max(cost.background for cost in (*saves.deliveries[-1:], self._costs[-1])))
        elif saves.failures > self._failures:
            self._interference.forget()
        if saves.deliveries is not self._deliveries:
            self._deliveries, self._plan = saves.deliveries, None
        self._failures = saves.failures

    def due(self, step: int, saves: Past, *, risky: bool) -> bool:
        """Whether to save now; tells how often from now on, if that has changed."""
        now = self._clock.monotonic()
        if self._plan is None or risky is not self._risky or now - self._planned_at >= _LOOK:
            self._risky, self._planned_at = risky, now
            self._plan = cadence.plan(self._policy.every, self._situation())
            if self._costs:
                self._explain(self._plan, now)
        saved_step, saved_at = saves.mark
        return cadence.due(self._plan, step, saved_step, now - saved_at)

    def risk(self, notice: Notice | None, left: float | None) -> Risk:
        """The risk that the machine is at."""
        return assess(notice, left, self._hazard, self._age_now())

    def _situation(self) -> cadence.Situation:
        age = self._age_now()
        return cadence.Situation(
            costs=self._costs,
            deliveries=self._deliveries,
            interference=self._interference.seconds,
            hazard=hazards.hourly(self._hazard, age),
            age=age,
            risky=self._risky,
            pace=self.pace,
            max_lost_work=self._policy.max_lost_work,
        )

    def _explain(self, plan: Plan, now: float) -> None:
        silent = now - self._told_at
        if silent < _TELL:
            return
        if not plan.kept and not self._warned:
            self._warned = True
            warn(f"{cannot_keep(plan)}; saving without a pause")
        if silent >= _TELL_ANYWAY or cadence.differs(plan, self._told):
            self._told, self._told_at = plan, now
            self._tell.write(events.Cadence(self._clock.now(), plan))

    def _age_now(self) -> float:
        """A clock that was set back must not make a machine younger than new."""
        return max(0.0, self._age) + self._clock.monotonic() - self._began


def _uptime() -> float:
    """Seconds since the kernel started: a rented machine is as old as its kernel."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
