"""The controller as a process of its own, which outlives the terminal that started it.

``python -m spotweld.runs.drive STATE RUN`` drives a run to its end. A lock that the kernel gives back when the process
dies says whether one is at work; the event log's generations, not this lock, keep two apart.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

from spotweld.errors import StaleWriter
from spotweld.placement.cheapest import CheapestSpot
from spotweld.providers.opening import open_provider
from spotweld.runs.controller import Controller
from spotweld.runs.log import EventLog
from spotweld.store.opening import open_store
from spotweld.values.clocks import SystemClock, iso


def log_path(state: Path) -> Path:
    """The event log of a project whose state folder this is."""
    return state / "events.db"


def controller_log(state: Path, run: str) -> Path:
    """What the run's controllers say about themselves."""
    return _folder(state, run) / "controller.log"


def is_driven(state: Path, run: str) -> bool:
    """Whether a controller is at work on the run."""
    with (_folder(state, run) / "lock").open("a") as lock:
        return not _try_lock(lock.fileno())


def ensure_driven(state: Path, run: str) -> bool:
    """Start a controller for the run unless one is at work; whether one was started. Returns at once."""
    if is_driven(state, run):
        return False
    with controller_log(state, run).open("ab") as output:
        subprocess.Popen(
            [sys.executable, "-m", "spotweld.runs.drive", str(state), run],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd=state,
        )
    return True


def main(state: Path, run: str) -> None:
    """Drive the run to its end, unless somebody else does."""
    with (_folder(state, run) / "lock").open("a") as lock:
        if not _lock_soon(lock.fileno()):
            return
        _say(f"controller {os.getpid()} drives {run}")
        log = EventLog(log_path(state))
        opened = log.state(run)
        provider = open_provider(state, opened.local)
        objects = open_store(opened.store)
        policy = CheapestSpot.of(opened.placement)
        controller = Controller(run, log, objects, provider, policy, SystemClock(), _say)
        try:
            _say(f"ended: {controller.drive().outcome}")
        except StaleWriter as error:
            _say(str(error))


def _folder(state: Path, run: str) -> Path:
    folder = state / "runs" / run
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_soon(descriptor: int) -> bool:
    """Whoever asks `is_driven` holds the lock for an instant; a controller holds it for long."""
    for _ in range(40):
        if _try_lock(descriptor):
            return True
        time.sleep(0.05)
    return False


def _say(text: str) -> None:
    print(f"{iso(SystemClock().now())} {text}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
