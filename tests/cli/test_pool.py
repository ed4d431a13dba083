"""``spotweld pool``, with machines that are processes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from spotweld.providers.opening import open_provider
from spotweld.providers.provider import MachineState
from spotweld.runs.events import Cause, Outcome
from spotweld.runs.pools.drive import pools_path
from spotweld.runs.pools.log import PoolLog

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from tests.cli.conftest import Here

    from spotweld.runs.pools.states import PoolState

POOLS = """\
  kept:
    setup: "test -z $BAD || exit 4; echo prepared; cp input.txt prepared.txt"
    command: "cat prepared.txt; echo $SPOTWELD_RUN_ID $SPOTWELD_ATTEMPT"
    retry: {failures: 0}
  long: {command: "echo begun; sleep 300"}
  bare: {command: "cat input.txt"}
pools:
  warm: {job: kept, machines: 1}
  two: {job: bare, machines: 2, spare: 1}
  asleep: {job: long, machines: 1}
"""
pytestmark = pytest.mark.slow


@pytest.fixture
def pooled(small: Here) -> Here:
    file = small.folder / "spotweld.yaml"
    text = file.read_text().replace("placement:", POOLS + "placement:")
    file.write_text(text)
    (small.folder / "input.txt").write_text("first\n")
    return small


def state_of(here: Here, name: str) -> PoolState:
    log = PoolLog(pools_path(here.state))
    try:
        return log.state(name)
    finally:
        log.close()


def until(what: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever it gives
    end = time.monotonic() + 60
    while True:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if found := what():
                return found
        assert time.monotonic() < end, "it did not come so far"
        time.sleep(0.05)


def listed(here: Here) -> dict[str, dict[str, Any]]:
    return {row["pool"]: row for row in json.loads(here.call("pool", "ls", "--json").stdout)}


def alive(here: Here) -> list[str]:
    machines = open_provider(here.state, here.local).machines({})
    return [machine.id for machine in machines if machine.state is not MachineState.ENDED]


def status_of(process: subprocess.Popen[str]) -> int:
    process.communicate(timeout=90)
    return process.returncode


def keepers(here: Here) -> list[int]:
    found = here._marked()
    return [pid for pid in found if b"spotweld.runs.pools.drive" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_up_ls_launch_down(pooled: Here) -> None:
    assert "no pool was ever up" in pooled.call("pool", "ls").stderr
    up = pooled.call("pool", "up", "warm", "-y")
    assert up.exit_code == 0, up.output
    assert "is ready after" in up.stderr
    again = pooled.call("pool", "up", "warm", "-y")
    assert (again.exit_code, "nothing to do" in again.stderr) == (0, True)
    # The first is on-demand, until the keeper has seen how soon another would be ready.
    until(lambda: [row["capacity_type"] for row in listed(pooled)["warm"]["machines"]] == ["spot"])
    row = listed(pooled)["warm"]
    assert (row["state"], row["kept"], row["ready"], row["wanted"]) == ("ready", True, 1, 1)
    assert row["hourly"] == {"amount": "1", "currency": "USD"}
    plan = pooled.call("plan", "kept")
    assert f"pool      warm: takes {row['machines'][0]['machine']}" in plan.stdout
    launched = pooled.call("launch", "kept", "--name", "r", "-y")
    assert launched.exit_code == 0, launched.output
    assert "from pool warm: local/a spot" in launched.stderr
    assert pooled.call("logs", "r").stdout == "prepared\nfirst\nr 1\n", "set up once, and with the run's own name"
    run = pooled.run("r")
    assert run.attempts[0].machine == row["machines"][0]["machine"]
    until(lambda: state_of(pooled, "warm").phase == "ready")
    assert pooled.call("launch", "kept", "--name", "other", "-y", "--env", "X=1").exit_code == 0
    assert pooled.run("other").attempts[0].drawn is None, "its set-up would have seen another variable"
    (pooled.folder / "input.txt").write_text("second\n")
    assert "pool " not in pooled.call("plan", "kept").stdout
    assert pooled.call("launch", "kept", "--name", "s", "-y").exit_code == 0
    assert pooled.run("s").attempts[0].drawn is None
    assert pooled.call("logs", "s").stdout == "prepared\nsecond\ns 1\n"
    both = [pooled.start("pool", "down", "warm") for _ in range(2)]
    assert [status_of(process) for process in both] == [0, 0]
    assert alive(pooled) == []
    assert listed(pooled)["warm"]["state"] == "down"
    assert pooled.call("pool", "down", "warm").exit_code == 0
    until(lambda: not keepers(pooled))


def test_without_a_set_up_the_runs_own_files_are_laid_out(pooled: Here) -> None:
    assert pooled.call("pool", "up", "two", "-y").exit_code == 0
    (pooled.folder / "input.txt").write_text("newer\n")
    runs = [pooled.start("launch", "bare", "--name", f"r{n}", "-y") for n in range(4)]
    assert [status_of(process) for process in runs] == [0] * 4
    states = [pooled.run(f"r{n}") for n in range(4)]
    assert {pooled.call("logs", state.run).stdout for state in states} == {"newer\n"}
    assert sum(attempt.drawn is not None for state in states for attempt in state.attempts) >= 2
    had = [attempt.machine for state in states for attempt in state.attempts if attempt.machine]
    assert len(had) == len(set(had)), "no two runs had one machine"


def test_a_set_up_that_fails_is_told(pooled: Here) -> None:
    file = pooled.folder / "spotweld.yaml"
    file.write_text(file.read_text().replace("  kept:\n", "  kept:\n    env: {BAD: x}\n"))
    up = pooled.call("pool", "up", "warm", "-y")
    assert up.exit_code == 1
    assert "could not be prepared" in up.stderr
    assert "exit status 4" in up.stderr
    assert listed(pooled)["warm"]["state"] == "filling"


def test_a_keeper_that_is_killed_again_and_again(pooled: Here) -> None:
    """SIGKILL at random moments of filling up and going down: the next one goes on, and nothing is left."""
    for nap in (0.05, 0.2, 0.35, 0.5, 0.8):
        assert pooled.call("pool", "up", "two", "-y", "--detach").exit_code == 0
        time.sleep(nap)
        for pid in keepers(pooled):
            os.kill(pid, signal.SIGKILL)
    assert pooled.call("pool", "up", "two", "-y").exit_code == 0
    until(lambda: len(state_of(pooled, "two").waiting) >= 2 and len(alive(pooled)) <= 3)
    for nap in (0.0, 0.1, 0.3):
        pooled.call("pool", "down", "two", "--detach")
        time.sleep(nap)
        for pid in keepers(pooled):
            os.kill(pid, signal.SIGKILL)
    assert pooled.call("pool", "down", "two").exit_code == 0
    assert alive(pooled) == []
    known = {member.machine for member in state_of(pooled, "two").members if member.machine}
    assert {machine.id for machine in open_provider(pooled.state, pooled.local).machines({})} == known


@pytest.mark.parametrize("notice", ["0s", "3s", "none"])
def test_a_machine_that_is_taken_while_it_waits(pooled: Here, notice: str) -> None:
    assert pooled.call("pool", "up", "warm", "-y").exit_code == 0
    (member,) = until(lambda: state_of(pooled, "warm").waiting)
    seconds = None if notice == "none" else float(notice[:-1])
    open_provider(pooled.state, pooled.local).interrupt(member.machine, notice=seconds)
    gone = until(lambda: next((m for m in state_of(pooled, "warm").members if m.token == member.token and m.ended), 0))
    assert gone.closed == "interrupted"
    until(lambda: state_of(pooled, "warm").waiting)
    assert pooled.call("launch", "kept", "--name", "r", "-y").exit_code == 0
    (attempt,) = pooled.run("r").attempts
    assert attempt.cause is Cause.DONE
    assert attempt.drawn is not None
    assert attempt.machine != member.machine


def test_machines_that_are_taken_right_when_runs_take_them(pooled: Here) -> None:
    assert pooled.call("pool", "up", "warm", "-y").exit_code == 0
    for number, nap in enumerate((0.0, 0.1, 0.2, 0.3, 0.4, 0.5)):
        (member, *_) = until(lambda: state_of(pooled, "warm").waiting)
        run = pooled.start("launch", "kept", "--name", f"r{number}", "-y")
        time.sleep(nap)
        with contextlib.suppress(Exception):
            open_provider(pooled.state, pooled.local).interrupt(member.machine, notice=0.2)
        assert status_of(run) == 0
        state = pooled.run(f"r{number}")
        assert state.outcome is Outcome.DONE
        assert not any(attempt.cause is not None and attempt.cause.failure for attempt in state.attempts)
        assert pooled.call("logs", f"r{number}").stdout.endswith(f"first\nr{number} {len(state.attempts)}\n")


def test_a_controller_that_is_killed_while_it_takes_a_machine(pooled: Here) -> None:
    assert pooled.call("pool", "up", "two", "-y").exit_code == 0
    for number, nap in enumerate((0.05, 0.15, 0.25, 0.3, 0.35, 0.45)):
        until(lambda: len(state_of(pooled, "two").waiting) >= 2)
        name = f"r{number}"
        assert pooled.call("launch", "bare", "--name", name, "-y", "--detach").exit_code == 0
        time.sleep(nap)
        for pid in pooled.controllers():
            os.kill(pid, signal.SIGKILL)
        assert pooled.call("watch", name).exit_code == 0
        (attempt,) = pooled.run(name).attempts
        assert attempt.drawn is not None
    assert pooled.call("pool", "down", "two").exit_code == 0
    assert alive(pooled) == []


def test_a_run_whose_pool_goes_down_goes_on_and_teardown_takes_pools_down(pooled: Here) -> None:
    assert pooled.call("pool", "up", "asleep", "-y").exit_code == 0
    assert pooled.call("launch", "long", "--name", "r", "-y", "--detach").exit_code == 0
    pooled.wait_for("r", lambda state: state.attempts[0].running)
    assert pooled.run("r").attempts[0].drawn is not None
    assert pooled.call("pool", "down", "asleep").exit_code == 0
    assert pooled.run("r").current is not None
    assert len(alive(pooled)) == 1
    refused = pooled.call("teardown", "-y")
    assert refused.exit_code == 2
    assert "the run r" in refused.stderr
    assert len(alive(pooled)) == 1
    assert pooled.call("pool", "up", "asleep", "-y").exit_code == 0
    dry = pooled.call("teardown", "--dry-run")
    assert "pool asleep" in dry.stdout
    assert pooled.call("teardown", "-y", "--cancel-runs").exit_code == 0
    assert alive(pooled) == []
    assert listed(pooled)["asleep"]["state"] == "down"
    assert pooled.run("r").outcome is Outcome.CANCELLED
    assert "nothing to do" in pooled.call("teardown", "-y").stderr


def test_a_teardown_of_nothing_but_pools_ends_them(pooled: Here) -> None:
    assert pooled.call("pool", "up", "warm", "-y").exit_code == 0
    done = pooled.call("teardown", "-y", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["going"]["pools"], told["left"]) == (["warm"], [])
    assert alive(pooled) == []


def test_names_and_files_that_are_wrong(pooled: Here) -> None:
    assert "did you mean warm?" in pooled.call("pool", "up", "warn", "-y").stderr
    assert pooled.call("pool", "down", "warm").exit_code == 2
    file = pooled.folder / "spotweld.yaml"
    file.write_text(re.sub(r"pools:\n(  \w+: .*\n)+", "", file.read_text()))
    none = pooled.call("pool", "up", "-y")
    assert none.exit_code == 2
    assert "has no pools" in none.stderr
