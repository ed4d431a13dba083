"""``spotweld cost report``."""

from __future__ import annotations

import csv
import io
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from spotweld.cli.output import json_bytes, print_json, print_table, say, say_changed
from spotweld.cli.session import json_option, open_project
from spotweld.costs.focus import plain
from spotweld.costs.ledgerfile import LedgerFile
from spotweld.costs.sums import Part, sum_up
from spotweld.errors import UsageError
from spotweld.project.words import nearest, quoted
from spotweld.runs.ledgers import bring_up_to_date, ledger_path
from spotweld.values.clocks import moment_of
from spotweld.values.durations import parse_duration
from spotweld.values.money import format_money

if TYPE_CHECKING:
    from spotweld.costs.sums import Line, Sums

_MONEY = ("spent", "kept", "lost", "list_cost", "on_demand", "savings")
_HOURS = ("hours", "lost_hours")


def _words(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in value.split(","))
    if not all(words) or len(set(words)) < len(words):
        raise click.BadParameter("words with commas between them, each of them once", context, parameter)
    return words


def _moment(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """So long ago, or a date and time."""
    if value is None:
        return None
    try:
        return time.time() - parse_duration(value)
    except ValueError:
        pass
    try:
        return moment_of(value)
    except ValueError:
        why = f"neither a duration nor a date: {quoted(value)}; write 30d, or 2026-11-01"
        raise click.BadParameter(why, context, parameter) from None


def _labels(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition("=") for text in value]
    if not all(name and equals for name, equals, _ in pairs):
        raise click.BadParameter("a label and its value: team=vision", context, parameter)
    return {name: label for name, _, label in pairs}


@click.command("report", short_help="Say what was spent, on what, and which part of it was lost work.")
@click.option(
    "--by",
    default="month",
    show_default=True,
    callback=_words,
    metavar="WORDS",
    help="day, week, month, type, zone, region, provider, project, run, or a label such as team; several with commas.",
)
@click.option("--since", callback=_moment, metavar="WHEN", help="So long ago (30d), or a date (UTC).")
@click.option("--until", callback=_moment, metavar="WHEN", help="The same; what began then does not count.")
@click.option("--run", "runs", multiple=True, metavar="RUN", help="This run alone. May be repeated.")
@click.option("--label", "labels", multiple=True, callback=_labels, metavar="NAME=VALUE", help="What has this label.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help="How it is written.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="A file instead of stdout.")
@json_option
def report_verb(
    *,
    by: tuple[str, ...],
    since: float | None,
    until: float | None,
    runs: tuple[str, ...],
    labels: dict[str, str],
    form: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """Say what was spent, on what, and which part of it was lost work.

    It is of all runs and pools of the project. Savings are against on-demand, net of lost work. What has no such label
    is a line of its own. Amounts of different currencies are never added.

    \b
    The JSON: {"by": ["month"], "lines": [{"group": ["2026-11"],
    "spent": {"amount": "4.2", "currency": "USD"}, "kept": ..., "lost": ...,
    "list_cost": ..., "on_demand": ..., "savings": ..., "hours": "14",
    "lost_hours": "0.5", "estimated": false}, ...],
    "totals": [...], "notes": [...]}
    """
    project, _ = open_project()
    with closing(LedgerFile(ledger_path(project.state))) as file:
        notes = bring_up_to_date(file, project.state, time.time())
        _check_runs(file, runs)
        sums = sum_up(file, Part(since, until, runs, labels), by)
    for note in notes:
        say(f"note: {note}")
    if as_json or form == "json":
        value = msgspec.structs.asdict(sums) | {"notes": notes}
        if output is None:
            print_json(value)
        else:
            _write(output, msgspec.json.format(json_bytes(value), indent=2).decode() + "\n")
    elif form == "csv":
        _write(output, _csv(sums))
    elif output is not None:
        raise UsageError("a table is for the terminal", "", "write a file with --format csv or json")
    else:
        _show(sums)


def _check_runs(file: LedgerFile, runs: tuple[str, ...]) -> None:
    known = [run for _, run in file.marks()]
    for run in runs:
        if run not in known:
            near = nearest(run, known)
            todo = f"did you mean {near}?" if near else "`spotweld status` lists the runs of this project"
            raise UsageError(f"there is no run {quoted(run)}", "", todo)


def _show(sums: Sums) -> None:
    if not sums.totals:
        say("nothing was spent")
        return
    columns = (*sums.by, "spent", "kept", "lost", "list cost", "savings", "hours", "")
    lines = [[*_names(sums, line), *_figures(line)] for line in sums.lines]
    whole = [["total", *[""] * (len(sums.by) - 1), *_figures(line)] for line in sums.totals]
    print_table(columns, [*lines, *whole], right=range(len(sums.by), len(columns) - 1))
    say("savings: what the kept work would have cost on demand, less all that was spent")


def _names(sums: Sums, line: Line) -> list[str]:
    return [f"(no {word})" if name is None else name for word, name in zip(sums.by, line.group, strict=True)]


def _figures(line: Line) -> list[str]:
    amounts = (line.spent, line.kept, line.lost, line.list_cost, line.savings)
    return [*map(format_money, amounts), f"{line.hours:.2f}", "estimated" if line.estimated else "final"]


def _csv(sums: Sums) -> str:
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow([*sums.by, "currency", *_MONEY, *_HOURS, "estimated"])
    for line in sums.lines:
        amounts = [plain(getattr(line, name).amount) for name in _MONEY] + [plain(getattr(line, n)) for n in _HOURS]
        estimated = "true" if line.estimated else "false"
        out.writerow([*(name or "" for name in line.group), line.spent.currency, *amounts, estimated])
    return text.getvalue()


def _write(path: Path | None, text: str) -> None:
    if path is None:
        click.echo(text, nl=False)
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written", str(error.strerror), "choose another with -o") from error
    say_changed(f"the report is written: {path}", f"less {path}")
