"""The ledger's rows for other tools: FOCUS as CSV, JSON and Parquet, and what BigQuery loads.

A column's type follows from its field in ``focus.Row``, whatever columns there are. Amounts stay exact decimals.
"""

from __future__ import annotations

import tempfile
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import msgspec
from msgspec import inspect

from spotweld.costs.focus import Row, plain, write_csv
from spotweld.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Kind(StrEnum):
    """What a column holds."""

    TEXT = "text"
    AMOUNT = "amount"
    MOMENT = "moment"
    NUMBER = "number"
    FLAG = "flag"
    LABELS = "labels"


_KINDS = {
    inspect.StrType: Kind.TEXT,
    inspect.LiteralType: Kind.TEXT,
    inspect.NoneType: Kind.TEXT,
    inspect.DecimalType: Kind.AMOUNT,
    inspect.DateTimeType: Kind.MOMENT,
    inspect.IntType: Kind.NUMBER,
    inspect.BoolType: Kind.FLAG,
    inspect.DictType: Kind.LABELS,
}
# https://duckdb.org/docs/stable/sql/data_types/overview: 38 digits are the most that a decimal has there.
_DIGITS, _PLACES = 38, 20
_PARQUET = {
    Kind.TEXT: "VARCHAR",
    Kind.AMOUNT: f"DECIMAL({_DIGITS}, {_PLACES})",
    Kind.MOMENT: "TIMESTAMPTZ",
    Kind.NUMBER: "BIGINT",
    Kind.FLAG: "BOOLEAN",
    Kind.LABELS: "VARCHAR",
}
# https://cloud.google.com/bigquery/docs/reference/rest/v2/tables#TableFieldSchema
_BIGQUERY = {
    Kind.TEXT: "STRING",
    Kind.AMOUNT: "BIGNUMERIC",
    Kind.MOMENT: "TIMESTAMP",
    Kind.NUMBER: "INTEGER",
    Kind.FLAG: "BOOLEAN",
    Kind.LABELS: "JSON",
}


def columns() -> dict[str, tuple[Kind, bool]]:
    """What each column of the ledger holds, and whether it may be empty."""
    info = inspect.type_info(Row)
    assert isinstance(info, inspect.StructType)  # noqa: S101 - a row is a struct
    found = {}
    for field in info.fields:
        types = field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,)
        some = [one for one in types if not isinstance(one, inspect.NoneType)]
        found[field.encode_name] = (_KINDS[type((some or types)[0])], len(some) < len(types))
    return found


def write_json(rows: Iterable[Row], file: TextIO) -> None:
    """Write an array of objects, one row a line."""
    file.write("[")
    for number, row in enumerate(rows):
        file.write(",\n" if number else "\n")
        file.write(_line(row))
    file.write("\n]\n")


def write_parquet(rows: Iterable[Row], path: Path) -> None:
    """Write a Parquet file: decimals of 38 digits, moments in UTC, tags as JSON text.

    Raises:
        UsageError: the extra ``analytics`` is not installed; or an amount has more digits than Parquet's decimals.
        OSError: the file cannot be written.
    """
    try:
        import duckdb  # noqa: PLC0415 - an extra
    except ImportError as error:
        todo = "install it: pip install 'spotweld[analytics]'; or write focus-csv"
        raise UsageError("Parquet needs the extra analytics", "", todo) from error
    types = {name: _PARQUET[kind] for name, (kind, _) in columns().items()}
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        # DuckDB reads CSV many times as fast as it takes values from Python.
        text, whole = Path(folder) / "rows.csv", Path(folder) / "rows.parquet"
        with text.open("w", encoding="utf-8", newline="") as file:
            write_csv(_fitting(rows), file)
        database = duckdb.connect()
        try:
            database.execute("SET TimeZone = 'UTC'")
            database.read_csv(
                str(text), columns=types, header=True, auto_detect=False, sep=",", quotechar='"', escapechar='"'
            ).write_parquet(str(whole), compression="zstd")
        finally:
            database.close()
        whole.replace(path)


def bigquery_schema() -> list[dict[str, str]]:
    """The table's fields, as ``bq load --schema`` and the API's ``TableSchema`` take them."""
    return [
        {"name": name, "type": _BIGQUERY[kind], "mode": "NULLABLE" if empty else "REQUIRED"}
        for name, (kind, empty) in columns().items()
    ]


def write_bigquery(rows: Iterable[Row], file: TextIO) -> None:
    """Write newline-delimited JSON. Amounts are text there: BigQuery reads that as exactly as it is written."""
    file.writelines(_line(row) + "\n" for row in rows)


def _line(row: Row) -> str:
    return msgspec.json.encode({name: plain(v) if isinstance(v, Decimal) else v for name, v in _cells(row)}).decode()


def _cells(row: Row) -> Iterator[tuple[str, Any]]:
    return ((field.encode_name, getattr(row, field.name)) for field in msgspec.structs.fields(row))


def _fitting(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows, as long as their amounts fit; DuckDB would round them."""
    for row in rows:
        for name, value in _cells(row):
            whole, _, part = plain(value).partition(".") if isinstance(value, Decimal) else ("", "", "")
            if len(part) > _PLACES or len(whole) > _DIGITS - _PLACES:
                why = f"{name} is {plain(value)}, and there are {_PLACES} decimals at most"
                raise UsageError("an amount does not fit into Parquet", why, "write focus-csv, or focus-json")
        yield row
