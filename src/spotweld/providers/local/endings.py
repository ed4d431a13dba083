"""The end of a machine, written by whoever is in charge of it: its supervisor, or whoever found that one gone."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

import msgspec

from spotweld.errors import ProviderError
from spotweld.providers.local import processes, records
from spotweld.providers.local.births import elapsed, read_birth
from spotweld.providers.local.guests import wipe
from spotweld.providers.provider import Machine, MachineEnd, MachineState

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from spotweld.values.clocks import Clock


def moment(folder: Path, request: records.Request, clock: Clock) -> float:
    """Now, seconds since 1970 UTC, as the machine's records count it: no jump of the wall clock changes its length."""
    birth = read_birth(folder.parent.parent)
    return clock.now() if birth is None else request.granted + elapsed(birth, clock) - request.elapsed


def finish(
    folder: Path,
    machine: Machine,
    end: MachineEnd,
    clock: Clock,
    find: Callable[[], list[processes.Process]],
    last_sign: float = math.inf,
) -> Machine:
    """Kill all its processes, remove its disk, and only then record its end: now, or at its last sign of life."""
    processes.kill_all(find)
    request = records.read(folder / "request.json", records.Request)
    ended = min(last_sign, clock.now() if request is None else moment(folder, request, clock))
    wipe(folder / "disk")
    over = msgspec.structs.replace(machine, state=MachineState.ENDED, end=end, ended=max(machine.started, ended))
    records.write(folder / "machine.json", over)
    (folder / records.ALIVE).unlink(missing_ok=True)
    return over


def bury(folder: Path, clock: Clock, end: MachineEnd = MachineEnd.LOST) -> Machine | None:
    """Record the end of a machine that nobody is in charge of any more.

    Returns:
        The machine as it is now on record; None: it was never started.
    """
    machine = records.read_machine(folder)
    lock = None if machine is None or machine.ended is not None else records.take(folder)
    if lock is None:
        return machine
    try:
        machine = records.read_machine(folder)
        if machine is None or machine.ended is not None:
            return machine
        # Nobody paid for the night in which the host was off.
        last_sign = (folder / records.ALIVE).stat().st_mtime if end is MachineEnd.LOST else math.inf
        return finish(folder, machine, end, clock, lambda: processes.marked(folder), last_sign)
    finally:
        os.close(lock)


def pull_the_plug(folder: Path) -> None:
    """Kill the supervisor of the machine in ``folder``.

    Raises:
        ProviderError: it is not known.
    """
    supervisor = records.read(folder / "supervisor.json", records.Supervisor)
    if supervisor is None:
        raise ProviderError(f"machine {folder.name} hangs while it starts", todo=f"look at {folder / 'supervisor.log'}")
    processes.kill(supervisor.pid, supervisor.started)
