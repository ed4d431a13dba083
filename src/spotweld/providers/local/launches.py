"""Starting a supervisor, which then belongs to nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from spotweld.errors import ProviderError

PATIENCE = 60.0
"""Seconds in which a supervisor must come up; it takes a fraction of one."""


def launch(folder: Path, lock: int) -> None:
    """Start the supervisor of the machine in ``folder`` and wait until its machine exists or it has given up.

    Args:
        folder: the machine's, with what was asked for in it.
        lock: descriptor of the machine's lock. The supervisor inherits the lock itself, so there is no instant at which
            nobody holds it; the caller closes its own descriptor.

    Raises:
        ProviderError: it did not come up.
    """
    with (folder / "supervisor.log").open("ab") as log:
        process = subprocess.Popen(
            command(folder, lock),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            # Not the caller's folder, whose files could be taken for modules, and which may vanish.
            cwd=folder,
            env=_environment(),
            pass_fds=(lock,),
            start_new_session=True,
        )
    try:
        process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired as late:
        # What we started has left by now, and the supervisor that it forked holds the pipe. Nobody has waited for it
        # yet, so its group is no other's.
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise ProviderError(
            f"machine {folder.name} did not come up",
            f"its supervisor said nothing for {PATIENCE:.0f} s",
            f"look at {folder / 'supervisor.log'}",
        ) from late


def command(folder: Path, lock: int) -> list[str]:
    """How a supervisor is started."""
    return [sys.executable, "-P", "-m", "spotweld.providers.local.supervisor", str(folder), str(lock)]


def _environment() -> dict[str, str]:
    env = dict(os.environ)
    if "PYTHONPATH" in env:
        # Relative entries mean the caller's folder.
        entries = env["PYTHONPATH"].split(os.pathsep)
        env["PYTHONPATH"] = os.pathsep.join(str(Path(entry).absolute()) for entry in entries if entry)
    return env
