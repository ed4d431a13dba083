"""``spotweld launch``."""

from __future__ import annotations

import signal
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spotweld.cli.live import follow
from spotweld.cli.output import is_terminal, say, say_changed
from spotweld.cli.parts import Known, confirmed, known_run, open_log
from spotweld.cli.plan import describe, images_of, job_of, job_options, plan_of
from spotweld.cli.raising import go_on, refuse_changes
from spotweld.cli.refusing import refuse_broken
from spotweld.cli.session import open_project, progress_option
from spotweld.runs.budgeting import BudgetLog
from spotweld.runs.drive import ensure_driven, log_path
from spotweld.runs.events import Outcome
from spotweld.runs.opening import open_run
from spotweld.runs.pools.drive import ensure_kept
from spotweld.runs.reopening import going_on
from spotweld.runs.uses import pools_up
from spotweld.store.opening import open_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from spotweld.project.nouns import Project
    from spotweld.runs.log import EventLog
    from spotweld.runs.opening import Plan
    from spotweld.runs.states import RunState

_WORTH_A_BAR = 20_000_000
"""Bytes of a job's files above which freezing them takes long enough to be shown."""


@click.command
@job_options
@click.option(
    "--raise-budget",
    "raised",
    is_flag=False,
    flag_value="",
    metavar="[AMOUNT]",
    help="Let the job's newest run that a budget stopped go on; AMOUNT is its budget from now on, in all.",
)
@click.option("--detach", is_flag=True, help="Come back at once; the run goes on by itself.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@progress_option
def command(
    job_name: str | None,
    name: str | None,
    spot_policy: str | None,
    variables: tuple[str, ...],
    raised: str | None,
    *,
    detach: bool,
    yes: bool,
) -> None:
    """Run a job until it is done, whatever happens to its machines. The image that it needs is built first.

    The run belongs to a controller of its own: closing this terminal, or killing this program, does not stop it.
    Launching a --name that exists follows that run.

    A run that a budget has stopped goes on with --raise-budget AMOUNT: under its name, from its last checkpoint, with
    the files, image and store of then. AMOUNT (12.50USD) is its job's budget from now on and counts what was spent
    before. Without AMOUNT its budget stays: for a run that a budget of the project has stopped. --name says which run,
    if it is not the job's newest.

    Exits with 3 if a budget has stopped the run, or if a broken budget of the project covers the job, unless the job is
    protected. Nothing is rented then.
    """
    project, found = open_project()
    log = open_log(project)
    with closing(BudgetLog(log_path(project.state))) as budgets:
        budgets.keep(project.budgets.values())
    if raised is not None:
        refuse_changes(spot_policy, variables)
        known = go_on(project, log, job_name, name, raised, yes=yes)
    elif name is not None and name in log.runs():
        known = known_run(name)
        if known.state.outcome is not None:
            say(f"nothing to do: the run {name} has ended ({known.state.outcome})")
            _say_going_on(known.state)
            sys.exit(known.state.outcome.exit_status)
        say(f"the run {name} exists and is {known.state.phase}; nothing of it is changed")
    else:
        job = job_of(project, job_name)
        refuse_broken(project, job, f"the job {job.name} cannot be launched")
        _build(project, images_of(project, job_name), found["progress"].value, yes=yes)
        plan = plan_of(project, job_name, name, spot_policy, variables)
        say(describe(plan))
        if not confirmed("launch it?", yes=yes):
            sys.exit(1)
        if not _open(plan, log):
            say(f"somebody else has just launched {plan.run}; nothing of it is changed")
        known = Known(project, log, log.state(plan.run))
    ensure_driven(project.state, known.run)
    for pool in pools_up(project.state):
        ensure_kept(project.state, pool)
    if detach:
        say_changed(f"the run {known.run} is on its way", f"spotweld watch {known.run}")
        click.echo(known.run)
        return
    watch(known, found["progress"].value)


def _say_going_on(state: RunState) -> None:
    todo = going_on(state)
    if todo is not None:
        say(f"it goes on from its last checkpoint with: {todo}")


def _build(project: Project, images: list[str], progress: str, *, yes: bool) -> None:
    """Build what the job's image lacks; nothing happens if it is fresh, or none of the project's."""
    if not images:
        return
    from spotweld.cli.build import bring, plan_words  # noqa: PLC0415 - only jobs in images of the project need it
    from spotweld.images.builds.freshness import standings  # noqa: PLC0415 - as above

    known = standings(project, images)
    if all(standing.is_published for standing in known):
        return
    say(plan_words(project, known))
    if not confirmed("build that first?", yes=yes):
        sys.exit(1)
    bring(project, images, known, "auto", None, progress)


def _open(plan: Plan, log: EventLog) -> bool:
    """Begin the run, with a bar on a terminal if its files are many bytes."""
    small = plan.source.size < _WORTH_A_BAR or not is_terminal(sys.stderr)
    label = "freezing the job's files"
    with click.progressbar(length=plan.source.size, label=label, file=sys.stderr, hidden=small) as bar:
        return open_run(plan, log, open_store(plan.store), Path(plan.folder), bar.update)


def watch(known: Known, progress: str, asides: Callable[[], list[str]] = list) -> None:
    """Follow a run to its end and leave with its exit status."""
    outcome = watch_to_its_end(known, progress, asides)
    if outcome is Outcome.DONE:
        say_changed(f"the run {known.run} is done", f"spotweld report {known.run}")
    elif outcome is Outcome.LATE:
        say_changed(f"the run {known.run} is done, but after its deadline", f"spotweld report {known.run}")
    else:
        say_changed(f"the run {known.run} ended: {outcome}", f"spotweld logs {known.run}")
        _say_going_on(known.log.state(known.run))
    sys.exit(outcome.exit_status)


def watch_to_its_end(known: Known, progress: str, asides: Callable[[], list[str]] = list) -> Outcome:
    """Follow a run to its end; an interrupt leaves it to itself, and leaves."""
    # TERM unwinds like an interrupt, so that the terminal is left as it was.
    former = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return follow(known, progress, asides)
    except KeyboardInterrupt:
        say(f"\nthe run {known.run} goes on without this terminal")
        say(f"come back with: spotweld watch {known.run}; stop it with: spotweld cancel {known.run}")
        sys.exit(130)
    finally:
        signal.signal(signal.SIGTERM, former)
