from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace
from tests.cli.conftest import Here

from spotweld.checkpoint import events as told
from spotweld.cli import parts
from spotweld.cli.status import _checkpoint_lines
from spotweld.runs.following import Told
from spotweld.runs.history import progress
from spotweld.store.opening import open_store
from spotweld.testing.stores import Fault, FaultyObjects

if TYPE_CHECKING:
    from pathlib import Path

SUMMARY = {
    "run", "job", "state", "why", "attempts", "interruptions", "machine", "zone", "cost", "cost_is", "opened", "ended",
    "deadline",
}  # fmt: skip
PLACEMENT = {
    "attempt", "zone", "capacity_type", "hourly", "why", "machine", "started", "ended", "cause", "detail", "from_step",
    "from_tier", "from_why", "to_step", "durable_step", "last_save", "steps_lost",
}  # fmt: skip


def test_all_runs_are_listed_newest_first(lived: Here) -> None:
    lines = lived.call("status").stdout.splitlines()
    assert lines[0].split() == ["RUN", "JOB", "STATE", "ATTEMPTS", "INTERRUPTIONS", "COST", "AGE"]
    assert [line.split()[0] for line in lines[1:]] == ["failed", "other", "again", "calm"]
    assert [line.split()[2] for line in lines[1:]] == ["failed", "done", "done", "done"]


def test_json_has_a_stable_shape(lived: Here) -> None:
    listed = json.loads(lived.call("status", "--json").stdout)
    assert all(set(one) == SUMMARY for one in listed)
    one = json.loads(lived.call("status", "calm", "--json").stdout)
    assert set(one) == SUMMARY | {"driven", "placements", "cadence"}
    (placement,) = one["placements"]
    assert set(placement) == PLACEMENT
    assert (placement["cause"], placement["from_step"], placement["to_step"], placement["steps_lost"]) == (
        "done", 0, 30, 0,
    )  # fmt: skip
    assert (placement["from_tier"], placement["from_why"], placement["durable_step"]) == (None, None, 30)
    assert one["cost"]["currency"] == "USD"
    assert one["cost_is"] == "estimate"


def test_one_run_is_told_with_its_attempts(lived: Here) -> None:
    text = lived.call("status", "failed").stdout
    assert "exit status 3" in text
    assert "local/a spot" in text
    assert "0 to 30" in lived.call("status", "calm").stdout


def test_a_run_that_goes_on(small: Here) -> None:
    small.call("launch", "sleepy", "--name", "it", "-y", "--detach")
    small.wait_for("it", lambda state: state.phase == "running")
    one = json.loads(small.call("status", "it", "--json").stdout)
    assert (one["state"], one["driven"], one["zone"], one["ended"]) == ("running", True, "local/a", None)
    assert one["machine"].startswith("m-")


def test_a_run_that_saves_says_how_often_and_why(small: Here) -> None:
    small.call("launch", "train", "--name", "it", "-y", "--detach", "--env", "STEPS=9000", "--env", "NAP=0.02")
    until = time.monotonic() + 60
    while (found := json.loads(small.call("status", "it", "--json").stdout)["cadence"]) is None:
        assert time.monotonic() < until
        time.sleep(0.2)
    assert found["why"].startswith("saving every 10 steps: a save costs ")
    assert (found["attempt"], found["steps"], found["interval"], found["rule"]) == (1, 10, None, "asked")
    assert found["hazard"] == pytest.approx(1.5)  # a new spot machine of which nothing is known
    assert 0 <= found["age"] < 60
    assert "cadence       saving every 10 steps" in small.call("status", "it").stdout


def test_what_is_in_a_tier_is_told_apart_from_what_is_durable() -> None:
    near = told.Saved(3.0, 9, "cadence", 0.1, 0.1, 10, "m", "file:/dev/shm/x")
    carried = told.Carried(4.0, 8, "file:/far", 1.0, "m", published=True)
    restored = told.Restored(2.0, 7, "m", 0.1, (), "file:/dev/shm/x", 5, "the store had step 5")
    for events, expected in (
        ([restored], [("resumed", "step 7 from file:/dev/shm/x (the store had step 5)")]),
        ([near], [("checkpoint", "nothing is durable yet; step 9 is in file:/dev/shm/x, and goes with the machine")]),
        (
            [near, carried],
            [("checkpoint", "step 8 is durable; step 9 is in file:/dev/shm/x, and goes with the machine")],
        ),
        ([near, replace(carried, step=9)], [("checkpoint", "step 9 is durable")]),
        (
            [told.Emergency(5.0, "full", 1.0, 3.0)],
            [("last save", "a last checkpoint of everything (1.0 s needed, 3.0 s left)")],
        ),
        ([told.Emergency(5.0, "none", None, None)], [("last save", "no last checkpoint: the newest one stands")]),
    ):
        history = progress([Told(1, event) for event in [told.Fresh(1.0), *events]])
        assert _checkpoint_lines(history[1]) == expected


def test_no_runs_are_no_error(small: Here) -> None:
    result = small.call("status")
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "spotweld launch" in result.stderr


def test_a_store_that_does_not_answer_hides_only_the_steps(lived: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    down = FaultyObjects(open_store("memory:"), lambda _: Fault.NO_ANSWER)
    monkeypatch.setattr(parts, "open_store", lambda *_, **__: down)
    result = lived.call("status", "calm", "--json")
    assert result.exit_code == 0
    (placement,) = json.loads(result.stdout)["placements"]
    assert (placement["cause"], placement["to_step"]) == ("done", None)
    assert "cannot be told" in result.stderr


def test_an_unknown_run_is_an_error_in_json_too(lived: Here) -> None:
    result = lived.call("status", "clam", "--json")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert json.loads(result.stderr)["error"]["todo"] == "did you mean calm?"


def test_a_project_whose_state_folder_cannot_be_made(tmp_path: Path) -> None:
    here = Here(tmp_path)
    here.state.write_text("as good as a folder that nobody may write to")
    told = json.loads(here.call("status", "--json").stderr)["error"]
    assert (told["code"], told["what"]) == ("SW2005", "the event log cannot be used now")
    assert "unable to make" in told["why"]
