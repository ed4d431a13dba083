"""``spotweld init``."""

from __future__ import annotations

from pathlib import Path

import click

from spotweld.cli.output import say_changed
from spotweld.cli.session import session
from spotweld.errors import UsageError
from spotweld.project.reading import check_path
from spotweld.project.schema import schema_json
from spotweld.project.starter import write_starter


@click.command()
@click.option("--schema", is_flag=True, help="Print the project file's JSON Schema and write nothing.")
def command(*, schema: bool) -> None:
    """Write a commented project file to start from.

    It goes into this folder, or into the one that -C names. A project file that is there already is never touched.
    """
    if schema:
        click.echo(schema_json(), nl=False)
        return
    folder = session().project or Path.cwd()
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder", "init writes a project file into a folder", "create it first")
    check_path(folder.resolve())
    written = write_starter(folder)
    click.echo("\n".join(str(path) for path in written))
    say_changed(f"wrote {written[0]}; look it over and set the command", "spotweld plan")
