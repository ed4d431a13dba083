from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from spotweld.runs.events import Cause, Outcome

if TYPE_CHECKING:
    from tests.cli.conftest import Here


def test_a_run_survives_a_kill_and_ends_with_the_same_bits(small: Here) -> None:
    small.call("launch", "train", "--name", "calm", "-y", "--detach", "--env", "STEPS=60")
    small.call("launch", "train", "--name", "storm", "-y", "--detach", "--env", "STEPS=60", "--env", "NAP=0.05")
    result = small.call("rehearse", "storm", "--drill", "kill")
    assert result.exit_code == 0, result.output
    assert "drill kill hit attempt 1" in result.stderr
    assert result.stderr.splitlines()[-1] == "1 of 1 drills hit"
    state = small.run("storm")
    assert [attempt.cause for attempt in state.attempts] == [Cause.PREEMPTED_UNNOTICED, Cause.DONE]
    compared = small.call("report", "storm", "--against", "calm")
    assert compared.exit_code == 0, compared.output


@pytest.mark.slow
def test_a_run_that_ends_too_soon_is_told(small: Here) -> None:
    small.call("launch", "train", "--name", "it", "-y", "--detach", "--env", "NAP=0.05")
    result = small.call("rehearse", "it", *["--drill", "kill"] * 8)
    assert result.exit_code == 1
    assert "of 8 drills hit" in result.stderr
    assert small.run("it").outcome is Outcome.DONE


def test_a_run_that_has_ended_cannot_be_rehearsed(lived: Here) -> None:
    result = lived.call("rehearse", "calm")
    assert result.exit_code == 2
    assert "has ended" in result.stderr


def test_an_interrupt_is_130_here_too(small: Here) -> None:
    small.call("launch", "sleepy", "--name", "it", "-y", "--detach")
    process = small.start("rehearse", "it")
    assert process.stderr is not None
    while "the machine is up" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "0 of 5 drills hit" in told
    assert "Traceback" not in told


@pytest.mark.slow
def test_all_five_drills_leave_the_bits_as_they_are(small: Here) -> None:
    steps = ("--env", "STEPS=400")
    small.call("launch", "train", "--name", "calm", "-y", "--detach", *steps)
    small.call("launch", "train", "--name", "storm", "-y", "--detach", *steps, "--env", "NAP=0.06")
    result = small.call("rehearse", "storm")
    assert result.exit_code == 0, result.output
    assert "5 of 5 drills hit" in result.stderr
    assert "passed over" in result.stderr
    assert small.call("report", "storm", "--against", "calm").exit_code == 0
