"""A teardown: what is found, what of it goes, and the second look that proves it gone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from spotweld.errors import ProviderError, TeardownRefused, UsageError
from spotweld.images.builds.naming import repository_of
from spotweld.images.containers.hosting import HostCache, clear, look_at
from spotweld.images.lifetimes.deciding import Plan, Survey, Unseen, plan, uses_image
from spotweld.images.lifetimes.surveying import survey
from spotweld.images.lifetimes.tearing import Removed, remove
from spotweld.images.registries.opening import open_registry
from spotweld.project.words import nearest, quoted
from spotweld.providers.opening import host_images
from spotweld.providers.provider import Machine
from spotweld.runs.pools.drive import pools_path
from spotweld.runs.pools.log import PoolLog
from spotweld.runs.pools.opening import take_down
from spotweld.runs.uses import active, all_pools, machines, owner, pools_up, states, strangers, uses

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from spotweld.images.lifetimes.deciding import Going
    from spotweld.images.lifetimes.forgetting import Open
    from spotweld.project.nouns import Project
    from spotweld.providers.provider import Provider
    from spotweld.runs.log import EventLog
    from spotweld.store.objects import Objects
    from spotweld.values.clocks import Clock

_RECENTLY = 3600.0
"""Seconds for which a run of somebody else may have written nothing and still be active."""
_PATIENCE = 60.0
"""Seconds that a machine may take to end."""
_LINGER = 5.0
"""Seconds for which processes of one that has ended may hold what it had fetched."""


@dataclass(frozen=True)
class Places:
    """Where a teardown looks."""

    project: Project
    objects: Objects
    provider: Provider
    log: EventLog | None
    """None: the project has had no run."""
    opening: Open = open_registry


class Scope(msgspec.Struct, frozen=True):
    """What a teardown is about."""

    images: bool = True
    only: tuple[str, ...] = ()
    """Nothing but these images; empty: all, and machines."""


class Found(msgspec.Struct, frozen=True):
    """What a teardown has before it."""

    survey: Survey
    machines: tuple[Machine, ...]
    """Those that nobody needs any more."""
    active: tuple[str, ...]
    """What stands against it, in words."""
    pools: tuple[str, ...] = ()
    """Those that are up."""
    host: HostCache | None = None
    """What machines of this host have fetched; it is there again when one fetches it."""


class Outcome(msgspec.Struct, frozen=True):
    """What came of it."""

    removed: Removed
    machines: tuple[str, ...]
    """Those that were ended."""
    left: tuple[Unseen, ...]
    """What is there all the same, or could not be looked for."""
    freed: int = 0
    """Bytes of what machines of this host had fetched."""


def look(places: Places, scope: Scope, now: float) -> Found:
    """Look for what a teardown might take.

    Args:
        places: where.
        scope: what it is about.
        now: seconds since 1970.

    Raises:
        UsageError: the project has never had one of the images.
    """
    project = places.project
    runs = {} if places.log is None else states(places.log)
    alive = machines(places.provider, project.name)
    others = strangers(places.objects, runs, now - _RECENTLY)
    found = survey(project, places.objects, places.opening) if scope.images else Survey(project, (), {})
    if scope.only:
        _check_names(scope.only, found)
        wanted = {name: repository_of(project.name, name) for name in scope.only}
        against = [use.by for use in uses(runs, alive, others) if any(uses_image(use, *one) for one in wanted.items())]
        return Found(found, (), tuple(dict.fromkeys(against)))
    against = active(runs, alive, others, all_pools(project.state))
    up = pools_up(project.state)
    ended = [one for one in alive if (run := runs.get(owner(one, runs))) is None or run.outcome is not None]
    # Its keeper ends what waits in a pool.
    ended = [one for one in ended if one.labels.get("pool") not in up or owner(one, runs)]
    host = look_at(host_images(project.state)) if scope.images else None
    return Found(found, tuple(ended), tuple(against), tuple(up), host)


def refuse_active(found: Found) -> None:
    """See that nobody needs what a teardown takes.

    Raises:
        TeardownRefused: somebody does.
    """
    if found.active:
        todo = "Wait for them, or have them stopped: spotweld teardown --cancel-runs. Their checkpoints stay."
        raise TeardownRefused("Nothing was removed, since something is active", ", ".join(found.active), todo)


def empty_pools(places: Places, clock: Clock, patience: float) -> list[str]:
    """Take all pools down; those that are not after ``patience`` seconds."""
    state = places.project.state
    up = pools_up(state)
    if not up:
        return []
    log = PoolLog(pools_path(state))
    try:
        return take_down(log, state, up, clock, patience)
    finally:
        log.close()


def tear_down(
    places: Places,
    scope: Scope,
    found: Found,
    agreed: Plan,
    clock: Clock,
    tell: Callable[[Going], None] = lambda _: None,
) -> Outcome:
    """Remove what was agreed to, and look again.

    Args:
        places: where to look.
        scope: what it is about.
        found: what was found; its machines are ended before anything else, since they cost.
        agreed: which images go.
        clock: time.
        tell: hears of each image that is about to go.
    """
    failed = _stop(places.provider, found.machines)
    removed = remove(agreed, places.objects, tell, places.opening)
    _await_end(places, found.machines, clock)
    freed, kept = _clear(found.host, clock)
    again = look(places, scope, clock.now())
    named = {going.image for going in agreed.going if going.persistent}
    left = [
        Unseen(f"{going.registry} ({going.repository})", f"tags are left: {', '.join([*going.tags, *going.cache])}")
        for going in plan(again.survey, named, scope.only).going
    ]
    left += [Unseen(f"machine {one.id}", "it has not ended") for one in again.machines]
    left += [Unseen(f"pool {name}", "it is not down yet") for name in again.pools]
    left += [*again.survey.unseen, *kept]
    # What failed and is gone all the same, by somebody else's hand, is no matter any more.
    reasons = {one.where: one for one in (*failed, *removed.failed)}
    left = [reasons.get(one.where, one) for one in left]
    ended = tuple(one.id for one in found.machines if one.id not in {other.id for other in again.machines})
    return Outcome(removed, ended, tuple(left), freed)


def _check_names(names: Collection[str], found: Survey) -> None:
    known = sorted({*found.project.images, *found.kept, *(one.image for one in found.contents)})
    for name in names:
        if name not in known:
            near = nearest(name, known)
            todo = f"did you mean {near}?" if near else f"it has had: {', '.join(known) or 'none'}"
            raise UsageError(f"the project has never had an image {quoted(name)}", "", todo)


def _stop(provider: Provider, ended: Collection[Machine]) -> list[Unseen]:
    failed = []
    for machine in ended:
        try:
            provider.stop(machine.id)
        except ProviderError as error:
            failed.append(Unseen(f"machine {machine.id}", str(error), error.todo))
    return failed


def _clear(host: HostCache | None, clock: Clock) -> tuple[int, list[Unseen]]:
    """Remove what machines of this host have fetched, when the last of them is really gone."""
    if host is None:
        return 0, []
    where = f"fetched images on this host ({host.folder})"
    end = clock.monotonic() + _LINGER
    try:
        while (freed := clear(Path(host.folder))) is None:
            if clock.monotonic() >= end:
                return 0, [Unseen(where, "a machine uses them", "Tear down again when it has ended.")]
            clock.sleep(0.1)
    except OSError as error:
        return 0, [Unseen(where, str(error))]
    return freed, []


def _await_end(places: Places, ended: Collection[Machine], clock: Clock) -> None:
    """Give machines that were told to end the time that it takes."""
    wanted = {machine.id for machine in ended}
    end = clock.monotonic() + _PATIENCE
    while clock.monotonic() < end and wanted & {one.id for one in machines(places.provider, places.project.name)}:
        clock.sleep(1.0)
