"""``spotweld budget``: the verbs about what runs may cost together."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from spotweld.cli.output import print_json, print_table, say, say_changed
from spotweld.cli.session import json_option, open_project
from spotweld.costs.gcpbudgets import LARGEST, parse_message
from spotweld.errors import UsageError
from spotweld.project.words import nearest, quoted
from spotweld.runs.budgeting import BudgetLog
from spotweld.runs.drive import alerted, drive_stops, enforce, log_path, open_enforcer
from spotweld.runs.events import Outcome
from spotweld.runs.notifying import send_test
from spotweld.values.clocks import SystemClock, iso
from spotweld.values.money import format_money

if TYPE_CHECKING:
    from spotweld.costs.budgets import Standing
    from spotweld.project.nouns import Project
    from spotweld.runs.budgeting import Enforcer, Round

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
    exhausted, broken, overshoot, overshoot_share, others}; shares and stop are
    parts of 1, exhausted is seconds since 1970 UTC; null: none. overshoot was
    spent beyond the amount, others in other currencies.
    """
    _, enforcer = _open()
    _show(enforcer.standings(), as_json=as_json)


@command.command("check", short_help="The same, and exit 3 if a budget is broken.")
@json_option
def check_verb(*, as_json: bool) -> None:
    """List budgets as ls does, and exit 3 if one has reached the share at which runs are stopped. Stops nothing.

    Receivers are told of the alerts that are due; stderr says what became of that.
    """
    project, enforcer = _open()
    found = enforcer.standings()
    _show(found, as_json=as_json)
    _tell(project, enforcer)
    if any(stands.broken for stands in found):
        sys.exit(Outcome.BUDGET.exit_status)


@command.command("enforce", short_help="Stop runs of broken budgets, a round at a time; for cron.")
@click.option(
    "--message",
    type=click.File("rb"),
    metavar="FILE",
    help="A budget alert of Google Cloud as Pub/Sub delivers it, or its bare data; - is stdin.",
)
@json_option
def enforce_verb(*, message: BinaryIO | None, as_json: bool) -> None:
    """Stop runs of broken budgets: one round of each that is due. Saying it again, or twice at once, does no harm.

    Each run saves a checkpoint if its machine leaves time for that, and ends as `stopped by budget`. A run whose
    controller has died gets a new one. After that, receivers are told of the alerts that are due; stderr says what
    became of it.

    With --message, only the project's budget of the message's name has a round, if the message says that its amount is
    spent. A message that comes twice has one round.

    \b
    With --json: a list of {budget, number, runs}, the rounds that came about.
    """
    project, enforcer = _open()
    rounds = enforce(project.state, enforcer) if message is None else _answer(message, project, enforcer)
    if as_json:
        print_json(rounds)
    else:
        for one in rounds:
            say_changed(f"{one.budget}: round {one.number} stops {', '.join(one.runs)}", "spotweld status")
        if not rounds and message is not None:
            say("nothing to do: the amount is not spent, the message was here before, or nothing is left to stop")
        elif not rounds:
            say("nothing to do: no budget is broken, its last round was not long ago, or nothing is left to stop")
    _tell(project, enforcer)


@command.command("test", short_help="Send a test to each receiver of a budget's alerts.")
@click.argument("name")
@json_option
def test_verb(*, name: str, as_json: bool) -> None:
    """Send a test alert to each receiver of the budget NAME. It exits with 1 if one was not told.

    \b
    With --json: a list of {budget, receiver, threshold, trouble}; an empty
    trouble: it was told.
    """
    project, enforcer = _open()
    stands = next((one for one in enforcer.standings() if one.budget.name == name), None)
    if stands is None:
        raise _unknown(name, project)
    if not stands.budget.notify:
        raise UsageError(f"the budget {name} has no receivers", "", "add alerts: and notify: to it")
    found = send_test(stands, project.name, SystemClock().now())
    if as_json:
        print_json(found)
    else:
        for one in found:
            say(str(one))
    if any(one.trouble for one in found):
        sys.exit(1)


def _unknown(name: str, project: Project) -> UsageError:
    near = nearest(name, project.budgets)
    todo = f"did you mean {near}?" if near else "`spotweld budget ls` lists those that there are"
    return UsageError(f"there is no budget {quoted(name)}", "the project file has none of that name", todo)


def _answer(stream: BinaryIO, project: Project, enforcer: Enforcer) -> list[Round]:
    message = parse_message(stream.read(LARGEST + 1))
    budget = project.budgets.get(message.budget)
    if budget is None:
        raise _unknown(message.budget, project)
    if budget.stop is None:
        raise UsageError(
            f"the budget {budget.name} stops no runs", "it has no share at which it does", "add stop: 100%"
        )
    found = enforcer.answer(budget, message)
    drive_stops(project.state, enforcer)
    return [] if found is None else [found]


def _tell(project: Project, enforcer: Enforcer) -> None:
    for one in alerted(project.state, enforcer, SystemClock()):
        say(str(one))


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
            if stands.overshoot is not None:
                over = f"{format_money(stands.overshoot)} ({stands.overshoot_share:.1%} of the amount)"
                say(f"{stands.budget.name}: overshot by {over}")
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
        "overshoot": stands.overshoot,
        "overshoot_share": stands.overshoot_share,
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
