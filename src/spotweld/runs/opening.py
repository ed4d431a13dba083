"""From a job to a run: first a plan, which is a value; then the plan is carried out, not made again."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import msgspec

from spotweld.checkpoint.format import RUN_NAME
from spotweld.errors import UsageError
from spotweld.images.containers.pinning import Pinned, resolve_image
from spotweld.images.containers.preparing import check_here
from spotweld.placement.bounds import permitted
from spotweld.placement.placer import Observation, Rent, Wait
from spotweld.project.nouns import Job, LocalProvider, PlacementRules, SpotUse
from spotweld.project.words import quoted
from spotweld.providers.local.zones import PROVIDER
from spotweld.providers.provider import rooms
from spotweld.runs.events import Opened
from spotweld.runs.pools.taking import Warm
from spotweld.runs.source import Source, freeze, scan
from spotweld.store.heads import read_head

if TYPE_CHECKING:
    from collections.abc import Callable

    from spotweld.placement.placer import Placer
    from spotweld.project.nouns import Project
    from spotweld.providers.provider import Provider
    from spotweld.runs.log import EventLog
    from spotweld.store.objects import Objects

LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"


class Plan(msgspec.Struct, frozen=True):
    """What launching a job would do now."""

    project: str
    run: str
    job: Job
    store: str
    folder: str
    source: Source
    local: LocalProvider
    placement: PlacementRules
    first: Rent | Wait
    """What would be rented first, and why."""
    image: Pinned | None = None
    """What the job's image is now."""
    hosts: tuple[str, ...] = ()
    """Registries for which the run's program gets credentials."""
    warm: Warm | None = None
    """The machine of a pool that the run would take instead of renting one."""


def make_plan(project: Project, job: Job, run: str | None, *, provider: Provider, placer: Placer) -> Plan:
    """What would be done to run ``job``. Reads the job's folder; changes nothing.

    Args:
        project: the project.
        job: one of its jobs, perhaps with flags applied.
        run: the run's name; None: drawn.
        provider: asked for its offers.
        placer: asked what it would rent.

    Raises:
        UsageError: the job's folder cannot be frozen, or no run can have that name.
        ImageError: the job's image does not exist, or machines like this one cannot run jobs in images.
    """
    image = resolve_image(project, job)
    if image is not None and provider.name == PROVIDER:
        # The machines are this one.
        check_here()
    if run is not None and not RUN_NAME.fullmatch(run):
        raise UsageError(
            f"{quoted(run)} cannot be a run's name",
            "names are letters, digits, dots, dashes and underscores, at most 128, and begin with a letter or a digit",
        )
    name = run or f"{job.name}-{''.join(secrets.choice(LETTERS) for _ in range(6))}"
    first = first_placement(job.spot_policy, project.placement, provider, placer)
    source = scan(job.workdir, kept_out(project))
    folder = str(job.workdir)
    return Plan(project.name, name, job, project.store, folder, source, project.local, project.placement, first, image)


def first_placement(use: SpotUse, rules: PlacementRules, provider: Provider, placer: Placer) -> Rent | Wait:
    """What would be rented first for a run that may use this capacity."""
    return placer.decide(first_observation(use, rules, provider))


def first_observation(use: SpotUse, rules: PlacementRules, provider: Provider) -> Observation:
    """What the placer of such a run gets to see first."""
    offers = permitted(provider.offers(), rules, ())
    return Observation(time.time(), use, offers, (), rooms(provider, offers))


def open_run(plan: Plan, log: EventLog, objects: Objects, folder: Path, progress: Callable[[int], None]) -> bool:
    """Freeze the job's files and begin the run. False if this project has a run of that name already.

    Raises:
        UsageError: the store holds a run of that name that is not this project's, or a file changed meanwhile.
        StoreError: the store failed; nothing has begun, and doing it again is harmless.
    """
    # In this order: a run of this project is in the log before it has a head.
    head = read_head(objects, plan.run)
    if plan.run in log.runs():
        return False
    if head is not None:
        raise UsageError(
            f"the store already holds a run {plan.run!r} that this project does not know",
            "two projects share the store, or the event log was removed",
            "choose another name",
        )
    freeze(folder, plan.source, objects, progress)
    opened = Opened(
        plan.project, plan.job, plan.store, plan.source.key, plan.local, plan.placement, plan.image, plan.hosts
    )
    return log.open_run(plan.run, opened)


def kept_out(project: Project) -> tuple[Path, ...]:
    """Folders of Spotweld's own, which grow while they are frozen."""
    store = project.store.partition("?")[0]
    registries = (project.registries.persistent, project.registries.ephemeral)
    layouts = [Path(url.removeprefix("oci:")) for url in registries if url.startswith("oci:")]
    stores = [Path(unquote(store.removeprefix("file:")))] if store.startswith("file:") else []
    return (project.state, *stores, *layouts)
