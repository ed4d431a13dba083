"""``spotweld cost report``, as a person or a script calls it."""

from __future__ import annotations

import csv
import io
import json
import re
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from tests.runs.pasts import Past

from spotweld.cli.main import program
from spotweld.costs.focus import COLUMNS
from spotweld.costs.holdings import Weighing
from spotweld.runs.events import Cause
from spotweld.runs.weighing import WeightLog
from spotweld.values.money import Money

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BEGIN = 1_762_000_000.0
"""2025-11-01 12:26:40 UTC."""


@pytest.fixture
def report(tmp_path: Path) -> Callable[..., Result]:
    """The verb in a project with two runs that have ended: one for 2 h in a, one for 30 h in b and 10 h on demand."""
    (tmp_path / "spotweld.yaml").write_text("name: own\njobs: {train: {command: 'true'}}\n")
    past = Past(tmp_path / ".spotweld" / "events.db", BEGIN)
    past.attempt("short", 0, 2, Cause.DONE, "a", "1.00")
    past.attempt("long", 0, 30, Cause.PREEMPTED, "b", "0.50")
    past.attempt("long", 740, 750, Cause.DONE, "b", "3.06", spot=False)
    past.log.close()

    def call(*words: object) -> Result:
        result = CliRunner().invoke(program, ["-C", str(tmp_path), "cost", "report", *map(str, words)])
        assert "Traceback" not in result.output
        return result

    return call


def cells(result: Result) -> list[list[str]]:
    assert result.exit_code == 0, result.output
    return [re.split(r"\s{2,}", line.strip()) for line in result.stdout.splitlines()]


def test_a_table_by_month_with_a_total(report: Callable[..., Result]) -> None:
    head, *lines = cells(report())
    assert head == ["month", "spent", "kept", "lost", "list cost", "savings", "hours"]
    assert lines == [
        ["2025-11", "17.00 USD", "17.00 USD", "0.00 USD", "97.92 USD", "80.92 USD", "32.00", "final"],
        ["2025-12", "30.60 USD", "30.60 USD", "0.00 USD", "30.60 USD", "0.00 USD", "10.00", "final"],
        ["total", "47.60 USD", "47.60 USD", "0.00 USD", "128.52 USD", "80.92 USD", "42.00", "final"],
    ]


def test_several_words_and_a_missing_label(report: Callable[..., Result]) -> None:
    _, *lines = cells(report("--by", "zone,run,team"))
    assert [line[:4] for line in lines] == [
        ["a", "short", "(no team)", "2.00 USD"],
        ["b", "long", "(no team)", "45.60 USD"],
        ["total", "47.60 USD", "47.60 USD", "0.00 USD"],
    ]


def test_csv_has_all_digits_and_no_total(report: Callable[..., Result], tmp_path: Path) -> None:
    result = report("--by", "run,team", "--format", "csv")
    found = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [(row["run"], row["team"], row["spent"], row["hours"]) for row in found] == [
        ("long", "", "45.6", "40"),
        ("short", "", "2", "2"),
    ]
    assert {row["currency"] for row in found} == {"USD"}
    written = report("--by", "run,team", "--format", "csv", "-o", tmp_path / "sums.csv")
    assert written.stdout == ""
    assert "sums.csv" in written.stderr
    assert (tmp_path / "sums.csv").read_text() == result.stdout


def test_json_on_stdout_and_in_a_file(report: Callable[..., Result], tmp_path: Path) -> None:
    found = json.loads(report("--by", "month", "--json").stdout)
    assert found["by"] == ["month"]
    assert found["lines"][1] == {
        "group": ["2025-12"],
        "spent": {"amount": "30.6", "currency": "USD"},
        "kept": {"amount": "30.6", "currency": "USD"},
        "lost": {"amount": "0", "currency": "USD"},
        "list_cost": {"amount": "30.6", "currency": "USD"},
        "on_demand": {"amount": "30.6", "currency": "USD"},
        "savings": {"amount": "0", "currency": "USD"},
        "hours": "10",
        "lost_hours": "0",
        "estimated": False,
    }
    assert (found["totals"][0]["spent"]["amount"], found["notes"]) == ("47.6", [])
    assert report("--format", "json", "-o", tmp_path / "sums.json").exit_code == 0
    assert json.loads((tmp_path / "sums.json").read_text()) == found


@pytest.mark.parametrize(
    ("words", "runs"),
    [
        (("--run", "short"), ["short"]),
        (("--run", "short", "--run", "long"), ["long", "short"]),
        (("--since", "2025-11-02"), ["long"]),
        (("--until", "2025-11-02T00:00:00+00:00"), ["long", "short"]),
        (("--until", "2025-11-01"), []),
        (("--since", "1h"), []),
        (("--label", "team=vision"), []),
    ],
    ids=str,
)
def test_a_part_of_it(report: Callable[..., Result], words: tuple[str, ...], runs: list[str]) -> None:
    found = json.loads(report("--by", "run", "--json", *words).stdout)
    assert [line["group"] for line in found["lines"]] == [[run] for run in runs]


