from __future__ import annotations

from typing import TYPE_CHECKING

from spotweld.runs.events import Cause, Outcome

if TYPE_CHECKING:
    from tests.cli.conftest import Here


def test_a_run_is_stopped_for_good_and_its_checkpoints_stay(small: Here) -> None:
    small.call("launch", "train", "--name", "it", "-y", "--detach", "--env", "NAP=0.05")
    small.wait_for("it", lambda _: any((small.state / "store/runs/it/manifests").iterdir()))
    result = small.call("cancel", "it", "-y")
    assert result.exit_code == 0
    assert result.stderr.splitlines()[-1] == "next: spotweld status it"
    state = small.wait_for("it", lambda state: state.outcome is not None)
    assert (state.outcome, state.attempts[-1].cause) == (Outcome.CANCELLED, Cause.CANCELLED)
    assert any((small.state / "store/runs/it/manifests").iterdir())
    assert small.call("watch", "it", "--progress", "quiet").exit_code == 130
    assert "nothing to do" in small.call("cancel", "it", "-y").stderr


def test_a_run_whose_controller_is_gone_is_stopped_all_the_same(small: Here) -> None:
    import os
    import signal

    small.call("launch", "sleepy", "--name", "it", "-y", "--detach")
    small.wait_for("it", lambda state: state.phase == "running")
    for pid in small.controllers():
        os.kill(pid, signal.SIGKILL)
    small.wait_for("it", lambda _: not small.is_driven("it"))  # a busy machine takes its time to kill
    assert small.call("cancel", "it", "-y").exit_code == 0
    assert small.wait_for("it", lambda state: state.outcome is not None).outcome is Outcome.CANCELLED


def test_somebody_has_to_say_yes(lived: Here, small: Here) -> None:
    assert lived.call("cancel", "calm").exit_code == 0
    small.call("launch", "sleepy", "--name", "it", "-y", "--detach")
    result = small.call("cancel", "it")
    assert result.exit_code == 2
    assert "-y" in result.stderr
    assert small.run("it").cancel_requested is False
