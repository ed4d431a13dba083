"""What the verbs about the ledger have in common: the ledger itself, and which part of it is meant."""

from __future__ import annotations

import time
from contextlib import closing, contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from spotweld.cli.output import say
from spotweld.cli.session import open_project
from spotweld.costs.ledgerfile import LedgerFile
from spotweld.costs.sums import Part
from spotweld.errors import UsageError
from spotweld.project.words import nearest, quoted
from spotweld.runs.ledgers import bring_up_to_date, ledger_path
from spotweld.runs.weighing import weigh
from spotweld.values.clocks import SystemClock, moment_of
from spotweld.values.durations import parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from spotweld.project.nouns import Project


def part_options(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Let a verb take ``--since``, ``--until``, ``--run`` and ``--label``; they arrive as ``part``."""

    @click.option("--since", callback=_moment, metavar="WHEN", help="So long ago (30d), or a date (UTC).")
    @click.option("--until", callback=_moment, metavar="WHEN", help="The same; what began then does not count.")
    @click.option("--run", "runs", multiple=True, metavar="RUN", help="This run alone. May be repeated.")
    @click.option("--label", "labels", multiple=True, callback=_labels, metavar="NAME=VALUE", help="With this label.")
    @wraps(verb)
    def taking(
        *,
        since: float | None,
        until: float | None,
        runs: tuple[str, ...],
        labels: dict[str, str],
        **more: Any,  # noqa: ANN401 - the verb's own options
    ) -> Any:  # noqa: ANN401 - what the verb returns
        return verb(part=Part(since, until, runs, labels), **more)

    return taking


@contextmanager
def open_ledger(part: Part) -> Iterator[tuple[Project, LedgerFile, list[str]]]:
    """The project, its ledger, brought up to date, and notes that were said already.

    Raises:
        UsageError: there is no run of a name that ``part`` has.
    """
    project, _ = open_project()
    with closing(LedgerFile(ledger_path(project.state))) as file:
        notes = weigh(project, SystemClock()) + bring_up_to_date(file, project.state, time.time())
        for note in notes:
            say(f"note: {note}")
        # What lies in a registry is of an owner that has no log of its own.
        known = {run for _, run in file.marks()} | {kind.run for kind in file.kinds().values()} if part.runs else ()
        for run in part.runs:
            if run not in known:
                near = nearest(run, known)
                todo = f"did you mean {near}?" if near else "`spotweld status` lists the runs of this project"
                raise UsageError(f"there is no run {quoted(run)}", "", todo)
        yield project, file, notes


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in the usual words that a file cannot be written.

    Raises:
        UsageError: it cannot.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path} cannot be written", str(error.strerror), "choose another with -o") from error


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
