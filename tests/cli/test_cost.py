"""``spotweld cost``, as a person or a script calls it."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from tests.runs.pasts import Past

from spotweld.cli.main import program
from spotweld.runs.events import Cause

if TYPE_CHECKING:
    from pathlib import Path

PRICES = ("--on-demand", "0.38", "--spot", "0.08 USD", "--committed", "0.2394")
LOAD = ("--load", "4x70h, 8x24h, 20x6h")


def call(*words: object) -> Result:
    return CliRunner().invoke(program, ["cost", "commit", *map(str, words)])


def test_a_table_of_alternatives_and_the_break_even() -> None:
    result = call(*LOAD, *PRICES, "--spot-availability", "30%", "--spot-loss", "0.1")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[:4] == [
        "Commit to 4 machines.",
        "A committed machine pays if it is in use for more than 81.8% of the time.",
        "The last of them is in use for 100.0%.",
        "One more would be in use for 30.0%.",
    ]
    rows = [re.split(r"\s{2,}", line) for line in result.stdout.splitlines()[6:]]
    assert [row[0] for row in rows] == [
        "baseline and burst (4)",
        "all on-demand",
        "all spot",
        "all committed (20)",
    ]
    assert [row[-2] for row in rows] == ["151.95 USD", "224.96 USD", "173.26 USD", "478.80 USD"]
    assert "for 4d 04h with 592.0 machine-hours of work" in result.stderr


def test_json_and_a_table_of_load(tmp_path: Path) -> None:
    (tmp_path / "load.csv").write_text("time,machines\n0,4\n252000,8\n338400,20\n360000,\n")
    found = json.loads(call(tmp_path / "load.csv", *PRICES, "--spot-availability", "0", "--json").stdout)
    assert (found["machines"], found["break_even"], found["next_used"]) == (4, pytest.approx(0.63), 0.3)
    assert found["alternatives"][0]["cost"] == {"amount": "168.72", "currency": "USD"}
    same = json.loads(call(*LOAD, *PRICES, "--spot-availability", "0", "--json").stdout)
    assert same == found


def test_where_spot_is_cheap_and_sure_no_commitment_pays() -> None:
    assert call(*LOAD, *PRICES).stdout.startswith("Commit to no machine")


def test_the_projects_own_past_is_a_load(tmp_path: Path) -> None:
    def commit(*words: str) -> Result:
        return CliRunner().invoke(program, ["-C", str(tmp_path), "cost", "commit", "--past", *PRICES, *words])

    (tmp_path / "spotweld.yaml").write_text("name: own\njobs: {train: {command: 'true'}}\n")
    assert "no runs yet" in commit().stderr
    past = Past(tmp_path / ".spotweld" / "events.db", time.time() - 40 * 3600)
    past.attempt("r", 0, 30, Cause.PREEMPTED)
    result = commit("--spot-availability", "0", "--json")
    found = json.loads(result.stdout)
    assert (found["machines"], found["last_used"]) == (1, pytest.approx(0.75, abs=1e-3))
    assert result.stderr == "note: the load of cloud machine in the last 1d 16h\n"
    assert found["notes"] == ["the load of cloud machine in the last 1d 16h"]
    assert "no load" in commit("--since", "1h").stderr


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "one load is needed"),
        ((*LOAD, "--past"), "one load is needed"),
        (("--load", "many"), "machines x duration"),
        ((*LOAD, "--spot", "cheap"), "not an amount"),
        ((*LOAD, "--spot", "1 EUR"), "different currencies"),
        ((*LOAD, "--spot-loss", "some"), "not a share"),
        ((*LOAD, "--spot-loss", "nan"), "not a share"),
        ((*LOAD, "--spot-loss", "100%"), "loses all work"),
        (("no-such.csv",), "does not exist"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(words: tuple[str, ...], why: str) -> None:
    result = call(*PRICES, *words)
    assert result.exit_code == 2, result.output
    assert why in result.stderr


def test_a_table_that_cannot_be_read_says_where(tmp_path: Path) -> None:
    (tmp_path / "load.csv").write_text("time,machines\n0,4\n0,8\n")
    assert "line 3" in call(tmp_path / "load.csv", *PRICES).stderr
    assert "Say what machines cost" in CliRunner().invoke(program, ["cost"]).stdout
