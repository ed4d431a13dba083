"""A whole run in no time: a clock that only a sleep moves, machines that follow a script, agents that follow a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from tests.runs.samples import LOCAL, OFFERS, opened

from spotweld.project.nouns import PlacementRules
from spotweld.runs.controller import Controller
from spotweld.runs.log import EventLog
from spotweld.runs.placing import placer_of
from spotweld.runs.reports import Heard, Result, Stage, Status, result_key, status_key
from spotweld.store.opening import open_store
from spotweld.testing.providers import ScriptedProvider
from spotweld.values import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from spotweld.runs.states import Attempt, RunState
    from spotweld.store.objects import Objects
    from spotweld.testing.providers import Answer

RUN = "r"
RULES = PlacementRules(interruptions=3, window=60.0, avoid=10.0, back_off=1.0)


class ManualClock:
    """Time that passes when somebody sleeps, and whose wall clock can be set."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        self.offset = 1_000_000.0
        self.passing: Callable[[], None] = lambda: None

    def now(self) -> float:
        return self.offset + self.elapsed

    def monotonic(self) -> float:
        return self.elapsed

    def sleep(self, seconds: float) -> None:
        left = seconds
        while left > 0:
            step = min(left, 0.5)
            self.elapsed += step
            left -= step
            self.passing()


class _Its(ManualClock):
    """The provider's clock: nobody sets that one."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.now = lambda: self.offset + clock.elapsed  # type: ignore[method-assign]


class Life(msgspec.Struct, frozen=True):
    """What the agent of one attempt does. Times are seconds since its machine came up."""

    ends: float | None = 10.0
    """When the process ends; None: never by itself."""
    code: int = 0
    stage: Stage = Stage.RUNNING
    notice: float | None = None
    """When a notice comes, if one does."""
    deadline: float | None = None
    """When the machine is to go by it, after its machine came up; None: the notice does not say."""
    silent: float | None = None
    """From when on it says nothing."""


class World:
    """Everything that a controller acts upon.

    Args:
        folder: for the event log.
        script: the provider's answers.
        lives: the agents', by attempt from 1; the last one holds for all further ones.
        rules: how machines are chosen.
        job: fields of the job.
    """

    def __init__(
        self,
        folder: Path,
        script: Iterable[Answer] = (),
        lives: Iterable[Life] = (),
        rules: PlacementRules = RULES,
        **job: object,
    ) -> None:
        self.clock = ManualClock()
        self.clock.passing = self._pass
        self.objects: Objects = open_store("memory:")
        self.store = self.objects
        self.log = EventLog(folder / "events.db", self.clock)
        self.provider = ScriptedProvider(OFFERS, script, _Its(self.clock))
        self.lives = [*lives] or [Life()]
        self.complaints: list[str] = []
        self.at: list[tuple[float, Callable[[], object]]] = []
        """What happens when."""
        self.log.open_run(RUN, msgspec.structs.replace(opened(**job), placement=rules))

    def controller(self) -> Controller:
        state = self.log.state(RUN)
        placer = placer_of(state.job, state.placement, LOCAL)
        return Controller(RUN, self.log, self.objects, self.provider, placer, self.clock, self.complaints.append)

    def drive(self) -> RunState:
        return self.controller().drive()

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        return self.log.state(RUN).attempts

    @property
    def starts(self) -> list[str]:
        """The tokens of all machines that were asked for, in order."""
        return [call.split()[1] for call in self.provider.calls if call.startswith("start")]

    def _pass(self) -> None:
        for moment, act in [one for one in self.at if one[0] <= self.clock.elapsed]:
            self.at.remove((moment, act))
            act()
        for rented in self.provider._rented.values():
            machine = rented.seen(self.provider._clock.now())
            since = self.provider._clock.now() - machine.started - rented.life.boot
            if machine.ended is None and since >= 0:
                self._live(int(self.provider.boots[machine.id].env[environment.ATTEMPT]), since)

    def _live(self, attempt: int, since: float) -> None:
        life = self.lives[min(attempt, len(self.lives)) - 1]
        if life.silent is not None and since >= life.silent:
            return
        deadline = None if life.deadline is None else self.clock.now() - since + life.deadline
        heard = Heard("aws", deadline, 0.0) if life.notice is not None and since >= life.notice else None
        over = life.ends is not None and since >= life.ends
        stage = life.stage if over else Stage.RUNNING
        self.store.put(status_key(RUN, attempt), msgspec.json.encode(Status(int(since * 2) + 1, stage, heard)))
        if over:
            result = Result(life.stage, life.code, heard, self.clock.now())
            self.store.put(result_key(RUN, attempt), msgspec.json.encode(result))
