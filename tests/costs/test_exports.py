"""What other tools are given is the ledger, to the last digit."""

from __future__ import annotations

import io
import json
import re
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib import resources
from typing import TYPE_CHECKING

import duckdb
import msgspec
import pytest
from msgspec.structs import replace
from tests.costs.test_ledger import usage

from spotweld.costs.exports import bigquery_schema, columns, write_bigquery, write_json, write_parquet
from spotweld.costs.focus import COLUMNS, Row
from spotweld.costs.ledger import ledger
from spotweld.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

ROWS = ledger(
    [
        usage(attempt=1, seconds=3599.77777, lost=600.123456),
        usage(attempt=2, closed=False),
        usage(attempt=3, currency="EUR", price="999999.123456789"),
    ]
)


def test_json_is_what_the_rows_are_read_from() -> None:
    text = io.StringIO()
    write_json(ROWS, text)
    assert msgspec.json.decode(text.getvalue(), type=list[Row]) == ROWS
    assert "E-" not in text.getvalue()
    empty = io.StringIO()
    write_json([], empty)
    assert json.loads(empty.getvalue()) == []


def test_bigquery_loads_lines_that_fit_its_schema() -> None:
    schema = bigquery_schema()
    assert [field["name"] for field in schema] == list(COLUMNS)
    assert {field["name"]: (field["type"], field["mode"]) for field in schema}.items() >= {
        "BilledCost": ("BIGNUMERIC", "REQUIRED"),
        "ChargeClass": ("STRING", "NULLABLE"),
        "ChargePeriodStart": ("TIMESTAMP", "REQUIRED"),
        "Tags": ("JSON", "REQUIRED"),
        "x_Attempt": ("INTEGER", "REQUIRED"),
        "x_Estimated": ("BOOLEAN", "REQUIRED"),
    }.items()
    text = io.StringIO()
    write_bigquery(ROWS, text)
    lines = [json.loads(line) for line in text.getvalue().splitlines()]
    assert len(lines) == len(ROWS)
    for field in schema:
        for line in lines:
            value = line[field["name"]]
            assert value is not None or field["mode"] == "NULLABLE"
            if field["type"] == "BIGNUMERIC":
                # 38 digits after the point are the most that it holds.
                assert abs(Decimal(value)) < 10**38
                assert len(value.partition(".")[2]) <= 38
            elif field["type"] == "TIMESTAMP":
                assert datetime.fromisoformat(value).utcoffset() is not None


def test_bigquery_s_own_description_knows_the_fields_of_the_schema() -> None:
    found = resources.files("googleapiclient") / "discovery_cache" / "documents" / "bigquery.v2.json"
    known = json.loads(found.read_text())["schemas"]["TableFieldSchema"]["properties"]
    types = set(re.findall(r"\b[A-Z]{3,}\b", known["type"]["description"].partition("Use of")[0]))
    assert {"STRING", "BIGNUMERIC", "RECORD"} <= types
    for field in bigquery_schema():
        assert field.keys() <= known.keys()
        assert field["type"] in types
        assert field["mode"] in known["mode"]["description"]


def test_parquet_has_every_digit(tmp_path: Path) -> None:
    path = tmp_path / "it's here.parquet"
    write_parquet(iter(ROWS), path)
    database = duckdb.connect()
    found = database.read_parquet(str(path))
    assert found.columns == list(COLUMNS)
    # As numbers: DuckDB's client would want a library of time zones.
    moments = [name for name, kind in zip(COLUMNS, found.types, strict=True) if "TIME ZONE" in str(kind)]
    found = found.project("* REPLACE (" + ", ".join(f"epoch_us({name}) AS {name}" for name in moments) + ")")
    read = [dict(zip(COLUMNS, values, strict=True)) for values in found.fetchall()]
    database.close()
    assert len(moments) == 4
    for line in read:
        line |= {name: datetime.fromtimestamp(0, UTC) + timedelta(microseconds=line[name]) for name in moments}
    for line in read:
        line["Tags"] = json.loads(line["Tags"])
    assert msgspec.convert(read, list[Row]) == ROWS
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_parquet_refuses_what_it_would_round(tmp_path: Path) -> None:
    for amount in ("0.123456789012345678901", "1000000000000000000"):
        with pytest.raises(UsageError, match="does not fit into Parquet"):
            write_parquet([replace(ROWS[0], list_cost=Decimal(amount))], tmp_path / "rows.parquet")
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_parquet_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(UsageError) as caught:
        write_parquet(ROWS, tmp_path / "rows.parquet")
    assert "spotweld[analytics]" in caught.value.todo


def test_every_column_has_a_kind() -> None:
    assert list(columns()) == list(COLUMNS)
