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


JOBS = """\
name: own
jobs:
  train: {command: 'true', work: 48h, checkpoint: {every: 30m}}
  steps: {command: 'true', work: 1h, checkpoint: {every: 10 steps}}
placement: {changeover: 12m}
"""


def estimate(folder: Path, *words: str) -> Result:
    if not (folder / "spotweld.yaml").exists():
        (folder / "spotweld.yaml").write_text(JOBS)
    return CliRunner().invoke(program, ["-C", str(folder), "cost", "estimate", *words])


def test_an_estimate_is_a_line_for_each_way(tmp_path: Path) -> None:
    prices = ("--on-demand", "25", "--spot", "8.333333333", "--committed", "15")
    result = estimate(tmp_path, "train", "--interruptions", "3", *prices)
    assert result.exit_code == 0, result.output
    rows = [re.split(r"\s{2,}", line) for line in result.stdout.splitlines()]
    assert rows[0] == ["way", "interruptions", "machine time", "low", "expected", "high", "of on-demand"]
    assert [(row[0], row[1], row[4]) for row in rows[1:4]] == [
        ("on-demand", "-", "1205.00 USD"),
        ("spot, undisturbed", "-", "401.67 USD"),
        ("spot, 3 interruptions", "3", "412.92 USD"),
    ]
    assert [row[0] for row in rows[4:]] == ["spot, as machines live", "spot, without checkpoints", "committed"]
    assert "note: saves: every 30m 00s, as the project file says" in result.stderr
    assert not (tmp_path / ".spotweld").exists()


def test_an_estimate_in_json(tmp_path: Path) -> None:
    found = json.loads(estimate(tmp_path, "train", "--work", "10h", "--json").stdout)
    assert set(found) == {"lines", "notes"}
    assert set(found["lines"][0]) == {"way", "hourly", "interruptions", "seconds", "cost"}
    assert found["lines"][1]["seconds"] == {"low": 36720.0, "expected": 36720.0, "high": 36720.0}
    assert found["lines"][1]["cost"]["expected"] == {"amount": "9.384000000", "currency": "USD"}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "which job or image?"),
        (("trian",), "did you mean train?"),
        (("steps",), "--cadence 30m"),
        (("train", "--work", "long"), "not a duration"),
        (("train", "--spot", "cheap"), "not an amount"),
        (("train", "--spot", "1 EUR"), "different currencies"),
        (("train", "--cadence", "0s"), "between two saves"),
        (("train", "--type", "p4d.24xlarge"), "say both"),
        (("train", "--type", "p4d.24xlargest", "--region", "us-east-1"), "no price list knows"),
    ],
    ids=str,
)
def test_what_cannot_be_estimated_is_refused(tmp_path: Path, words: tuple[str, ...], why: str) -> None:
    result = estimate(tmp_path, *words)
    assert result.exit_code == 2, result.output
    assert why in result.stderr


def test_builds_that_nobody_has_seen_are_unknown(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY spotweld.yaml /a\nCOPY spotweld.yaml /b\n")
    (tmp_path / "spotweld.yaml").write_text(f"{JOBS}images: {{tool: {{context: .}}}}\n")
    rows = [re.split(r"\s{2,}", line) for line in estimate(tmp_path, "tool").stdout.splitlines()]
    assert [row[:2] for row in rows[1:]] == [
        ["cold", "2 of 2"],
        ["no change", "0 of 2"],
        ["minor", "1 of 2"],
        ["major", "2 of 2"],
        ["after a preemption", "2 of 2"],
    ]
    assert rows[1][2:7] == ["unknown"] * 5
    assert rows[2][5:7] == ["0.00 USD"] * 2
    found = json.loads(estimate(tmp_path, "tool", "--json").stdout)
    assert found["courses"][0]["spot"] is None
    assert found["courses"][3]["what"] == "COPY spotweld.yaml /a changes"
    assert "is an image" in estimate(tmp_path, "tool", "--work", "1h").stderr


def test_a_plan_says_what_a_job_with_work_will_cost(tmp_path: Path) -> None:
    def line(*words: str) -> str:
        result = CliRunner().invoke(program, ["-C", str(tmp_path), "plan", *words])
        return next(line for line in result.stdout.splitlines() if line.startswith("estimate"))

    (tmp_path / "spotweld.yaml").write_text(JOBS)
    assert re.fullmatch(
        r"estimate  about 51\.96 USD on spot \(46\.83 USD to 57\.61 USD\), 147\.49 USD on demand", line("train")
    )
    assert line("train", "--spot-policy", "on-demand") == "estimate  147.49 USD on demand"
    assert "nobody knows how often" in line("steps")


def test_prices_of_a_listed_machine_say_their_source_and_unknown_ones_stay_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    result = estimate(tmp_path, "train", "--type", "p4d.24xlarge", "--region", "us-east-1", "--json")
    lines = {line["way"]: line for line in json.loads(result.stdout)["lines"]}
    assert lines["on-demand"]["hourly"]["amount"] == "21.957642"
    assert (lines["spot, undisturbed"]["hourly"], lines["spot, undisturbed"]["cost"]) == (None, None)
    assert re.search(r"note: on-demand: 21\.96 USD/h in us-east-1 \(price: aws/.*, [0-9]+ days old", result.stderr)
    assert "note: spot: price unknown" in result.stderr
