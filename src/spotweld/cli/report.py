"""``spotweld report``."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spotweld.cli.output import say_changed
from spotweld.cli.parts import Known, known_run, run_argument
from spotweld.cli.session import json_option
from spotweld.costs.focus import write_csv
from spotweld.errors import UsageError
from spotweld.report.gathering import gather
from spotweld.report.page import render
from spotweld.report.story import Comparison
from spotweld.report.summary import summary, to_json
from spotweld.report.words import count
from spotweld.runs.accounts import spent
from spotweld.runs.comparing import compare, final_state, metrics
from spotweld.runs.events import Outcome
from spotweld.runs.following import Follower

if TYPE_CHECKING:
    from spotweld.report.story import Story
    from spotweld.runs.following import Happening


@click.command
@run_argument
@click.option("--against", metavar="RUN", help="An undisturbed run of the same job: compare with it bit by bit.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Where to write the page.")
@json_option
def command(name: str | None, against: str | None, output: Path | None, *, as_json: bool) -> None:
    """Write a run's story as one HTML file and its ledger as CSV, and its figures on the terminal.

    The ledger has the columns of FOCUS 1.2 and lies beside the page. With --json: the whole story as JSON on stdout,
    and no files unless --output asks for them. With --against: exits with 1 if a bit differs.

    \b
    The JSON: {"verdict": {...}, "figures": {...}, "story": {...}}; the story
    has the run, its attempts, checkpoints, curves, cost rows and, after
    --against, "undisturbed": {weights_identical, curves_identical, ...}.
    """
    known = known_run(name)
    other = known_run(against) if against is not None else None
    for one in (known, other):
        if other is not None and one is not None and one.state.outcome not in {Outcome.DONE, Outcome.LATE}:
            raise UsageError(
                f"the run {one.run} is {one.state.phase}", "only runs that are done can be compared", "let it end first"
            )
    happenings = _happenings(known)
    comparison = _comparison(known, happenings, other) if other is not None else None
    story = gather(known.state, happenings, time.time(), comparison)
    if as_json:
        click.echo(to_json(story))
    else:
        click.echo("\n".join(summary(story)))
    if output is not None or not as_json:
        _write(story, output or known.project.state / "runs" / known.run / "report.html")
    if comparison is not None and not (comparison.weights_identical and comparison.curves_identical):
        sys.exit(1)


def _write(story: Story, path: Path) -> None:
    ledger = path.with_suffix(".ledger.csv")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render(story), encoding="utf-8")
        with ledger.open("w", encoding="utf-8", newline="") as file:
            write_csv(story.rows, file)
    except OSError as error:
        raise UsageError(f"the report cannot be written to {path}", str(error.strerror), "choose with -o") from error
    say_changed(f"the report is written: {path}\nthe ledger is written: {ledger}", f"xdg-open {path}")


def _happenings(known: Known) -> list[Happening]:
    return Follower(known.run, known.log, known.objects()).poll()


def _comparison(known: Known, happenings: list[Happening], other: Known) -> Comparison:
    difference = compare(
        (final_state(known.objects(), known.run), final_state(other.objects(), other.run)),
        (metrics(happenings), metrics(_happenings(other))),
    )
    ended = other.state.ended or time.time()
    parts = (("final state", difference.state), ("logged values", difference.metrics))
    detail = "; ".join(f"{what}: {', '.join(names)}" for what, names in parts if names)
    untold = f"{count(difference.missing, 'logged value')} went with a machine and could not be compared."
    return Comparison(
        weights_identical=not difference.state,
        curves_identical=not difference.metrics,
        seconds=ended - other.state.opened,
        cost=spent(other.state, ended),
        detail=" ".join(
            [
                *([f"Differs from {other.run} in the {detail}."] if detail else []),
                *([untold] if difference.missing else []),
            ]
        ),
    )
