"""Processes that outlive the terminal that started them, one at a time for each folder.

A lock on a file of the folder, which the kernel gives back when the process dies, says whether one is at work. That is
for asking only: what keeps two writers apart are the generations of the journal.
"""

from __future__ import annotations

import fcntl
import os
import sys
from typing import TYPE_CHECKING

from spotweld.values.clocks import SystemClock, iso

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_LOCK = 3
"""The descriptor that a process inherits its folder's lock under."""


def is_at_work(folder: Path) -> bool:
    """Whether a process holds the folder's lock."""
    with (folder / "lock").open("a") as lock:
        # Shared, so that two who ask at once do not take each other for one.
        return not try_lock(lock.fileno(), shared=True)


def ensure_at_work(folder: Path, module: str, arguments: Sequence[str], output: Path) -> bool:
    """Start ``python -m MODULE ARGUMENTS... DESCRIPTOR`` unless one is at work; whether one was started.

    Returns at once. The process has the folder's lock from its first instant on, under that descriptor.

    Args:
        folder: whose lock.
        module: the program.
        arguments: what it is given before the lock's descriptor.
        output: the file that its output is appended to.
    """
    with (folder / "lock").open("a") as lock, output.open("ab") as told:
        if not try_lock(lock.fileno()):
            return False
        # The process inherits the lock itself: there is no instant at which nobody holds it.
        command = [sys.executable, "-P", "-m", module, *arguments, str(_LOCK)]
        # Not subprocess: that wants its children waited for, and this one outlives us.
        os.posix_spawn(
            sys.executable,
            command,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, told.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, told.fileno(), 2),
                (os.POSIX_SPAWN_DUP2, lock.fileno(), _LOCK),
            ],
            setsid=True,
        )
    return True


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Take the lock, if nobody has it; whether it was taken."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def settle(state: Path, lock: int) -> None:
    """What such a process does first: keep the lock to itself, and live in a folder that stays.

    Args:
        state: the project's state folder; the one that the process was started in may vanish.
        lock: descriptor of its lock.
    """
    os.set_inheritable(lock, False)
    os.chdir(state)


def say(text: str) -> None:
    """One line in the process's log."""
    print(f"{iso(SystemClock().now())} {text}", flush=True)
