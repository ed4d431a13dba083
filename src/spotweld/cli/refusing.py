"""What stands against a launch: the project's budgets."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from spotweld.runs.budgeting import BudgetLog, Enforcer
from spotweld.runs.drive import log_path
from spotweld.runs.pools.drive import pools_path
from spotweld.runs.reopening import check_against
from spotweld.values.clocks import SystemClock

if TYPE_CHECKING:
    from spotweld.project.nouns import Job, Project


def refuse_broken(project: Project, job: Job, what: str) -> None:
    """See that no broken budget of the project covers the job.

    Raises:
        BudgetSpent: one does; ``what`` cannot be done.
    """
    # Without a log nothing has been spent, and none is made.
    if not project.budgets or not log_path(project.state).exists():
        return
    clock = SystemClock()
    with closing(BudgetLog(log_path(project.state), clock)) as log:
        enforcer = Enforcer(log, pools_path(project.state), clock)
        check_against(what, enforcer.against(job, project.budgets.values()))
