from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cli.conftest import Here


def test_what_the_program_wrote_is_on_stdout_and_nothing_else(lived: Here) -> None:
    result = lived.call("logs", "calm")
    assert result.exit_code == 0
    assert result.stdout == "trained with seed 1\n"
    assert result.stderr == "--- attempt 1 ---\n"
    assert lived.call("logs", "failed").stdout == "about to fail\n"


def test_without_a_name_the_newest_run_is_meant(lived: Here) -> None:
    assert lived.call("logs").stdout == "about to fail\n"


def test_one_attempt(lived: Here) -> None:
    result = lived.call("logs", "calm", "--attempt", "1")
    assert (result.stdout, result.stderr) == ("trained with seed 1\n", "")
    for number in ("0", "2", "-1", "x"):
        result = lived.call("logs", "calm", "--attempt", number)
        assert result.exit_code == 2
        assert result.stderr.startswith("error SW1001")


def test_following_goes_on_until_the_end_and_over_attempts(small: Here) -> None:
    code = "echo attempt $SPOTWELD_ATTEMPT; [ $SPOTWELD_ATTEMPT = 1 ] && sleep 300; echo the end"
    text = (small.folder / "spotweld.yaml").read_text().replace("echo ready; sleep 300", code)
    (small.folder / "spotweld.yaml").write_text(text)
    small.call("launch", "sleepy", "--name", "it", "-y", "--detach")
    follower = small.start("logs", "it", "-f")
    assert follower.stdout is not None
    assert follower.stdout.readline() == "attempt 1\n"
    assert small.call("preempt", "it", "--notice", "none").exit_code == 0
    out, told = follower.communicate(timeout=60)
    assert follower.returncode == 0
    assert out == "attempt 2\nthe end\n"
    assert told.splitlines() == ["--- attempt 1 ---", "--- attempt 2 ---"]


def test_an_end_that_is_no_line_is_shown_as_it_is(small: Here) -> None:
    small.call("launch", "say", "--name", "it", "-y")
    assert small.call("logs", "it").stdout == "out\nerr\nno end of line"


def test_a_reader_that_leaves_is_no_error(small: Here) -> None:
    small.call("launch", "sleepy", "--name", "it", "-y", "--detach")
    follower = small.start("logs", "it", "-f", stderr=subprocess.PIPE)
    assert follower.stdout is not None
    assert follower.stdout.readline() == "ready\n"
    follower.stdout.close()
    small.call("preempt", "it", "--notice", "none")
    assert follower.wait(60) == 141
    assert follower.stderr is not None
    assert "Traceback" not in follower.stderr.read()
    follower.stderr.close()
