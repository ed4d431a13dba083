"""Whether a run that a budget has stopped may go on: pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotweld.errors import BudgetSpent, UsageError
from spotweld.runs.budgeting import spending
from spotweld.runs.events import Outcome
from spotweld.values.clocks import iso
from spotweld.values.money import format_money

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotweld.costs.budgets import Standing
    from spotweld.runs.states import RunState
    from spotweld.values.money import Money


def going_on(state: RunState) -> str | None:
    """What to type to let the run go on; None: no budget has stopped it."""
    return f"spotweld launch {state.job.name} --raise-budget AMOUNT" if state.outcome is Outcome.BUDGET else None


def find_stopped(states: Sequence[RunState], job: str) -> RunState:
    """The newest run of a job that a budget has stopped.

    Args:
        states: the project's runs, the newest first.
        job: its name.

    Raises:
        UsageError: there is none.
    """
    of_job = [state for state in states if state.job.name == job]
    stopped = next((state for state in of_job if state.outcome is Outcome.BUDGET), None)
    if stopped is not None:
        return stopped
    what = f"no run of the job {job} was stopped by a budget"
    if not of_job:
        raise UsageError(what, "it has no runs", f"begin one with: spotweld launch {job}")
    raise _not_stopped(what, of_job[0])


def check_stopped(state: RunState) -> None:
    """See that a budget has stopped the run.

    Raises:
        UsageError: none has.
    """
    if state.outcome is not Outcome.BUDGET:
        raise _not_stopped(f"the run {state.run} was not stopped by a budget", state)


def check_budget(state: RunState, amount: Money | None, spent: Money | None) -> None:
    """See that the run has money left, in all.

    Args:
        state: the run.
        amount: its job's budget from now on; None: as it was.
        spent: what it has cost; None: nothing yet.

    Raises:
        UsageError: it has none left, or nobody can tell.
    """
    budget = state.job.budget if amount is None else amount
    if budget is None or spent is None:
        return
    what = f"the run {state.run} cannot go on with a budget of {format_money(budget)}"
    had = f"it has spent {format_money(spent)}"
    if budget.currency != spent.currency:
        raise UsageError(what, f"{had}, and currencies do not add up", f"give an amount in {spent.currency}")
    if budget <= spent:
        todo = f"give more than that in all, not in addition: spotweld launch {state.job.name} --raise-budget AMOUNT"
        raise UsageError(what, had, todo)


def check_against(what: str, broken: Sequence[Standing]) -> None:
    """See that no budget of the project would stop the run at once.

    Args:
        what: what cannot be done then.
        broken: the broken budgets that cover its job.

    Raises:
        BudgetSpent: there is one.
    """
    if not broken:
        return
    names = ", ".join(stands.budget.name for stands in broken)
    ends = [stands.until for stands in broken]
    until = None if None in ends else max(end for end in ends if end is not None)
    wait = "" if until is None else f", or wait until {iso(until)}, when its next period begins"
    todo = f"raise the amount of the budget {names} in the project file{wait}; see: spotweld budget ls"
    raise BudgetSpent(what, "; ".join(spending(stands) for stands in broken), todo)


def _not_stopped(what: str, newest: RunState) -> UsageError:
    if newest.outcome is None:
        todo = f"follow it with: spotweld watch {newest.run}"
        return UsageError(what, f"{newest.run} goes on ({newest.phase})", todo)
    why = f"{newest.run} has ended ({newest.outcome})"
    return UsageError(what, why, f"begin a new run with: spotweld launch {newest.job.name}")
