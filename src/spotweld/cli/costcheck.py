"""``spotweld cost check``."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import click

from spotweld.cli.output import print_json, say
from spotweld.cli.session import json_option
from spotweld.costs.validating import Breach, validate_csv, validate_json

_MOST = 100
"""Breaches that are printed: a column that is wrong is wrong in every row."""


@click.command("check", short_help="Check a file of costs against FOCUS 1.2.")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@json_option
def check_verb(*, path: Path, as_json: bool) -> None:
    """Check a FILE of costs, ours or a provider's, against FOCUS 1.2: a .csv, or JSON (an array, or an object a line).

    The exit status is 1 if it does not follow FOCUS. Each breach is told with its row and column, up to 100 of them.

    \b
    The JSON: [{"row": 1, "column": "BillingCurrency",
    "problem": ...}, ...]; row 0 is the file as a whole.
    """
    found = _breaches(path)
    if as_json:
        print_json(found[:_MOST])
    else:
        for breach in found[:_MOST]:
            click.echo(str(breach))
    more = f"; there are more than {_MOST}" if len(found) > _MOST else ""
    say(f"{path} {'does not follow' if found else 'follows'} FOCUS 1.2{more}")
    raise SystemExit(1 if found else 0)


def _breaches(path: Path) -> list[Breach]:
    if path.suffix == ".csv":
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            return list(islice(validate_csv(file), _MOST + 1))
    return list(islice(validate_json(path.read_text(encoding="utf-8-sig", errors="replace")), _MOST + 1))
