"""``spotweld cancel``."""

from __future__ import annotations

import sys

import click

from spotweld.cli.output import say, say_changed
from spotweld.cli.parts import confirmed, known_run, run_argument
from spotweld.runs.drive import ensure_driven


@click.command
@run_argument
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def command(name: str | None, *, yes: bool) -> None:
    """Stop a run for good. Its checkpoints stay in the store."""
    known = known_run(name)
    if known.state.outcome is not None:
        say(f"nothing to do: the run {known.run} has ended ({known.state.outcome})")
        return
    if not confirmed(f"cancel {known.run}?", yes=yes):
        sys.exit(1)
    known.log.request_cancel(known.run)
    ensure_driven(known.project.state, known.run)
    say_changed(f"the run {known.run} is being cancelled", f"spotweld status {known.run}")
