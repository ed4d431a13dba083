"""What runs and machines need: which runs are active, which images are in use, which machines nobody needs."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import msgspec

from spotweld.errors import NotFound, TeardownRefused
from spotweld.images.lifetimes.deciding import ANY, Use
from spotweld.providers.opening import open_provider
from spotweld.providers.provider import Machine, MachineState
from spotweld.runs.drive import ensure_driven, log_path
from spotweld.runs.log import EventLog
from spotweld.runs.pools.drive import pools_path
from spotweld.runs.pools.log import PoolLog

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from spotweld.project.nouns import Project
    from spotweld.providers.provider import Provider
    from spotweld.runs.states import RunState
    from spotweld.store.objects import Meta, Objects
    from spotweld.values.clocks import Clock

_LOOK = 0.1
"""Seconds between two looks at runs that are ending."""
_DAY = 86_400.0
"""Seconds for which a run of somebody else may have written nothing and still need its image."""
_STRANGE = "is not in this project's log"


class Stranger(msgspec.Struct, frozen=True):
    """A run that somebody else drives."""

    run: str
    image: str
    """Its reference; empty: none."""
    is_placed: bool
    """It has an attempt that is not over. A run that waits for a machine has none, and one that has ended neither."""


class _Pinned(msgspec.Struct):
    repository: str
    digest: str = ""


class _Spec(msgspec.Struct):
    """What matters here of an attempt's spec, which a newer Spotweld may have written."""

    image: _Pinned | None = None


def states(log: EventLog) -> dict[str, RunState]:
    """All runs of a project."""
    return {run: log.state(run) for run in log.runs()}


def machines(provider: Provider, project: str) -> list[Machine]:
    """The project's machines that have not ended, found by their labels."""
    found = provider.machines({"managed-by": "spotweld", "project": project})
    return [machine for machine in found if machine.state is not MachineState.ENDED]


def strangers(objects: Objects, known: Collection[str], since: float) -> list[Stranger]:
    """Runs of the store that are not in this log: others may share the store, with a log of their own.

    Args:
        objects: the project's store.
        known: the runs of this log.
        since: seconds since 1970; a run of which nothing was written after that is over.
    """
    found: dict[str, list[Meta]] = defaultdict(list)
    for meta in objects.list("runs/"):
        found[meta.key.split("/")[1]].append(meta)
    recent = {run: metas for run, metas in found.items() if max(meta.modified for meta in metas) >= since}
    return [_stranger(objects, run, metas) for run, metas in sorted(recent.items()) if run not in known]


def owner(machine: Machine, runs: Mapping[str, RunState]) -> str:
    """The run that a machine belongs to; empty: none, it waits in a pool, or nobody knows.

    A machine from a pool keeps the pool's labels, so what a run has taken is looked up in the runs.
    """
    drawn = (
        run
        for run, state in runs.items()
        for attempt in state.attempts
        if attempt.drawn is not None and attempt.drawn.machine == machine.id and attempt.machine is not None
    )
    return machine.labels.get("run") or next(drawn, "")


def active(
    runs: Mapping[str, RunState], alive: Iterable[Machine], others: Iterable[Stranger], pools: Collection[str] = ()
) -> list[str]:
    """What keeps a teardown from taking machines and images: runs, and machines of runs that nobody here knows.

    Args:
        runs: those of this log.
        alive: the project's machines.
        others: runs that somebody else drives.
        pools: those of this project: their machines wait for runs, and go with them.
    """
    going = [f"the run {run} ({state.phase})" for run, state in sorted(runs.items()) if state.outcome is None]
    strange = [one for one in alive if owner(one, runs) not in runs and one.labels.get("pool", "") not in pools]
    left = [f"the machine {one.id} of {_owner(one)}" for one in strange]
    return [*going, *left, *(f"the run {one.run}, which {_STRANGE}" for one in others if one.is_placed)]


def uses(runs: Mapping[str, RunState], alive: Iterable[Machine], others: Iterable[Stranger]) -> list[Use]:
    """Which images are in use, by runs that have not ended and by machines that have not."""
    found = [Use(_image(state), f"the run {run}") for run, state in runs.items() if state.outcome is None]
    known = {one.run: one.image for one in others}
    found += [Use(image, f"the run {run}") for run, image in known.items()]
    known |= {run: _image(state) for run, state in runs.items()}
    # What a machine of an unknown run needs is unknown, so it may be any image; so is what one that waits needs.
    found += [Use(known.get(owner(one, runs), ANY), f"the machine {one.id}") for one in alive]
    return [use for use in found if use.image]


def uses_now(project: Project, objects: Objects, now: float) -> list[Use]:
    """Which images of a project are in use now.

    Args:
        project: the project.
        objects: its store.
        now: seconds since 1970.

    Raises:
        ProviderError: the machines cannot be listed, so nobody knows.
    """
    runs: dict[str, RunState] = {}
    if log_path(project.state).exists():
        log = EventLog(log_path(project.state))
        try:
            runs = states(log)
        finally:
            log.close()
    alive = machines(open_provider(project.state, project.local), project.name)
    return uses(runs, alive, strangers(objects, runs, now - _DAY))


def pools_up(state: Path) -> list[str]:
    """The pools of a project that are not down.

    Args:
        state: the project's state folder.
    """
    if not pools_path(state).exists():
        return []
    log = PoolLog(pools_path(state))
    try:
        return [name for name in log.pools() if not log.state(name).down]
    finally:
        log.close()


def all_pools(state: Path) -> list[str]:
    """The pools that a project has ever had up."""
    if not pools_path(state).exists():
        return []
    log = PoolLog(pools_path(state))
    try:
        return log.pools()
    finally:
        log.close()


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


def _image(state: RunState) -> str:
    """The image that all attempts of a run are in; empty: none."""
    return state.job.image if state.image is None else f"{state.image.repository}@{state.image.digest}"


def _owner(machine: Machine) -> str:
    run, pool = machine.labels.get("run"), machine.labels.get("pool")
    whose = f"the run {run}, which" if run else f"the pool {pool}, which" if pool else "a run that"
    return f"{whose} {_STRANGE}"


def _stranger(objects: Objects, run: str, metas: list[Meta]) -> Stranger:
    keys = {meta.key for meta in metas}
    specs = sorted(key for key in keys if key.endswith("/spec.json"))
    if not specs:
        return Stranger(run, "", is_placed=False)
    try:
        image = msgspec.json.decode(objects.get(specs[-1]), type=_Spec).image
    except (NotFound, msgspec.MsgspecError):
        image = _Pinned(ANY)
    named = "" if image is None else f"{image.repository}@{image.digest}" if image.digest else image.repository
    return Stranger(run, named, is_placed=f"{specs[-1].removesuffix('spec.json')}over" not in keys)
