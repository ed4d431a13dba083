"""``spotweld plan``."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from spotweld.cli.output import print_json
from spotweld.cli.parts import open_log
from spotweld.cli.refusing import refuse_broken
from spotweld.cli.session import json_option, open_project, store_option
from spotweld.errors import SpotweldError, UsageError
from spotweld.placement.placer import Rent
from spotweld.project.nouns import SpotUse
from spotweld.project.words import nearest, quoted
from spotweld.providers.opening import open_provider
from spotweld.report.words import count
from spotweld.runs.controller import RECENT
from spotweld.runs.drive import log_path
from spotweld.runs.opening import Plan, first_observation, make_plan
from spotweld.runs.placing import placer_of
from spotweld.runs.pools.drive import pools_path
from spotweld.runs.pools.taking import find, fitting, keeping
from spotweld.store.opening import open_store
from spotweld.values.durations import format_duration
from spotweld.values.money import format_money
from spotweld.values.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from spotweld.project.nouns import Job, Project


_VARIABLE = re.compile(r"(?!SPOTWELD_)[A-Za-z_][A-Za-z0-9_]*")


def job_options(verb: Callable[..., Any]) -> Callable[..., Any]:
    """What says which job is meant, and what flags may change of it."""
    policies = click.Choice([str(use) for use in SpotUse])
    for decorate in (
        click.argument("job_name", metavar="[JOB]", required=False),
        click.option("--name", metavar="RUN", help="The run's name; drawn if left out."),
        click.option("--spot-policy", type=policies, help="Which capacity may be used, instead of what the job says."),
        click.option("--env", "variables", multiple=True, metavar="NAME=VALUE", help="Set or replace a variable."),
        store_option,
    ):
        verb = decorate(verb)
    return verb


def plan_of(
    project: Project, job_name: str | None, name: str | None, spot_policy: str | None, variables: tuple[str, ...]
) -> Plan:
    """The plan for the job that is meant, with the flags applied."""
    job = job_of(project, job_name)
    if spot_policy is not None:
        job = replace(job, spot_policy=SpotUse(spot_policy))
    if variables:
        job = replace(job, env=job.env | dict(_variable(text) for text in variables))
    provider = open_provider(project.state, project.local)
    earlier = []
    if job.deadline is not None and log_path(project.state).exists():
        log = open_log(project)
        earlier = [log.state(run) for run in log.runs()[:RECENT]]
    placer = placer_of(job, project.placement, project.local, earlier)
    plan = make_plan(project, job, name, provider=provider, placer=placer)
    if not pools_path(project.state).exists():
        return plan
    # Only here: whoever never had a pool need not open the store to make a plan.
    objects = open_store(project.store, verify=False)
    warm = find(objects, provider, project.name, job, plan.source.key, plan.image, project.store)
    ready = keeping(warm, first_observation(job.spot_policy, project.placement, provider), placer)
    return replace(plan, warm=fitting(ready, plan.first, job.spot_policy))


def images_of(project: Project, job_name: str | None) -> list[str]:
    """The images of the project that the job itself names: one, or none."""
    image = job_of(project, job_name).image
    return [image] if image in project.images else []


def describe(plan: Plan) -> str:
    """The plan in words."""
    source = f"{count(len(plan.source.files), 'file')}, {format_size(plan.source.size)}"
    first = plan.first
    warm = plan.warm
    lines = [
        f"run       {plan.run} (job {plan.job.name} of {plan.project})",
        f"command   {plan.job.command}",
        *([f"image     {plan.image.name}: {plan.image.digest}"] if plan.image is not None else []),
        f"files     {plan.folder}: {source}, frozen for all attempts",
        f"store     {plan.store}",
        *([f"pool      {warm.pool}: takes {warm.machine}, {warm.offer.place}, which is ready"] if warm else []),
        f"machine   {first.offer.zone} {first.offer.capacity_type} at {format_money(first.offer.hourly)}/h "
        f"(price: {first.offer.price_source})"
        if isinstance(first, Rent)
        else "machine   none now",
        f"why       {first.why}",
    ]
    if plan.job.deadline is not None:
        work = format_duration(plan.job.work or 0.0)
        lines.append(f"deadline  {format_duration(plan.job.deadline)} from now, for {work} of work")
    if plan.job.budget is not None:
        lines.append(f"budget    {format_money(plan.job.budget)}")
    return "\n".join(lines)


@click.command
@job_options
@json_option
def command(
    job_name: str | None, name: str | None, spot_policy: str | None, variables: tuple[str, ...], *, as_json: bool
) -> None:
    """Say what launch would do now, and what it would rent at which price. Changes nothing.

    Exits with 2 if launch would do anything, with 0 if there is nothing to do, and with 3 if a broken budget of the
    project stands against it.

    \b
    With --json: {"would_change": true, "plan": {project, run, job, store,
    folder, source, local, placement, first, image, hosts, warm}} or
    {"would_change": false, "run", "phase"}; while an image that the job
    needs has to be built first, {"would_change": true, "images": [{image,
    does, why, layers, expected, ...}], "prices": [...]}.
    """
    project, _ = open_project()
    # A log that is not there yet is not made: nothing is changed here.
    if name is not None and log_path(project.state).exists():
        log = open_log(project)
        if name in log.runs():
            state = log.state(name)
            if as_json:
                print_json({"run": name, "phase": state.phase, "would_change": False})
            else:
                click.echo(f"nothing to do: the run {name} exists ({state.phase})")
            return
    job = job_of(project, job_name)
    refuse_broken(project, job, f"the job {job.name} cannot be launched")
    wanted = images_of(project, job_name)
    if wanted:
        from spotweld.cli.build import show_plan  # noqa: PLC0415 - only jobs in images of the project need it
        from spotweld.images.builds.freshness import standings  # noqa: PLC0415 - as above

        known = standings(project, wanted)
        if not all(standing.is_published for standing in known):
            # What the job would run in is not known before that.
            show_plan(project, known, as_json=as_json)
            sys.exit(2)
    plan = plan_of(project, job_name, name, spot_policy, variables)
    if as_json:
        print_json({"plan": plan, "would_change": True})
    else:
        click.echo(describe(plan))
        if plan.job.work is not None:
            click.echo(f"estimate  {_estimated(project, plan.job)}")
    sys.exit(2)


def _estimated(project: Project, job: Job) -> str:
    """What the job will cost, in a line."""
    from spotweld.cli.costestimate import estimate_of  # noqa: PLC0415 - NumPy, which other plans have no need of
    from spotweld.costs.estimates import ON_DEMAND, SPOT  # noqa: PLC0415 - as above
    from spotweld.runs.estimating import Given  # noqa: PLC0415 - as above

    try:
        found = estimate_of(project, job, Given())
    except SpotweldError as error:
        return f"unknown: {error}"
    spot, firm = found.line(SPOT).cost, found.line(ON_DEMAND).cost
    words = []
    if job.spot_policy is not SpotUse.ON_DEMAND and spot is not None:
        words.append(f"about {spot.expected} on spot ({spot.low} to {spot.high})")
    if job.spot_policy is not SpotUse.SPOT and firm is not None:
        words.append(f"{firm.expected} on demand")
    return ", ".join(words) or "unknown"


def job_of(project: Project, name: str | None) -> Job:
    """The job that is meant: the named one, or the only one.

    Raises:
        UsageError: there is none, or it has to be named.
    """
    if name is None:
        if len(project.jobs) == 1:
            return next(iter(project.jobs.values()))
        raise UsageError("which job?", f"the project has {', '.join(project.jobs) or 'none'}", "name one of them")
    if name not in project.jobs:
        near = nearest(name, project.jobs)
        todo = f"did you mean {near}?" if near else f"it has: {', '.join(project.jobs)}"
        raise UsageError(f"the project has no job {quoted(name)}", "", todo)
    return project.jobs[name]


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not _VARIABLE.fullmatch(name):
        raise UsageError(
            f"{quoted(name)} cannot be set with --env",
            "a variable's name is letters, digits and _, does not begin with a digit, and SPOTWELD_ is ours",
            "write NAME=VALUE",
        )
    return name, value
