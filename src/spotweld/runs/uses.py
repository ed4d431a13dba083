"""What runs and machines need: which runs are active, which images are in use, which machines nobody needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotweld.errors import TeardownRefused
from spotweld.images.lifetimes import ANY, Use
from spotweld.providers.provider import Machine, MachineState
from spotweld.runs.drive import ensure_driven

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from spotweld.providers.provider import Provider
    from spotweld.runs.log import EventLog
    from spotweld.runs.states import RunState
    from spotweld.values.clocks import Clock

_LOOK = 0.1
"""Seconds between two looks at runs that are ending."""


def states(log: EventLog) -> dict[str, RunState]:
    """All runs of a project."""
    return {run: log.state(run) for run in log.runs()}


def machines(provider: Provider, project: str) -> list[Machine]:
    """The project's machines that have not ended, found by their labels."""
    found = provider.machines({"managed-by": "spotweld", "project": project})
    return [machine for machine in found if machine.state is not MachineState.ENDED]


def active(runs: Mapping[str, RunState], alive: Iterable[Machine]) -> list[str]:
    """What keeps a teardown from taking machines and images: runs, and machines of runs that nobody here knows."""
    going = [f"the run {run} ({state.phase})" for run, state in sorted(runs.items()) if state.outcome is None]
    strange = [machine for machine in alive if machine.labels.get("run", "") not in runs]
    return going + [f"the machine {machine.id} of {_owner(machine)}" for machine in strange]


def uses(runs: Mapping[str, RunState], alive: Iterable[Machine]) -> list[Use]:
    """Which images are in use, by runs that have not ended and by machines that have not."""
    found = [Use(state.job.image, f"the run {run}") for run, state in runs.items() if state.outcome is None]
    for machine in alive:
        state = runs.get(machine.labels.get("run", ""))
        # What a machine of an unknown run needs is unknown, so it may be any image.
        needed = ANY if state is None else state.job.image
        found.append(Use(needed, f"the machine {machine.id}"))
    return [use for use in found if use.image]


def cancel_all(log: EventLog, state: Path, clock: Clock, patience: float) -> None:
    """Stop all runs for good, and wait until they have ended; their checkpoints stay.

    Args:
        log: of the project.
        state: the project's state folder.
        clock: time.
        patience: seconds to wait at most.

    Raises:
        TeardownRefused: some have not ended by then; they go on ending.
    """
    waiting = [run for run, one in states(log).items() if one.outcome is None]
    for run in waiting:
        log.request_cancel(run)
        ensure_driven(state, run)
    end = clock.monotonic() + patience
    while waiting := [run for run in waiting if log.state(run).outcome is None]:
        if clock.monotonic() > end:
            why = f"after {patience:.0f} s these still save their state: {', '.join(waiting)}"
            raise TeardownRefused("The runs have not ended yet", why, "Tear down again in a while.")
        clock.sleep(_LOOK)


def _owner(machine: Machine) -> str:
    run = machine.labels.get("run")
    return f"the run {run}, which is not in this project's log" if run else "no run"
