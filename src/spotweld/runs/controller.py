"""The controller: one process that drives one run, and that may be killed at any instant.

Each turn it folds the log, observes the provider and the store, asks ``decisions.decide`` for the one next thing, and
does it. Every outside effect is logged as an intention before and as a result after, and repeating it is harmless: that
is all a restart needs.
"""

from __future__ import annotations

import math
import secrets
from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec.structs import replace

from spotweld.errors import NoCapacity, NotFound, ProviderError, SpotweldError, Unavailable
from spotweld.providers.provider import Boot, Machine, MachineState, rooms
from spotweld.runs import boots
from spotweld.runs.accounts import corrections, hazard, spent
from spotweld.runs.decisions import (
    PRICES_EVERY,
    Action,
    EndAttempt,
    Finish,
    NoteNotice,
    NotePrice,
    NoteRunning,
    NoteSighting,
    Observed,
    OpenAttempt,
    Pause,
    StartMachine,
    Watch,
    decide,
    may_move,
)
from spotweld.runs.events import (
    AttemptEnded,
    AttemptOpened,
    Cause,
    Ended,
    MachineStarted,
    Noticed,
    Priced,
    Running,
    Sighted,
    Waiting,
)
from spotweld.runs.following import Follower
from spotweld.runs.history import History
from spotweld.runs.pools import taking
from spotweld.runs.remaining import standing, working_since
from spotweld.runs.reports import Result, Spec, Status, over_key, result_key, spec_key, status_key
from spotweld.runs.silences import Silences

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from spotweld.placement.placer import Placer
    from spotweld.providers.provider import Provider
    from spotweld.runs.events import Drawn, Event
    from spotweld.runs.log import EventLog
    from spotweld.runs.states import Attempt, RunState
    from spotweld.store.objects import Objects
    from spotweld.values.clocks import Clock

T = TypeVar("T")

AFTER_A_FAULT = 1.0
"""Seconds before something outside is tried again."""
RECENT = 20
"""Runs of the project from whose machines the hazards are learned."""


