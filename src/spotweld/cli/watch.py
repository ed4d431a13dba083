"""``spotweld watch``."""

from __future__ import annotations

import click

from spotweld.cli.launch import watch
from spotweld.cli.parts import known_run, run_argument
from spotweld.cli.session import open_project, progress_option


@click.command
@run_argument
@progress_option
def command(name: str | None) -> None:
    """Follow a run live, from its beginning; the newest one if none is named.

    If the run's controller has died, it is started again.
    """
    _, found = open_project()
    watch(known_run(name), found["progress"].value)
