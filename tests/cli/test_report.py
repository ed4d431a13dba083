from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Here


def test_a_page_and_a_ledger_are_written_and_figures_told(lived: Here) -> None:
    result = lived.call("report", "calm")
    assert result.exit_code == 0
    assert "train (calm)" in result.stdout
    assert "30 of 30" in result.stdout
    page = lived.state / "runs/calm/report.html"
    assert page.read_text().startswith("<!")
    assert page.with_suffix(".ledger.csv").exists()
    assert result.stderr.splitlines()[-1] == f"next: xdg-open {page}"


def test_json_is_the_whole_story(lived: Here, tmp_path: Path) -> None:
    result = lived.call("report", "calm", "--json")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert set(told) == {"verdict", "figures", "story"}
    assert told["story"]["run"] == "calm"
    assert len(told["story"]["curves"][0]["points"]) == 30
    page = tmp_path / "deep/page.html"
    assert json.loads(lived.call("report", "calm", "--json", "-o", str(page)).stdout) != {}
    assert page.exists()


def test_equal_runs_are_equal_and_others_are_not(lived: Here) -> None:
    same = lived.call("report", "calm", "--against", "again", "--json")
    assert same.exit_code == 0
    told = json.loads(same.stdout)["story"]["undisturbed"]
    assert (told["weights_identical"], told["curves_identical"], told["detail"]) == (True, True, "")
    other = lived.call("report", "calm", "--against", "other", "--json")
    assert other.exit_code == 1
    told = json.loads(other.stdout)["story"]["undisturbed"]
    assert (told["weights_identical"], told["curves_identical"]) == (False, False)
    assert "weights" in told["detail"]
    assert "loss from step 0 on" in told["detail"]


@pytest.mark.parametrize("words", [("calm", "--against", "failed"), ("failed", "--against", "calm")])
def test_only_runs_that_are_done_are_compared(lived: Here, words: tuple[str, ...]) -> None:
    result = lived.call("report", *words)
    assert result.exit_code == 2
    assert "the run failed is failed" in result.stderr


def test_runs_without_checkpoints_have_a_report_but_cannot_be_compared(small: Here) -> None:
    small.call("launch", "say", "--name", "it", "-y")
    assert small.call("report", "it").exit_code == 0
    result = small.call("report", "it", "--against", "it")
    assert result.exit_code == 2
    assert "no checkpoint" in result.stderr


def test_a_page_that_cannot_be_written_is_said(lived: Here) -> None:
    result = lived.call("report", "calm", "-o", "/proc/page.html")
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


def test_a_run_that_goes_on_has_a_report(small: Here) -> None:
    small.call("launch", "sleepy", "--name", "it", "-y", "--detach")
    small.wait_for("it", lambda state: state.phase == "running")
    assert json.loads(small.call("report", "it", "--json").stdout)["story"]["state"] == "running"


def test_unknown_runs_name_the_nearest(lived: Here) -> None:
    assert "did you mean calm?" in lived.call("report", "calm", "--against", "clam").stderr
