"""``spotweld build --rent``: real builds on machines that are really killed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections import Counter as Count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.images.builders.rigs import Counter

from spotweld.providers.local import records
from spotweld.runs.events import Cause, Outcome
from spotweld.values.offers import CapacityType

if TYPE_CHECKING:
    from tests.cli.conftest import Here

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

TOP = """\
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
"""
NAMES = ("one", "two", "three", "four", "five")


def prepare(here: Here, dockerfile: str) -> None:
    text = (here.folder / "spotweld.yaml").read_text()
    text = text.replace("jobs:\n", "images: {box: {context: box}}\njobs:\n  inside: {image: box, command: cat /said}\n")
    (here.folder / "spotweld.yaml").write_text(text.replace("interruptions: 100", "interruptions: 3"))
    (here.folder / "box").mkdir()
    shutil.copy(shutil.which("busybox") or "", here.folder / "box/busybox")
    (here.folder / "box/Dockerfile").write_text(TOP + dockerfile)


def the_run(here: Here) -> str:
    (name,) = (path.name for path in (here.state / "runs").iterdir())
    return name


def test_a_build_that_loses_its_machine_three_times_runs_no_finished_instruction_again(small: Here) -> None:
    with Counter() as counter:
        prepare(small, "\n".join(counter.run(name, f"echo {name} >>/said") for name in NAMES) + "\n")
        lost: list[str] = []

        def take(call: str) -> bool:
            name = call.removeprefix("begin/")
            if not call.startswith("begin/") or name not in {"two", "four", "five"} or name in lost:
                return True
            lost.append(name)
            run = the_run(small)
            assert small.call("preempt", run, "--notice", "none").exit_code == 0
            small.wait_for(run, lambda state: sum(not attempt.open for attempt in state.attempts) == len(lost))
            return False

        counter.hook = take
        process = small.start("build", "--rent", "--builder", "buildah")
        stdout, told = process.communicate(timeout=170)
        assert process.returncode == 0, told
    assert lost == ["two", "four", "five"]
    began, ended = (
        Count(call.removeprefix(word) for call in counter.calls if call.startswith(word)) for word in ("begin/", "end/")
    )
    assert began == {"one": 1, "two": 2, "three": 1, "four": 2, "five": 2}
    assert ended == dict.fromkeys(NAMES, 1)
    state = small.run(the_run(small))
    assert [attempt.cause for attempt in state.attempts] == [Cause.PREEMPTED_UNNOTICED] * 3 + [Cause.DONE]
    assert state.attempts[2].offer.capacity_type is CapacityType.SPOT
    assert state.attempts[3].offer.capacity_type is CapacityType.ON_DEMAND
    assert stdout.startswith("box  small/box:")
    assert "box: HIT" in told
    again = small.call("build", "--rent", "--json")
    assert (again.exit_code, "nothing to do" in again.stderr) == (0, True)
    assert json.loads(again.stdout)["images"][0]["digest"] in stdout
    assert not list((small.state / "cloud/machines").glob("*/disk"))
    assert small.call("launch", "inside", "--name", "it", "-y").exit_code == 0
    assert small.call("logs", "it").stdout.split()[-5:] == list(NAMES)


def kill_machines(small: Here) -> int:
    """Kill the supervisors of all machines that are up; how many."""
    kills = 0
    for machine in (small.state / "cloud/machines").glob("*/supervisor.json"):
        ended = records.read_machine(machine.parent)
        supervisor = records.read(machine, records.Supervisor)
        if supervisor is not None and ended is not None and ended.ended is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(supervisor.pid, signal.SIGKILL)
                kills += 1
    return kills


def test_a_build_whose_machines_are_killed_at_any_moment_comes_to_its_end(small: Here) -> None:
    kills = 0
    with Counter() as counter:
        prepare(small, "\n".join(counter.run(name, f"echo {name} >>/said") for name in NAMES) + "\n")
        process = small.start("build", "--rent", "--builder", "buildah")
        for more in (1, 2, 3):
            wanted, until = len(counter.calls) + more, time.monotonic() + 60
            while len(counter.calls) < wanted:
                assert time.monotonic() < until
                time.sleep(0.01)
            kills += kill_machines(small)
        _, told = process.communicate(timeout=150)
        assert process.returncode == 0, told
    # Each kill can cost no more than what was in progress.
    began = Count(call for call in counter.calls if call.startswith("begin/"))
    assert set(began) == {f"begin/{name}" for name in NAMES}
    assert sum(began.values()) <= len(NAMES) + kills
    assert kills == 3
    assert not list((small.state / "cloud/machines").glob("*/disk"))
    assert str(small.folder) not in Path("/proc/self/mountinfo").read_text()


def test_a_build_that_fails_is_not_tried_again_and_its_lines_are_there(small: Here) -> None:
    prepare(small, "RUN echo before; exit 7\n")
    result = small.call("build", "--rent", "--builder", "buildah", "--progress", "plain")
    assert result.exit_code == 1
    state = small.run(the_run(small))
    assert (state.outcome, len(state.attempts)) == (Outcome.FAILED, 1)
    assert "SW6021" in result.stderr
    logs = small.call("logs", the_run(small))
    assert "box: before" in logs.stdout


def test_term_ends_it_at_once_and_nothing_is_left(small: Here) -> None:
    prepare(small, "RUN sleep 600\n")
    process = small.start("build", "--rent", "--builder", "buildah")
    until = time.monotonic() + 60
    while not list((small.state / "runs").glob("*")) or "sleep 600" not in small.call("logs").stdout:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert small.call("cancel", the_run(small), "-y").exit_code == 0
    small.wait_for(the_run(small), lambda state: state.outcome is not None)
    process.communicate(timeout=60)
    assert small.run(the_run(small)).outcome is Outcome.CANCELLED
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(small.folder / ".spotweld/cloud") not in left
    assert not any(str(small.folder) in info.read_text() for info in (Path("/proc/self/mountinfo"),))
