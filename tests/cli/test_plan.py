from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Here


def test_a_plan_says_what_would_be_done_and_does_nothing(small: Here) -> None:
    result = small.call("plan", "train", "--name", "mine")
    assert result.exit_code == 2
    for word in ("mine", "python train.py", "2 files", "local/a spot at 1.00 USD/h", str(small.folder)):
        assert word in result.stdout
    assert result.stderr == ""
    assert not small.state.exists()


def test_flags_change_the_plan(small: Here) -> None:
    result = small.call(
        "plan", "train", "--spot-policy", "on-demand", "--env", "A=1=2", "--env", "B=", "--store", "file:/x", "--json"
    )
    assert result.exit_code == 2
    plan = json.loads(result.stdout)["plan"]
    assert plan["job"]["env"] == {"A": "1=2", "B": ""}
    assert plan["first"]["offer"]["capacity_type"] == "on-demand"
    assert plan["store"] == "file:/x"


def test_json_has_a_stable_shape(small: Here, lived: Here) -> None:
    told = json.loads(small.call("plan", "say", "--json").stdout)
    assert set(told) == {"plan", "would_change"}
    assert set(told["plan"]) == {
        "project", "run", "job", "store", "folder", "source", "local", "placement", "first", "image", "hosts", "warm",
    }  # fmt: skip
    result = lived.call("plan", "train", "--name", "calm", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"run": "calm", "phase": "done", "would_change": False}


def test_a_run_that_exists_is_nothing_to_do(lived: Here) -> None:
    result = lived.call("plan", "train", "--name", "calm")
    assert result.exit_code == 0
    assert "nothing to do" in result.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["trian"], "did you mean train?"),
        ([], "which job?"),
        (["train", "--env", "novalue"], "NAME=VALUE"),
        (["train", "--env", "SPOTWELD_RUN_ID=x"], "SPOTWELD_ is ours"),
        (["train", "--env", "A B=x"], "NAME=VALUE"),
        (["train", "--name", "../../etc"], "cannot be a run's name"),
        (["train", "--name", ""], "cannot be a run's name"),
        (["train", "--store", "floppy:x"], "floppy"),
        (["train", "--spot-policy", "cheap"], "spot-policy"),
    ],
)
def test_what_cannot_be_planned_is_said_in_three_lines(small: Here, words: list[str], told: str) -> None:
    result = small.call("plan", *words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert told in result.stderr
    assert len(result.stderr.splitlines()) <= 3


def test_a_folder_that_is_not_there_is_said(small: Here) -> None:
    text = (small.folder / "spotweld.yaml").read_text().replace("say: {", "say: {workdir: gone, ")
    (small.folder / "spotweld.yaml").write_text(text)
    result = small.call("plan", "say")
    assert result.exit_code == 2
    assert "gone" in result.stderr
