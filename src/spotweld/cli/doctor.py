"""``spotweld doctor``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spotweld.cli.checks import everything
from spotweld.cli.output import print_json, styled
from spotweld.cli.session import json_option, session, store_option

if TYPE_CHECKING:
    from spotweld.cli.checks import Check


@click.command()
@store_option
@json_option
def command(*, as_json: bool) -> int:
    """Say what is here, what is missing, and how to get it.

    Exit status 0 when everything that is required is here, else 1. No network is needed, but by a store and
    registries that are not folders.
    """
    here = session()
    checks = everything(here.project or Path.cwd(), here.flags)
    if as_json:
        print_json(checks)
    else:
        click.echo("\n".join(line for check in checks for line in _lines(check)))
    return int(any(check.required and not check.ok for check in checks))


def _lines(check: Check) -> list[str]:
    if check.ok:
        mark = styled("ok", sys.stdout, fg="green")
    else:
        mark = styled("--", sys.stdout, fg="red") if check.required else styled("..", sys.stdout, fg="yellow")
    lines = [f"{mark}  {check.name + ':':<16}{check.what}"]
    return lines if check.ok or not check.todo else [*lines, f"    {'':<16}{check.todo}"]
