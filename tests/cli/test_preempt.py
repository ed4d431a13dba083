from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from spotweld.runs.events import Cause, Outcome

if TYPE_CHECKING:
    from tests.cli.conftest import Here


@pytest.mark.parametrize(
    ("notice", "cause", "steps"),
    [("2s", Cause.PREEMPTED, 60), ("none", Cause.PREEMPTED_UNNOTICED, 30)],
    ids=["noticed", "unnoticed"],
)
def test_a_machine_is_taken_and_the_run_goes_on(small: Here, notice: str, cause: Cause, steps: int) -> None:
    small.call("launch", "train", "--name", "it", "-y", "--detach", "--env", "NAP=0.05", "--env", f"STEPS={steps}")
    small.wait_for("it", lambda _: any((small.state / "store/runs/it/manifests").iterdir()))
    result = small.call("preempt", "it", "--notice", notice)
    assert result.exit_code == 0
    assert result.stderr.splitlines()[-1] == "next: spotweld watch it"
    assert small.call("watch", "it", "--progress", "quiet").exit_code == 0
    state = small.run("it")
    assert [attempt.cause for attempt in state.attempts] == [cause, Cause.DONE]
    told = small.call("status", "it").stdout
    assert "interrupted" in told
    assert state.outcome is Outcome.DONE


def test_without_a_machine_there_is_nothing_to_take(lived: Here) -> None:
    result = lived.call("preempt", "calm")
    assert result.exit_code == 2
    assert "it is done" in result.stderr


@pytest.mark.parametrize("notice", ["soon", "-1s", "5", "", "999999999d"])
def test_a_notice_that_is_no_time_is_refused(lived: Here, notice: str) -> None:
    result = lived.call("preempt", "calm", "--notice", notice)
    assert result.exit_code == 2
    assert "--notice" in result.stderr
