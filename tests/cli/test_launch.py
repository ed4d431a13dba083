"""``spotweld launch``: the whole way, from the command line to a machine and back."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest

from spotweld.runs.events import Cause, Outcome

if TYPE_CHECKING:
    from tests.cli.conftest import Here


def test_a_job_is_run_to_its_end(small: Here) -> None:
    result = small.call("launch", "train", "--name", "mine", "-y")
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines[0].startswith("run       mine")
    for told in (
        "run opened: python train.py",
        "renting local/a spot",
        "the machine is up",
        "(final)",
        "run ended: done",
    ):
        assert any(told in line for line in lines), told
    assert lines[-1] == "next: spotweld report mine"
    state = small.run("mine")
    assert state.outcome is Outcome.DONE
    assert len(state.attempts) == 1
    again = small.call("launch", "train", "--name", "mine", "-y")
    assert again.exit_code == 0
    assert "nothing to do" in again.stderr
    assert len(small.run("mine").attempts) == 1


@pytest.mark.parametrize(
    ("job", "status", "outcome", "cause"),
    [
        ("fail", 1, Outcome.FAILED, Cause.FAILED),
        ("unset", 1, Outcome.FAILED, Cause.SETUP_FAILED),
        ("dear", 3, Outcome.BUDGET, Cause.BUDGET),
        ("late", 1, Outcome.TIMED_OUT, Cause.TIMED_OUT),
    ],
)
def test_the_exit_status_says_how_it_ended(small: Here, job: str, status: int, outcome: Outcome, cause: Cause) -> None:
    result = small.call("launch", job, "--name", "it", "-y", "--progress", "quiet")
    assert result.exit_code == status
    assert (small.run("it").outcome, small.run("it").attempts[-1].cause) == (outcome, cause)
    assert "next: spotweld logs it" in result.stderr
    assert small.call("launch", job, "--name", "it", "-y").exit_code == status


def test_every_line_of_rawjson_is_json(small: Here) -> None:
    result = small.call("launch", "say", "--name", "it", "-y", "--progress", "rawjson")
    assert result.exit_code == 0
    told = [json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]
    assert [one["seq"] for one in told] == list(range(1, len(told) + 1))
    kinds = [one["event"]["type"] for one in told]
    assert (kinds[0], kinds[-2], kinds[-1]) == ("opened", "attempt-ended", "ended")


def test_without_a_terminal_somebody_has_to_say_yes(small: Here) -> None:
    process = small.start("launch", "say", "--name", "it")
    _, told = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "-y" in told
    assert "Traceback" not in told
    assert small.call("status", "--json").stdout == "[]\n"


def test_standard_input_may_be_closed(small: Here) -> None:
    process = small.start("launch", "say", stdin=None, preexec_fn=lambda: os.close(0))
    _, told = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "-y" in told
    assert "Traceback" not in told


def test_detached_it_goes_on_and_can_be_watched(small: Here) -> None:
    result = small.call("launch", "train", "--name", "far", "-y", "--detach", "--env", "NAP=0.02")
    assert result.exit_code == 0
    assert result.stdout == "far\n"
    assert small.is_driven("far")
    watched = small.call("watch")
    assert watched.exit_code == 0
    assert "run opened" in watched.stderr
    assert "run ended: done" in watched.stderr


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_leaves_the_run_alone(small: Here, number: signal.Signals, status: int) -> None:
    process = small.start("launch", "sleepy", "--name", "it", "-y")
    small.wait_for("it", lambda state: state.phase == "running")
    assert process.stderr is not None
    while "the machine is up" not in process.stderr.readline():
        pass
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == status
    assert ("goes on without this terminal" in told) == (number is signal.SIGINT)
    assert "Traceback" not in told
    assert small.is_driven("it")
    assert small.run("it").phase == "running"


def test_two_that_launch_the_same_name_at_once_share_one_run(small: Here) -> None:
    both = [small.start("launch", "train", "--name", "one", "-y") for _ in range(2)]
    ends = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert "Traceback" not in str(ends)
    assert len(small.run("one").attempts) == 1
    assert len(list((small.state / "cloud/machines").iterdir())) == 1
    assert (small.state / "runs/one/controller.log").read_text().count(" drives ") == 1


def test_launching_a_run_that_goes_on_follows_it(small: Here) -> None:
    assert small.call("launch", "train", "--name", "it", "-y", "--detach", "--env", "NAP=0.03").exit_code == 0
    result = small.call("launch", "train", "--name", "it")
    assert result.exit_code == 0
    assert "exists and is" in result.stderr
    assert len(small.run("it").attempts) == 1


@pytest.mark.slow
def test_a_controller_that_is_killed_is_replaced_by_whoever_watches(small: Here) -> None:
    process = small.start("launch", "train", "--name", "it", "-y", "--env", "NAP=0.1")
    small.wait_for("it", lambda state: state.phase == "running")
    (controller,) = small.controllers()
    os.kill(controller, signal.SIGKILL)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    state = small.run("it")
    assert (state.outcome, len(state.attempts)) == (Outcome.DONE, 1)


def test_a_store_that_cannot_be_used_is_said_before_anything_begins(small: Here) -> None:
    result = small.call("launch", "say", "-y", "--store", "file:/proc/nowhere")
    assert result.exit_code == 1
    assert "error SW2" in result.stderr
    assert small.call("status", "--json").stdout == "[]\n"


def test_an_event_log_that_is_damaged_is_said(small: Here) -> None:
    small.state.mkdir()
    (small.state / "events.db").write_bytes(b"no database at all" * 100)
    result = small.call("launch", "say", "-y")
    assert result.exit_code == 1
    assert "cannot be used as an event log" in result.stderr


def test_names_with_markup_harm_nothing(small: Here) -> None:
    text = (
        (small.folder / "spotweld.yaml")
        .read_text()
        .replace('say: {command: "', "say: {command: \"true '[x]' '[/bold]'; ")
    )
    (small.folder / "spotweld.yaml").write_text(text)
    result = small.call("launch", "say", "--name", "it", "-y", "--progress", "tty")
    assert result.exit_code == 0
    assert "[x]" in result.stderr
    assert "[/bold]" in result.stderr


def test_several_runs_at_once_do_not_disturb_each_other(lived: Here) -> None:
    for name in ("calm", "again", "other"):
        state = lived.run(name)
        assert (state.outcome, len(state.attempts)) == (Outcome.DONE, 1)
    assert lived.run("failed").outcome is Outcome.FAILED
