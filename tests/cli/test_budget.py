"""``spotweld budget``, with machines that are processes."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest
from tests.runs.receivers import Hook, serving

from spotweld.runs.drive import log_path
from spotweld.runs.events import Outcome, StopAsked
from spotweld.runs.log import EventLog
from spotweld.store.heads import read_head
from spotweld.store.opening import open_store

if TYPE_CHECKING:
    from click.testing import Result
    from tests.cli.conftest import Here

BUDGET = "budgets: {all: {amount: 0.012 USD, stop: 100%, at_most: 2, every: 2s}}\n"
LINE = (
    "  %s: {command: python train.py, checkpoint: {every: 10 steps}, priority: %d, "
    "env: {STEPS: '90000', NAP: '0.05'}}\n"
)
RUNS = {"low-1": "low", "low-2": "low", "mid-1": "mid", "mid-2": "mid", "high-1": "high"}
pytestmark = pytest.mark.slow


def budgeted(here: Here) -> None:
    file = here.folder / "spotweld.yaml"
    jobs = "".join(LINE % job for job in (("low", 0), ("mid", 1), ("high", 2)))
    jobs = jobs.replace("priority: 2", "priority: 2, protected: true")
    file.write_text(file.read_text().replace("placement:", jobs + BUDGET + "placement:"))


def test_a_project_without_budgets_has_none(small: Here) -> None:
    assert json.loads(small.call("budget", "ls", "--json").stdout) == []
    assert small.call("budget", "check").exit_code == 0
    assert "nothing to do" in small.call("budget", "enforce").output


def test_the_drill_the_least_important_stop_first_each_with_a_checkpoint(small: Here) -> None:
    budgeted(small)
    for name, job in RUNS.items():
        assert small.call("launch", job, "--name", name, "-y", "--detach").exit_code == 0
    end, killed, rounds = time.monotonic() + 120, 0, []
    while any(small.run(name).outcome is None for name in RUNS if name != "high-1"):
        assert time.monotonic() < end, "the runs were not stopped"
        found = json.loads(small.call("budget", "enforce", "--json").stdout)
        rounds += found
        if found:
            # In the middle of an enforcement, all those who would carry it out die.
            for pid in small.controllers():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
        time.sleep(0.2)
    log = EventLog(log_path(small.state))
    asked = {name: [e.event for e in log.entries(name) if isinstance(e.event, StopAsked)] for name in RUNS}
    log.close()
    assert {name: [one.round for one in events] for name, events in asked.items()} == {
        "low-1": [1],
        "low-2": [1],
        "mid-1": [2],
        "mid-2": [2],
        "high-1": [],
    }
    for name in RUNS:
        state = small.run(name)
        objects = open_store(state.store, verify=False)
        assert read_head(objects, name) is not None, name
        assert state.outcome is (None if name == "high-1" else Outcome.BUDGET)
    stands = json.loads(small.call("budget", "ls", "--json").stdout)[0]
    sys.stdout.write(f"\nrounds {rounds}; {killed} controllers killed; spent {stands['spent']} of {stands['amount']}\n")
    assert small.call("budget", "check").exit_code == 3


def watched(here: Here) -> None:
    file = here.folder / "spotweld.yaml"
    budget = "budgets: {all: {amount: 0.0001 USD, alerts: [1%], notify: [{webhook: HOOK}]}}\n"
    file.write_text(file.read_text().replace("placement:", budget + "placement:"))


def test_a_controller_tells_at_the_end_of_its_run_and_nobody_tells_again(
    small: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched(small)
    with serving(Hook()) as hook:
        monkeypatch.setenv("HOOK", f"{hook.url}/hush-hush")
        monkeypatch.setenv("no_proxy", "*")
        assert small.call("launch", "train", "--name", "r", "-y").exit_code == 0
        end = time.monotonic() + 60
        while not hook.got or small.controllers():
            assert time.monotonic() < end, "nobody was told"
            time.sleep(0.1)
        done = small.call("budget", "check")
        assert done.exit_code == 0
        assert "was told" not in done.stderr
        assert [(body["budget"], body["project"]) for _, _, body in hook.got] == [("all", "small")]
    files = [file for file in small.state.rglob("*") if file.is_file()]
    assert files
    assert not [file for file in files if b"hush" in file.read_bytes()]


def test_a_test_alert_says_what_became_of_it(small: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    watched(small)
    monkeypatch.setenv("no_proxy", "*")
    with serving(Hook()) as hook:
        done = small.call("budget", "test", "all")
        assert (done.exit_code, "HOOK is not set here" in done.stderr) == (1, True)
        monkeypatch.setenv("HOOK", hook.url)
        done = small.call("budget", "test", "all")
        assert (done.exit_code, done.stderr) == (0, "all: webhook HOOK was told\n")
        hook.status = 500
        done = small.call("budget", "test", "all", "--json")
        assert done.exit_code == 1
        assert json.loads(done.stdout)[0]["trouble"] == "it answered 500"
        assert [body["period"] for _, _, body in hook.got] == ["test", "test"]
    assert "did you mean all?" in small.call("budget", "test", "al").output


def test_a_message_of_the_cloud_stops_one_round(small: Here) -> None:
    file = small.folder / "spotweld.yaml"
    budgets = "budgets: {all: {amount: 100 USD, stop: 100%}, told: {amount: 1 USD}}\n"
    file.write_text(file.read_text().replace("placement:", budgets + "placement:"))
    assert small.call("launch", "sleepy", "--name", "r", "-y", "--detach").exit_code == 0
    said = {"costAmount": 5.5, "budgetAmount": 5.5, "currencyCode": "USD", "costIntervalStart": "2026-11-01T08:00:00Z"}
    message = small.folder / "message.json"

    def deliver(name: str) -> Result:
        data = base64.b64encode(json.dumps(said | {"budgetDisplayName": name}).encode()).decode()
        message.write_text(json.dumps({"message": {"data": data, "messageId": "1"}, "subscription": "s"}))
        return small.call("budget", "enforce", "--message", str(message), "--json")

    assert json.loads(deliver("all").stdout) == [{"budget": "all", "number": 1, "runs": ["r"]}]
    assert json.loads(deliver("all").stdout) == []
    assert "stops no runs" in deliver("told").output
    done = deliver("al")
    assert (done.exit_code, "did you mean all?" in done.output) == (2, True)
    message.write_text("{}")
    assert "no budget alert of Google Cloud" in small.call("budget", "enforce", "--message", str(message)).output
    end = time.monotonic() + 60
    while small.run("r").outcome is None:
        assert time.monotonic() < end, "the run was not stopped"
        time.sleep(0.1)
    assert small.run("r").outcome is Outcome.BUDGET
