"""``spotweld cost``: the verbs about money."""

from __future__ import annotations

import time
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from spotweld.cli.costcheck import check_verb
from spotweld.cli.costestimate import estimate_verb
from spotweld.cli.costexport import export_verb
from spotweld.cli.costoptions import price
from spotweld.cli.costprices import prices_verb
from spotweld.cli.costreport import report_verb
from spotweld.cli.coststack import stack_verb
from spotweld.cli.output import print_json, print_table, say
from spotweld.cli.parts import open_log
from spotweld.cli.session import json_option, open_project, seconds
from spotweld.costs.commitments import Prices, choose
from spotweld.costs.loads import Span, decode_load, parse_load
from spotweld.errors import UsageError
from spotweld.report.words import count
from spotweld.runs.drive import log_path
from spotweld.runs.loads import past_load
from spotweld.values.durations import format_duration
from spotweld.values.money import Money, format_money
from spotweld.values.recordings import content_of

if TYPE_CHECKING:
    from spotweld.costs.commitments import Alternative, Choice

_COLUMNS = ("alternative", "committed", "unused", "spot", "on-demand", "cost", "of on-demand")


@click.group(invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Say what machines cost, and how they would cost less."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


command.add_command(report_verb)
command.add_command(export_verb)
command.add_command(check_verb)
command.add_command(prices_verb)
command.add_command(estimate_verb)
command.add_command(stack_verb)


def _share(context: click.Context, parameter: click.Parameter, value: str) -> Decimal:
    try:
        share = Decimal(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
    except InvalidOperation:
        share = Decimal("NaN")
    if not share.is_finite():
        why = f"not a share: {value[:40]!r}; write a number between 0 and 1, or a percentage such as 5%"
        raise click.BadParameter(why, context, parameter)
    return share


@command.command("commit", short_help="Say how many machines to commit to, with burst on spot above them.")
@click.argument("table", required=False, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--load", "words", metavar="LOAD", help="Such as '8x24h, 20x6h': machines x duration, one after another.")
@click.option("--past", is_flag=True, help="What the runs of this project have used.")
@click.option(
    "--since",
    default="30d",
    show_default=True,
    callback=seconds,
    metavar="DURATION",
    help="How much of the project's past counts.",
)
@click.option("--on-demand", required=True, callback=price, metavar="PRICE", help="Of a machine-hour: 0.38 USD.")
@click.option("--spot", required=True, callback=price, metavar="PRICE", help="Of a machine-hour.")
@click.option("--committed", required=True, callback=price, metavar="PRICE", help="Of a machine-hour, used or not.")
@click.option(
    "--spot-loss",
    default="0",
    show_default=True,
    callback=_share,
    metavar="SHARE",
    help="Of the work on spot that is lost, and done again.",
)
@click.option(
    "--spot-availability",
    default="1",
    show_default=True,
    callback=_share,
    metavar="SHARE",
    help="Of the machine-hours above the baseline that spot can give; on-demand gives the rest.",
)
@json_option
def commit_verb(
    table: Path | None,
    *,
    words: str | None,
    past: bool,
    since: float,
    on_demand: Money,
    spot: Money,
    committed: Money,
    spot_loss: Decimal,
    spot_availability: Decimal,
    as_json: bool,
) -> None:
    """Say how many machines to commit to, so that a load costs least, with burst on spot above them.

    The load is a TABLE (.csv with the columns time and machines), --load, or --past. It stands for the whole term of
    the commitment: a typical week is better than one busy day. A committed machine is paid whether it is used or not.

    \b
    The JSON: {"machines": 8, "break_even": 0.63, "last_used": 1.0,
    "next_used": 0.2, "hours": ..., "machine_hours": ...,
    "alternatives": [{"name": ..., "machines": ..., "cost": {...},
    "committed_hours": ..., "unused_hours": ..., "spot_hours": ...,
    "on_demand_hours": ...}, ...], "notes": [...]}
    """
    prices = Prices(on_demand, spot, committed, spot_loss, spot_availability)
    if sum((table is not None, words is not None, past)) != 1:
        raise UsageError("one load is needed", "", "name a table, or say --load '8x24h, 20x6h', or --past")
    load, notes = _past(since) if past else (_given(table, words), [])
    choice = choose(load, prices)
    for note in notes:
        say(f"note: {note}")
    if as_json:
        print_json(msgspec.structs.asdict(choice) | {"notes": notes})
    else:
        _show(choice)


def _given(table: Path | None, words: str | None) -> list[Span]:
    try:
        return parse_load(words or "") if table is None else decode_load(content_of(table))
    except (OSError, ValueError) as error:
        what = "this load" if table is None else f"the load {table}"
        raise UsageError(f"{what} cannot be used", str(error), "see: spotweld cost commit --help") from error


def _past(since: float) -> tuple[list[Span], list[str]]:
    project, _ = open_project()
    if not log_path(project.state).exists():
        raise UsageError("this project has no runs yet", "", "begin one with: spotweld launch")
    log, now = open_log(project), time.time()
    return past_load([log.state(run) for run in log.runs()], now - since, now)


def _show(choice: Choice) -> None:
    if choice.break_even is None or choice.break_even >= 1:
        click.echo("Commit to no machine: burst costs no more than one that is in use all the time.")
    else:
        click.echo(f"Commit to {count(choice.machines, 'machine')}.")
        click.echo(f"A committed machine pays if it is in use for more than {choice.break_even:.1%} of the time.")
        if choice.last_used is not None:
            click.echo(f"The last of them is in use for {choice.last_used:.1%}.")
        click.echo(f"One more would be in use for {choice.next_used:.1%}.")
    click.echo()
    firm = next(one for one in choice.alternatives if one.name == "all on-demand").cost
    print_table(_COLUMNS, [_cells(one, firm) for one in choice.alternatives], right=range(1, len(_COLUMNS)))
    length = format_duration(choice.hours * 3600)
    say(f"for {length} with {choice.machine_hours:.1f} machine-hours of work; hours are machine-hours that are paid")


def _cells(one: Alternative, firm: Money) -> list[str]:
    hours = (one.committed_hours, one.unused_hours, one.spot_hours, one.on_demand_hours)
    share = f"{one.cost.amount / firm.amount:.1%}" if firm.amount else "-"
    name = f"{one.name} ({one.machines})" if one.machines else one.name
    return [name, *(f"{each:.1f} h" if each else "-" for each in hours), format_money(one.cost), share]
