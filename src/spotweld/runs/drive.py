"""The controller as a process of its own, which outlives the terminal that started it.

``python -m spotweld.runs.drive STATE RUN`` drives a run to its end. A lock that the kernel gives back when the process
dies says whether one is at work; the event log's generations, not this lock, keep two apart.
"""

from __future__ import annotations

import fcntl
import math
import os
import sqlite3
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from spotweld.errors import SpotweldError
from spotweld.providers.opening import open_provider
from spotweld.runs.budgeting import LOOK_EVERY, BudgetLog, Enforcer
from spotweld.runs.controller import RECENT, Controller
from spotweld.runs.log import EventLog
from spotweld.runs.notifying import AlertLog, Teller, note, tell
from spotweld.runs.outliving import ensure_at_work, is_at_work, say, settle, try_lock
from spotweld.runs.placing import placer_of
from spotweld.runs.pools.drive import pools_path
from spotweld.store.opening import open_store
from spotweld.values.clocks import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from spotweld.runs.budgeting import Round
    from spotweld.runs.notifying import Telling
    from spotweld.values.clocks import Clock

LAST_WORDS = 30.0
"""Seconds that a controller whose run has ended waits for receivers of alerts; what is left is for the next look."""


_GLANCE = 0.05
_PATIENCE = 40
"""Glances at a lock that somebody may be about to give back."""


def log_path(state: Path) -> Path:
    """The event log of a project whose state folder this is."""
    return state / "events.db"


def controller_log(state: Path, run: str) -> Path:
    """What the run's controllers say about themselves."""
    return _folder(state, run) / "controller.log"


def is_driven(state: Path, run: str) -> bool:
    """Whether a controller is at work on the run."""
    return is_at_work(_folder(state, run))


def ensure_driven(state: Path, run: str) -> bool:
    """Start a controller for the run unless one is at work; whether one was started. Returns at once."""
    folder = _folder(state, run)
    return ensure_at_work(folder, "spotweld.runs.drive", (str(state), run), controller_log(state, run))


def drive_on(state: Path, run: str) -> None:
    """Start a controller for a run that goes on again. Returns within seconds."""
    for _ in range(_PATIENCE):
        # The one that saw the run end may be about to leave, and then nobody would be left.
        if ensure_driven(state, run):
            return
        time.sleep(_GLANCE)


def open_enforcer(state: Path, clock: Clock) -> Enforcer:
    """Who looks at the budgets of a project whose state folder this is."""
    return Enforcer(BudgetLog(log_path(state), clock), pools_path(state), clock)


def enforce(state: Path, enforcer: Enforcer) -> list[Round]:
    """One round of each broken budget that is due; those that came about.

    Every run that is to stop has a controller afterwards, those of earlier rounds as well: whoever began them may have
    been killed before it came to that.
    """
    rounds = enforcer.enforce()
    drive_stops(state, enforcer)
    return rounds


def drive_stops(state: Path, enforcer: Enforcer) -> None:
    """See that every run that is to stop has a controller."""
    for run in enforcer.stopping():
        ensure_driven(state, run)


def alerted(state: Path, enforcer: Enforcer, clock: Clock) -> list[Telling]:
    """Note which thresholds of budgets are reached, and tell the receivers; what became of each delivery."""
    log = AlertLog(log_path(state), clock)
    try:
        note(log, enforcer)
        return tell(log)
    finally:
        log.close()


class Looker:
    """Has budgets enforced and alerts told for a controller.

    A budget that cannot be reckoned, or a receiver that fails, must not keep a run from being driven: it raises
    nothing, and receivers are told in a thread.

    Args:
        state: the project's state folder.
        clock: time.
        complain: gets a line about each round and each delivery, and about trouble when it is new.
    """

    def __init__(self, state: Path, clock: Clock, complain: Callable[[str], None]) -> None:
        self._state = state
        self._clock = clock
        self._complain = complain
        self._enforcer = open_enforcer(state, clock)
        self._alerts = AlertLog(log_path(state), clock)
        self._teller = Teller(log_path(state), clock, complain)
        self._looked = -math.inf
        self._trouble = ""

    def look(self) -> None:
        """What a controller calls at every turn; it looks every ``LOOK_EVERY`` seconds. Stops come before alerts."""
        if self._clock.monotonic() < self._looked + LOOK_EVERY:
            return
        self._looked = self._clock.monotonic()
        try:
            for one in enforce(self._state, self._enforcer):
                self._complain(f"round {one.number} of the budget {one.budget} stops {', '.join(one.runs)}")
            note(self._alerts, self._enforcer)
            self._trouble = ""
        except (SpotweldError, msgspec.MsgspecError, sqlite3.Error, OSError, ValueError) as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                self._complain(f"budgets cannot be looked at: {error}")
        self._teller.wake()

    def finish(self) -> None:
        """Look a last time, when the run has ended: there may be nobody else to tell what it came to."""
        self._teller.wait(LAST_WORDS)
        self._looked = -math.inf
        self.look()
        self._teller.wait(LAST_WORDS)


def main(state: Path, run: str, lock: int) -> None:
    """Drive the run to its end.

    Args:
        state: the project's state folder.
        run: which run.
        lock: descriptor of the run's lock, which is ours as long as this process lives.
    """
    settle(state, lock)
    say(f"controller {os.getpid()} drives {run}")
    try:
        log = EventLog(log_path(state))
        while True:
            _drive(state, run, log)
            # Whoever lets the run go on from here on finds the lock free; who did so just before is heard now.
            fcntl.flock(lock, fcntl.LOCK_UN)
            if log.state(run).outcome is not None or not try_lock(lock):
                return
    except SpotweldError as error:
        say(str(error))


def _drive(state: Path, run: str, log: EventLog) -> None:
    opened, clock = log.state(run), SystemClock()
    provider = open_provider(state, opened.local)
    # Tested when the run was opened; a store that is down now is waited for.
    objects = open_store(opened.store, verify=False)
    earlier = (log.state(other) for other in log.runs()[:RECENT] if other != run)
    placer = placer_of(opened.job, opened.placement, opened.local, earlier)
    looker = Looker(state, clock, say)
    controller = Controller(run, log, objects, provider, placer, clock, say, looker.look)
    say(f"ended: {controller.drive().outcome}")
    looker.finish()


def _folder(state: Path, run: str) -> Path:
    folder = state / "runs" / run
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _lock_soon(state: Path, run: str) -> int:
    """The run's lock, taken by a controller that was started by hand.

    Raises:
        SystemExit: another controller has it.
    """
    descriptor = os.open(_folder(state, run) / "lock", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    for _ in range(_PATIENCE):
        # Whoever asks `is_driven` holds it for an instant; a controller holds it for long.
        if try_lock(descriptor):
            return descriptor
        time.sleep(_GLANCE)
    raise SystemExit(0)


if __name__ == "__main__":
    main(
        Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if sys.argv[3:] else _lock_soon(Path(sys.argv[1]), sys.argv[2])
    )
