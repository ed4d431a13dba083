"""``spotweld config``."""

from __future__ import annotations

from pathlib import Path

import click

from spotweld.cli.output import print_json, print_table
from spotweld.cli.session import json_option, progress_option, session, store_option
from spotweld.project.reading import find_project, seek_project
from spotweld.project.settings import settings


@click.group()
def command() -> None:
    """Show the settings and where each comes from.

    Flags come before SPOTWELD_* variables, those before the project file, that before the user's own file
    ($XDG_CONFIG_HOME/spotweld/config.yaml), and that before the defaults.
    """


@command.command()
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
@store_option
@progress_option
@json_option
def show(*, origin: bool, as_json: bool) -> None:
    """Print the settings that hold here."""
    here = session()
    file = find_project(here.project) if here.project else seek_project(Path.cwd())
    _, found = settings(file, here.flags)
    rows = list(found.values())
    if as_json:
        print_json([row if origin else {"name": row.name, "value": row.value} for row in rows])
        return
    columns = ("setting", "value", "origin") if origin else ("setting", "value")
    print_table(columns, [(row.name, row.value, row.origin)[: len(columns)] for row in rows])
