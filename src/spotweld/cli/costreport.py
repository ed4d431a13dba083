"""``spotweld cost report``."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from spotweld.cli.costparts import open_ledger, part_options, writing
from spotweld.cli.output import json_bytes, print_json, print_table, say, say_changed
from spotweld.cli.session import json_option
from spotweld.costs.focus import plain
from spotweld.costs.sums import sum_up
from spotweld.errors import UsageError
from spotweld.report.spending import page
from spotweld.runs.drive import open_enforcer
from spotweld.values.clocks import SystemClock
from spotweld.values.money import format_money

if TYPE_CHECKING:
    from spotweld.costs.burndown import Burndown
    from spotweld.costs.sums import Line, Part, Sums
    from spotweld.project.nouns import Project

_MONEY = ("spent", "kept", "lost", "list_cost", "on_demand", "savings")
_HOURS = ("hours", "lost_hours")


def _words(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    words = tuple(word.strip() for word in value.split(","))
    if not all(words) or len(set(words)) < len(words):
        raise click.BadParameter("words with commas between them, each of them once", context, parameter)
    return words


@click.command("report", short_help="Say what was spent, on what, and which part of it was lost work.")
@click.option(
    "--by",
    callback=_words,
    metavar="WORDS",
    help="day, week, month (if nothing is said), type, zone, region, provider, resource, project, run, or a label such "
    "as team; several with commas.",
)
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Draw it on a page, and print nothing.")
@part_options
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
    by: tuple[str, ...] | None,
    part: Part,
    form: str,
    output: Path | None,
    html: Path | None,
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
    with open_ledger(part) as (project, file, notes):
        if html is not None:
            _draw(html, page(project.name, file, part, by or (), _burndowns(project)))
            return
        sums = sum_up(file, part, by or ("month",))
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


def _burndowns(project: Project) -> list[Burndown]:
    return open_enforcer(project.state, SystemClock()).burndowns(project.budgets.values()) if project.budgets else []


def _draw(path: Path, text: str | None) -> None:
    if text is None:
        say("nothing was spent, and nothing is drawn")
        return
    with writing(path):
        path.write_text(text, encoding="utf-8")
    say_changed(f"the page is written: {path}", f"xdg-open {path}")


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
    with writing(path):
        path.write_text(text, encoding="utf-8")
    say_changed(f"the report is written: {path}", f"less {path}")
