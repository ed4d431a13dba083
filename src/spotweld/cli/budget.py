"""``spotweld budget``: the verbs about what runs may cost together."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from spotweld.cli.output import print_json, print_table, say, say_changed
from spotweld.cli.session import json_option, open_project
from spotweld.runs.budgeting import BudgetLog
from spotweld.runs.drive import enforce, log_path, open_enforcer
from spotweld.runs.events import Outcome
from spotweld.values.clocks import SystemClock, iso
from spotweld.values.money import format_money

if TYPE_CHECKING:
    from spotweld.costs.budgets import Standing
    from spotweld.project.nouns import Project
    from spotweld.runs.budgeting import Enforcer

_COLUMNS = ("BUDGET", "PER", "AMOUNT", "SPENT", "SHARE", "STOPS AT", "PER HOUR", "SPENT BY")


@click.group(invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Say how the project file's budgets stand, and stop runs of those that are broken.

    Controllers enforce budgets as long as any run goes on. These verbs also let them know the budgets of now.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@command.command("ls", short_help="List budgets, and how they stand.")
@json_option
def list_verb(*, as_json: bool) -> None:
    """List budgets, and how they stand.

    \b
    With --json: a list of {budget, per, amount, spent, share, stop, hourly,
    exhausted, broken, others}; share and stop are parts of 1, exhausted is
    seconds since 1970 UTC; null: none. others was spent in other currencies.
    """
    _, enforcer = _open()
    _show(enforcer.standings(), as_json=as_json)


@command.command("check", short_help="The same, and exit 3 if a budget is broken.")
@json_option
def check_verb(*, as_json: bool) -> None:
    """List budgets as ls does, and exit 3 if one has reached the share at which runs are stopped. Stops nothing."""
    _, enforcer = _open()
    found = enforcer.standings()
    _show(found, as_json=as_json)
    if any(stands.broken for stands in found):
        sys.exit(Outcome.BUDGET.exit_status)


@command.command("enforce", short_help="Stop runs of broken budgets, a round at a time; for cron.")
@json_option
def enforce_verb(*, as_json: bool) -> None:
    """Stop runs of broken budgets: one round of each that is due. Saying it again, or twice at once, does no harm.

    Each run saves a checkpoint if its machine leaves time for that, and ends as `stopped by budget`. A run whose
    controller has died gets a new one.

    \b
    With --json: a list of {budget, number, runs}, the rounds that came about.
    """
    project, enforcer = _open()
    rounds = enforce(project.state, enforcer)
    if as_json:
        print_json(rounds)
        return
    for one in rounds:
        say_changed(f"{one.budget}: round {one.number} stops {', '.join(one.runs)}", "spotweld status")
    if not rounds:
        say("nothing to do: no budget is broken, its last round was not long ago, or nothing is left to stop")


def _open() -> tuple[Project, Enforcer]:
    project, _ = open_project()
    log = BudgetLog(log_path(project.state))
    log.keep(project.budgets.values())
    log.close()
    return project, open_enforcer(project.state, SystemClock())


def _show(found: list[Standing], *, as_json: bool) -> None:
    if as_json:
        print_json([_row(stands) for stands in found])
    elif found:
        print_table(_COLUMNS, [_cells(stands) for stands in found], right=range(2, 7))
        for stands in found:
            for money in stands.others:
                say(f"{stands.budget.name}: {format_money(money)} more were spent, and currencies do not add up")
    else:
        say("the project file has no budgets")


def _row(stands: Standing) -> dict[str, Any]:
    budget = stands.budget
    return {
        "budget": budget.name,
        "per": budget.per,
        "amount": budget.amount,
        "spent": stands.spent,
        "share": stands.share,
        "stop": budget.stop,
        "hourly": stands.hourly,
        "exhausted": stands.exhausted,
        "broken": stands.broken,
        "others": stands.others,
    }


def _cells(stands: Standing) -> list[str]:
    budget = stands.budget
    return [
        budget.name,
        str(budget.per),
        format_money(budget.amount),
        format_money(stands.spent),
        f"{stands.share:.1%}",
        "never" if budget.stop is None else f"{budget.stop:.0%}",
        format_money(stands.hourly),
        "-" if stands.exhausted is None else iso(stands.exhausted),
    ]
