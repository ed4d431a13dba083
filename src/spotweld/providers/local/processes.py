"""The processes of a machine: found through /proc, ended for certain.

A supervisor is the *subreaper* of its guest (prctl(2)): whatever the guest starts stays among the supervisor's
descendants, however often it forks and whichever session it opens. When the supervisor itself was killed, its guest's
processes are found by a variable in their environment that names the machine's folder.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

MARK = "SPOTWELD_MACHINE_FOLDER"
"""In the environment of everything that runs on a local machine."""
PROC = Path("/proc")
_SET_PDEATHSIG = 1
_SET_CHILD_SUBREAPER = 36
_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)


class Process(NamedTuple):
    """One process; ``pid`` and ``started`` together never mean another one."""

    pid: int
    parent: int
    zombie: bool
    started: int
    """Clock ticks between the host's boot and its start."""


def become_subreaper() -> None:
    """Adopt every orphan among this process's descendants from now on."""
    _prctl(_SET_CHILD_SUBREAPER, 1)


def die_with(parent: int) -> None:
    """Have this process killed when ``parent``, which forked it, ends; at once if it has ended."""
    _prctl(_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def look_up(pid: int) -> Process | None:
    """The process with this id; None: there is none."""
    try:
        text = (PROC / str(pid) / "stat").read_bytes()
    except _GONE:
        return None
    # proc_pid_stat(5): pid (name) state ppid ... starttime is field 22; the name may hold spaces and parentheses.
    fields = text[text.rindex(b")") + 2 :].split()
    return Process(pid=pid, parent=int(fields[1]), zombie=fields[0] in b"ZX", started=int(fields[19]))


def everything() -> list[Process]:
    """All processes that are to be seen now."""
    found = (look_up(int(name)) for name in os.listdir(PROC) if name.isdecimal())  # noqa: PTH208 ten times faster
    return [process for process in found if process is not None]


def descendants(roots: Collection[int], processes: Collection[Process]) -> list[Process]:
    """Those of ``processes`` that stem from ``roots``, without them."""
    children: dict[int, list[Process]] = {}
    for process in processes:
        children.setdefault(process.parent, []).append(process)
    found: dict[int, Process] = {}
    queue = list(roots)
    while queue:
        for child in children.get(queue.pop(), []):
            if child.pid not in found and child.pid not in roots:
                found[child.pid] = child
                queue.append(child.pid)
    return list(found.values())


def marked(folder: Path) -> list[Process]:
    """The processes that run on the machine in ``folder``, by their environment, and all their descendants."""
    mark = b"\0" + f"{MARK}={folder}".encode() + b"\0"
    processes = everything()
    direct = [process for process in processes if mark in b"\0" + _environment(process.pid)]
    return direct + descendants([process.pid for process in direct], processes)


def kill(pid: int, started: int) -> None:
    """SIGKILL, unless the process that ``started`` then has ended and another has its id."""
    with contextlib.suppress(*_GONE):
        handle = os.pidfd_open(pid)
        try:
            # The handle was opened first: if it is still the same process now, the signal reaches no other one.
            now = look_up(pid)
            if now is not None and now.started == started:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)


def kill_all(find: Callable[[], list[Process]]) -> None:
    """Kill what ``find`` finds, again and again until it finds nothing twice."""
    quiet, pause = 0, 0.002
    while quiet < 2:
        living = [process for process in find() if not process.zombie and process.pid != os.getpid()]
        for process in living:
            kill(process.pid, process.started)
        # Twice, because a process in the middle of an exec shows no environment for a moment.
        quiet = 0 if living else quiet + 1
        time.sleep(pause)
        pause = min(pause * 2, 0.1)


def reap() -> dict[int, int]:
    """Take in all children that have ended: their wait statuses by id."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = status


def _environment(pid: int) -> bytes:
    try:
        return (PROC / str(pid) / "environ").read_bytes()
    except (*_GONE, OSError):
        return b""


def _prctl(option: int, value: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(option, value, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
