"""``spotweld launch --raise-budget``."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from spotweld.cli.costoptions import amount
from spotweld.cli.output import say
from spotweld.cli.parts import Known, confirmed, known_run
from spotweld.cli.plan import job_of
from spotweld.cli.refusing import refuse_broken
from spotweld.cli.session import session
from spotweld.errors import UsageError
from spotweld.images.containers.pinning import check_there
from spotweld.runs.accounts import spent
from spotweld.runs.drive import drive_on
from spotweld.runs.reopening import check_budget, check_stopped, find_stopped
from spotweld.runs.states import fold
from spotweld.values.money import format_money

if TYPE_CHECKING:
    from spotweld.project.nouns import Project
    from spotweld.runs.log import EventLog
    from spotweld.values.money import Money


def go_on(project: Project, log: EventLog, job_name: str | None, name: str | None, text: str, *, yes: bool) -> Known:
    """Let a run that a budget has stopped go on, and see that somebody drives it.

    Args:
        project: the project; its log knows its budgets of now.
        log: of its runs.
        job_name: the job whose newest such run is meant.
        name: the run that is meant instead.
        text: its budget from now on; empty: as it was.
        yes: do not ask.

    Raises:
        UsageError: there is no such run, or it has no money left.
        BudgetSpent: a budget of the project stands against it.
        ImageNotFound: its image is gone.
    """
    budget = _amount(text)
    if name is not None:
        run = known_run(name).run
    else:
        job = job_of(project, job_name).name
        run = find_stopped([log.state(one) for one in log.runs()], job).run
    entries = log.entries(run)
    state = fold(entries)
    check_stopped(state)
    had = spent(state, time.time())
    check_budget(state, budget, had)
    refuse_broken(project, state.job, f"the run {state.run} cannot go on")
    if state.image is not None:
        check_there(state.image)
    total = state.job.budget if budget is None else budget
    say(f"run       {state.run} (job {state.job.name} of {state.project}), in its files, image and store of then")
    say(f"spent     {format_money(had) if had is not None else 'nothing'} in {len(state.attempts)} attempts")
    say(f"budget    {format_money(total) if total is not None else 'none of its own'}")
    if not confirmed("let it go on?", yes=yes):
        sys.exit(1)
    if not log.reopen(state.run, entries[-1].seq, budget):
        say(f"somebody else has just let {state.run} go on; nothing of it is changed")
    drive_on(project.state, state.run)
    return Known(project, log, log.state(state.run))


def refuse_changes(spot_policy: str | None, variables: tuple[str, ...]) -> None:
    """See that nothing is to be changed of a run that goes on.

    Raises:
        UsageError: something is.
    """
    if spot_policy is not None or variables or session().flags.get("store"):
        todo = "leave out --spot-policy, --env and --store, or launch a new run"
        raise UsageError("nothing but its budget can be changed of a run that goes on", "", todo)


def _amount(text: str) -> Money | None:
    if not text:
        return None
    try:
        return amount(text)
    except ValueError as error:
        raise UsageError(
            f"--raise-budget: {error}", "", "say: spotweld launch JOB --raise-budget '12.50 USD'"
        ) from error