def test_what_lies_in_a_registry_is_chosen_by_its_image(report: Callable[..., Result], tmp_path: Path) -> None:
    price = Money(Decimal("0.10"))
    log = WeightLog(tmp_path / ".spotweld" / "events.db")
    log.weigh(
        "file:/there",
        [Weighing(BEGIN, "file:/there", "registry", "image tool", 2**30, price, "own", {"image": "tool"})],
    )
    log.close()
    _, *lines = cells(report("--by", "run", "--until", "2025-12-01"))
    assert [line[0] for line in lines] == ["image tool", "long", "short", "total"]
    _, *chosen = cells(report("--by", "run", "--until", "2025-12-01", "--run", "image tool"))
    assert [line[:2] for line in chosen] == [lines[0][:2], ["total", lines[0][1]]]
    assert "did you mean image tool?" in report("--run", "image tol").stderr


def test_nothing_was_spent(report: Callable[..., Result]) -> None:
    result = report("--until", "2025-01-01")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "nothing was spent\n")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--by", "day,,run"), "words with commas"),
        (("--by", "run,run"), "each of them once"),
        (("--since", "some day"), "neither a duration nor a date"),
        (("--label", "team"), "a label and its value"),
        (("--run", "shrt"), "did you mean short?"),
        (("--format", "csv", "-o", "/no/such/folder/x"), "cannot be written"),
        (("-o", "x"), "a table is for the terminal"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(report: Callable[..., Result], words: tuple[str, ...], why: str) -> None:
    result = report(*words)
    assert result.exit_code == 2, result.output
    assert why in result.stderr


@pytest.mark.parametrize("form", ["focus-csv", "focus-json", "bigquery"])
@pytest.mark.usefixtures("report")
def test_rows_for_other_tools(tmp_path: Path, form: str) -> None:
    path = tmp_path / "ledger.out"
    result = export(tmp_path, "--to", form, "-o", path, "--run", "short", "--since", "2025-11-01")
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    text = path.read_text()
    if form == "focus-csv":
        costs = [Decimal(row["BilledCost"]) for row in csv.DictReader(io.StringIO(text))]
    else:
        found = json.loads(text) if form == "focus-json" else [json.loads(line) for line in text.splitlines()]
        costs = [Decimal(row["BilledCost"]) for row in found]
    assert sum(costs) == 2
    if form == "bigquery":
        fields = json.loads((tmp_path / "ledger.schema.json").read_text())
        assert [field["name"] for field in fields] == list(COLUMNS)
        assert f"bq load --source_format=NEWLINE_DELIMITED_JSON DATASET.TABLE {path}" in result.stderr
    else:
        named = path.rename(path.with_suffix(".csv" if form == "focus-csv" else ".json"))
        checked = check(named, "--json")
        assert (checked.exit_code, json.loads(checked.stdout)) == (0, []), checked.output
        named.write_text(text.replace("USD", "usd"))
        checked = check(named)
        assert checked.exit_code == 1
        assert checked.stdout.startswith("row 1: BillingCurrency: ")
        assert "does not follow FOCUS 1.2" in checked.stderr
    assert "cannot be written" in export(tmp_path, "--to", form, "-o", "/no/such/folder/x").stderr
    assert "did you mean short?" in export(tmp_path, "-o", path, "--run", "shrt").stderr


@pytest.mark.parametrize("form", ["focus-csv", "focus-json", "bigquery"])
def test_rows_on_stdout_are_those_of_the_file(
    form: str, report: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    report()
    path = tmp_path / "rows"
    assert export(tmp_path, "--to", form, "-o", path).exit_code == 0
    shown = export(tmp_path, "--to", form, "-o", "-")
    assert (shown.exit_code, shown.stdout.encode(), shown.stderr) == (0, path.read_bytes(), "")
    assert not (tmp_path / "-").exists()


def test_parquet_is_not_written_on_stdout(report: Callable[..., Result], tmp_path: Path) -> None:
    report()
    shown = export(tmp_path, "--to", "parquet", "-o", "-")
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert "choose one with -o" in shown.stderr


def check(*words: object) -> Result:
    return CliRunner().invoke(program, ["cost", "check", *map(str, words)])


def export(folder: Path, *words: object) -> Result:
    return CliRunner().invoke(program, ["-C", str(folder), "cost", "export", *map(str, words)])


def test_a_page_with_pictures(report: Callable[..., Result], tmp_path: Path) -> None:
    path = tmp_path / "costs.html"
    result = report("--by", "zone", "--html", path)
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"the page is written: {path}" in result.stderr
    assert "Spent by zone" in path.read_text()
    assert "nothing is drawn" in report("--html", tmp_path / "none.html", "--until", "2025-01-01").stderr
    assert not (tmp_path / "none.html").exists()


def test_the_page_has_a_panel_for_each_budget_of_its_own_runs(report: Callable[..., Result], tmp_path: Path) -> None:
    path = tmp_path / "costs.html"
    report("--html", path)
    assert "Budgets" not in path.read_text()
    (tmp_path / "spotweld.yaml").write_text(
        "name: own\njobs: {train: {command: 'true'}, other: {command: 'true'}}\n"
        "budgets: {all: {amount: 40 USD}, others: {amount: 3 USD, jobs: [other]}}\n"
    )
    # What the rest of the page is about changes nothing about budgets.
    report("--html", path, "--run", "short")
    text = path.read_text()
    assert text.count("<figure>") == 2
    assert "7.60 USD overspent, 19 %" in text
    assert "3.00 USD left, 100 %" in text
