from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from spotweld.runs.events import Outcome

if TYPE_CHECKING:
    from tests.cli.conftest import Here


def test_a_run_that_has_ended_is_told_from_its_beginning(lived: Here) -> None:
    result = lived.call("watch", "calm")
    assert result.exit_code == 0
    assert "run opened" in result.stderr
    assert "run ended: done" in result.stderr
    assert lived.call("watch", "failed", "--progress", "quiet").exit_code == 1


def test_an_unknown_run_names_the_nearest(lived: Here) -> None:
    result = lived.call("watch", "clam")
    assert result.exit_code == 2
    assert "did you mean calm?" in result.stderr


def test_a_project_without_runs_says_how_to_begin(small: Here) -> None:
    for verb in ("watch", "logs", "preempt", "cancel", "report", "rehearse"):
        result = small.call(verb)
        assert result.exit_code == 2
        assert "spotweld launch" in result.stderr


def test_a_run_that_nobody_drives_is_driven_again(small: Here) -> None:
    assert small.call("launch", "train", "--name", "it", "-y", "--detach", "--env", "NAP=0.05").exit_code == 0
    small.wait_for("it", lambda state: state.phase == "running")
    for pid in small.controllers():
        os.kill(pid, signal.SIGKILL)
    small.wait_for("it", lambda _: not small.is_driven("it"))  # a busy machine takes its time to kill
    assert "no controller is at work" in small.call("status", "it").stderr
    assert small.call("watch", "it").exit_code == 0
    assert small.run("it").outcome is Outcome.DONE
