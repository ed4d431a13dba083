"""From a pool in the project file to one that is kept: its files are frozen, its image is pinned, and it is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from spotweld.errors import UsageError
from spotweld.images.containers.pinning import resolve_image
from spotweld.images.containers.preparing import check_here
from spotweld.project.nouns import SpotUse
from spotweld.project.words import nearest, quoted
from spotweld.providers.local.zones import PROVIDER
from spotweld.runs.opening import kept_out
from spotweld.runs.pools.drive import ensure_kept
from spotweld.runs.pools.events import Wanted
from spotweld.runs.pools.members import recipe_of
from spotweld.runs.source import freeze, scan

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from spotweld.project.nouns import Pool, Project
    from spotweld.providers.provider import Provider
    from spotweld.runs.pools.log import PoolLog
    from spotweld.store.objects import Objects
    from spotweld.values.clocks import Clock

_LOOK = 0.1


def pools_meant(project: Project, name: str | None) -> list[Pool]:
    """The named pool of the project file, or all of them.

    Raises:
        UsageError: there is none, or none of that name.
    """
    known = project.pools
    if not known:
        raise UsageError("the project file has no pools", "", "add pools: {warm: {job: ..., machines: 2}}")
    if name is not None and name not in known:
        near = nearest(name, known)
        todo = f"did you mean {near}?" if near else f"it has: {', '.join(known)}"
        raise UsageError(f"the project file has no pool {quoted(name)}", "", todo)
    return [known[name]] if name is not None else list(known.values())


def want(project: Project, pool: Pool, log: PoolLog, objects: Objects, provider: Provider) -> bool:
    """Freeze what the pool's machines prepare, and say that it is to be kept. False if it is already kept so.

    Raises:
        UsageError: the job's folder cannot be frozen, or the pool is up in another store.
        ImageError: the job's image does not exist, or machines like this one cannot run jobs in images.
        StoreError: the store failed; nothing has changed, and doing it again is harmless.
    """
    job = project.jobs[pool.job]
    image = resolve_image(project, job)
    if image is not None and provider.name == PROVIDER:
        # The machines are this one.
        check_here()
    source = scan(job.workdir, kept_out(project))
    if job.setup:
        freeze(job.workdir, source, objects)
    recipe = recipe_of(job, project.store, source.key, image)
    use = job.spot_policy if pool.spot_policy is SpotUse.AUTO else pool.spot_policy
    if pool.name in log.pools():
        state = log.state(pool.name)
        if not state.down and state.wanted.recipe.store != project.store:
            raise UsageError(
                f"the pool {pool.name} is up in another store",
                f"its machines speak through {state.wanted.recipe.store}",
                f"take it down first: spotweld pool down {pool.name}",
            )
    kept = replace(pool, spot_policy=use)
    return log.want(Wanted(project.name, kept, recipe, project.local, project.placement, job.labels))


def take_down(log: PoolLog, state: Path, names: Sequence[str], clock: Clock, patience: float) -> list[str]:
    """Empty pools, and wait until they are; those that are not by then, which go on emptying.

    Args:
        log: of the pools.
        state: the project's state folder.
        names: which.
        clock: time.
        patience: seconds to wait at most.
    """
    waiting = [name for name in names if not log.state(name).down]
    for name in waiting:
        log.request_down(name)
    end = clock.monotonic() + patience
    while waiting:
        for name in waiting:
            ensure_kept(state, name)
        if clock.monotonic() >= end:
            break
        clock.sleep(_LOOK)
        waiting = [name for name in waiting if not log.state(name).down]
    return waiting
