"""``spotweld cost export``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from spotweld.cli.costparts import open_ledger, part_options, writing
from spotweld.cli.output import say_changed
from spotweld.costs.exports import bigquery_schema, write_bigquery, write_json, write_parquet
from spotweld.costs.focus import write_csv
from spotweld.errors import UsageError

if TYPE_CHECKING:
    from spotweld.costs.sums import Part

_STDOUT = Path("-")
_TEXTS = {"focus-csv": write_csv, "focus-json": write_json, "bigquery": write_bigquery}


@click.command("export", short_help="Write the ledger's rows for other tools: CSV, JSON, Parquet, BigQuery.")
@click.option(
    "--to",
    "form",
    type=click.Choice([*_TEXTS, "parquet"]),
    default="focus-csv",
    show_default=True,
    help="The form; all of them have the columns of FOCUS 1.2.",
)
@click.option(
    "-o",
    "--output",
    "path",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Where to write it; -: on stdout.",
)
@part_options
def export_verb(*, form: str, path: Path, part: Part) -> None:
    """Write the ledger's rows for other tools: one for each charge period, in the columns of FOCUS 1.2.

    Parquet needs the extra analytics. For BigQuery a schema is written beside the rows, and the command that loads them
    is said.

    Raises:
        UsageError: the file cannot be written; or Parquet, which is no text, was to go to stdout.
    """
    on_stdout = path == _STDOUT
    if on_stdout and form == "parquet":
        raise UsageError("Parquet is written into a file only", "", "choose one with -o")
    with open_ledger(part) as (_, file, _), file.reading(), writing(path):
        kinds = {number: kind for number, kind in file.kinds().items() if part.holds(kind)}
        rows = file.rows(kinds, part.since, part.until)
        if on_stdout:
            _TEXTS[form](rows, sys.stdout)
            return
        if form == "parquet":
            write_parquet(rows, path)
        else:
            with path.open("w", encoding="utf-8", newline="") as out:
                _TEXTS[form](rows, out)
        then = f"less {path}" if form in {"focus-csv", "focus-json"} else f"duckdb -c \"FROM '{path}'\""
        if form == "bigquery":
            schema = path.with_suffix(".schema.json")
            schema.write_bytes(msgspec.json.format(msgspec.json.encode(bigquery_schema()), indent=2) + b"\n")
            then = f"bq load --source_format=NEWLINE_DELIMITED_JSON DATASET.TABLE {path} {schema}"
    say_changed(f"the ledger is written: {path}", then)