class Controller:
    """Drives one run to its end.

    Args:
        run: its id.
        log: where intentions are kept.
        objects: the run's store.
        provider: where machines come from.
        placer: says which to rent.
        clock: time.
        complain: told, in one line, what went wrong outside and will be tried again.
        look: called at every turn; it may append requests to the logs of runs, this one's among them.
    """

    def __init__(
        self,
        run: str,
        log: EventLog,
        objects: Objects,
        provider: Provider,
        placer: Placer,
        clock: Clock,
        complain: Callable[[str], None],
        look: Callable[[], None] = lambda: None,
    ) -> None:
        self._run = run
        self._log = log
        self._objects = objects
        self._provider = provider
        self._placer = placer
        self._clock = clock
        self._complain = complain
        self._look = look
        self._generation = log.take_over(run)
        self._silences = Silences(clock)
        self._trouble = ""
        self._looked = -math.inf
        self._follower = Follower(run, log, objects)
        self._history = History()

    def drive(self) -> RunState:
        """Turn until the run has ended; its last state.

        Raises:
            StaleWriter: another controller has taken over.
        """
        while True:
            try:
                self._look()
                state = self._log.state(self._run)
                if state.outcome is not None:
                    return state
                pause = self._do(decide(state, self._observe(state), self._placer), state)
                self._trouble = ""
            except (ProviderError, Unavailable, OSError) as error:
                # The world outside is down: nothing is concluded from that, least of all that a machine is gone.
                pause = AFTER_A_FAULT
                if str(error) != self._trouble:
                    self._trouble = str(error)
                    self._complain(f"{error}; trying again")
            self._clock.sleep(pause)

    def _observe(self, state: RunState) -> Observed:
        attempt = state.current
        now = self._clock.now()
        if attempt is None:
            return self._look_around(state, Observed(now, spent=spent(state, now), warm=self._warm(state)))
        if attempt.machine is None:
            return Observed(now, spent=spent(state, now))
        # The machine is looked at before the result: an agent that ends writes its result first, so a machine that has
        # ended and left no result never will.
        machine = self._find(attempt, state)
        with self._silences.listening():
            result = self._read(result_key(self._run, attempt.number), Result)
            status = self._read(status_key(self._run, attempt.number), Status)
        silent = self._silences.look({attempt.token: 0 if status is None else status.beat})[attempt.token]
        seen = Observed(now, (), machine, status, result, silent, spent(state, now))
        every = self._placer.every if may_move(state, attempt) else PRICES_EVERY
        return self._look_around(state, seen) if self._clock.monotonic() >= self._looked + every else seen

    def _look_around(self, state: RunState, seen: Observed) -> Observed:
        """The market as well, and how far the run is."""
        self._looked = self._clock.monotonic()
        offers = tuple(self._provider.offers())
        seen = replace(seen, offers=offers)
        if state.deadline is None:
            return seen
        history, attempt = self._history.add(self._follower.poll()), state.current
        return replace(
            seen,
            rooms=rooms(self._provider, offers),
            standing=standing(state, history, seen.now),
            working=None if attempt is None else working_since(attempt, history.get(attempt.number)),
        )

    def _do(self, action: Action, state: RunState) -> float:  # noqa: C901 - one case for each kind
        match action:
            case OpenAttempt():
                self._open_attempt(action, state)
            case StartMachine():
                self._start_machine(state)
            case NoteRunning():
                self._append(Running(_current(state).number))
            case NoteNotice():
                self._append(Noticed(_current(state).number, action.source, action.deadline))
            case NotePrice():
                price = action.asked.hourly, action.on_demand_hourly, action.asked.price_source
                self._append(Priced(_current(state).number, *price))
                self._looked = -math.inf
            case NoteSighting():
                self._append(Sighted(action.sighting.up, action.sighting.prices))
                # What was decided upon has to be seen again.
                self._looked = -math.inf
            case EndAttempt():
                self._end_attempt(action, state)
            case Pause():
                self._append(Waiting(action.until, action.why))
            case Finish():
                self._sweep(state)
                self._append(Ended(action.outcome, action.why))
            case Watch():
                return action.seconds
        return 0.0

    def _open_attempt(self, action: OpenAttempt, state: RunState) -> None:
        if state.attempts:
            self._reconcile(state, self._provider.machines(_labels(state)))
        number = len(state.attempts) + 1
        if action.warm is not None:
            token, drawn = action.warm.token, action.warm.drawn
        else:
            token, drawn = f"{self._run}-{number}-{secrets.token_hex(4)}", None
        self._append(AttemptOpened(number, action.offer, action.on_demand_hourly, token, action.why, drawn))

    def _start_machine(self, state: RunState) -> None:
        attempt = _current(state)
        spec = Spec(
            run=self._run,
            attempt=attempt.number,
            source=state.source,
            command=state.job.command,
            setup=state.job.setup,
            env=state.job.env,
            checkpoint=state.job.checkpoint,
            hazard=hazard(self._recent(), attempt.offer, self._clock.now()),
            image=state.image,
            hosts=state.hosts,
        )
        self._objects.put(spec_key(self._run, attempt.number), msgspec.json.encode(spec))
        if attempt.drawn is not None:
            self._take(attempt, attempt.drawn, state)
            return
        boot: Boot = boots.boot(state, attempt)
        try:
            machine = self._provider.start(attempt.offer, boot, token=attempt.token, labels=_labels(state))
        except NoCapacity as error:
            self._close(AttemptEnded(attempt.number, Cause.NO_CAPACITY, str(error), self._clock.now()))
            return
        self._append(MachineStarted(attempt.number, machine.id, machine.started))

    def _take(self, attempt: Attempt, drawn: Drawn, state: RunState) -> None:
        found = taking.take(self._objects, state, attempt, self._clock.now())
        if taking.is_mine(found, state, attempt):
            self._append(MachineStarted(attempt.number, drawn.machine, found.time))
            return
        why = f"the run {found.run} was quicker" if found.run else found.why
        self._close(AttemptEnded(attempt.number, Cause.PASSED, why, self._clock.now()))

    def _warm(self, state: RunState) -> tuple[taking.Warm, ...]:
        wanted = state.job, state.source, state.image, state.store
        return taking.find(self._objects, self._provider, state.project, *wanted)

    def _end_attempt(self, action: EndAttempt, state: RunState) -> None:
        attempt = _current(state)
        ended, end = self._clock.now(), None
        if attempt.machine is None and attempt.drawn is not None:
            mine = taking.taken(self._objects, state, attempt)
            if mine is not None:
                self._append(MachineStarted(attempt.number, attempt.drawn.machine, mine.time))
                return
        elif attempt.machine is None:
            lost = next((m for m in self._provider.machines(_labels(state)) if m.token == attempt.token), None)
            if lost is not None:
                # It was started and the answer was lost: it costs, so it is written down before it is ended.
                self._append(MachineStarted(attempt.number, lost.id, lost.started))
                return
        else:
            self._provider.stop(attempt.machine)
            machine = self._find(attempt, state)
            if machine is not None and machine.ended is not None:
                ended, end = machine.ended, machine.end
        self._close(AttemptEnded(attempt.number, action.cause, action.detail, ended, action.exit_code, end))

    def _close(self, event: AttemptEnded) -> None:
        # A machine that comes up after this, whoever asked for it, finds that it has nothing to do.
        self._objects.put(over_key(self._run, event.attempt), event.cause.encode())
        self._append(event)

    def _sweep(self, state: RunState) -> None:
        """End whatever still carries this run's label: a machine whose start was logged but whose answer was lost."""
        machines = self._provider.machines(_labels(state))
        self._reconcile(state, machines)
        for machine in machines:
            if machine.state is not MachineState.ENDED:
                self._provider.stop(machine.id)

    def _reconcile(self, state: RunState, machines: Iterable[Machine]) -> None:
        """Log what the provider's own record of machines says, where it differs: its word is what is charged for."""
        for event in corrections(state, machines):
            self._append(event)

    def _recent(self) -> list[RunState]:
        """The project's latest runs, this one among them: what became of their machines."""
        return [self._log.state(run) for run in {self._run, *self._log.runs()[:RECENT]}]

    def _find(self, attempt: Attempt, state: RunState) -> Machine | None:
        labels = taking.attempt_labels(state, attempt)
        return next((m for m in self._provider.machines(labels) if m.id == attempt.machine), None)

    def _append(self, event: Event) -> None:
        self._log.append(self._run, self._generation, event)

    def _read(self, key: str, kind: type[T]) -> T | None:
        try:
            return msgspec.json.decode(self._objects.get(key), type=kind)
        except NotFound:
            return None
        except msgspec.DecodeError as error:
            self._complain(f"{key} cannot be read: {error}")
            return None


def _labels(state: RunState) -> Mapping[str, str]:
    """What every machine of the run carries."""
    return {"managed-by": "spotweld", "project": state.project, "run": state.run}


def _current(state: RunState) -> Attempt:
    if state.current is None:
        raise SpotweldError("the run has no attempt that is going on", "this is a fault in Spotweld")
    return state.current
