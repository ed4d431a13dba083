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
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.images.builders.rigs import DOCKER, KINDS, Counter, eventually, machine

from spotweld.images.registries.layouts import Layout
from spotweld.providers.local import records
from spotweld.runs.events import Cause, Outcome
from spotweld.values.offers import CapacityType

if TYPE_CHECKING:
    from collections.abc import Callable

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


class Docker:
    """A ``docker`` on PATH, and daemons for it that can be lost with all that they have.

    Args:
        folder: for both.
        stack: ends the daemons.
        count: of the daemons.
    """

    def __init__(self, folder: Path, stack: ExitStack, count: int) -> None:
        self._folder = folder
        (folder / "bin").mkdir(parents=True)
        # Only buildx is there, and its daemons have no network but this machine's.
        lines = ["#!/bin/sh", "shift", "for word; do shift", '[ "$word" != --network=default ] || word=--network=host']
        lines += ['set -- "$@" "$word"', "done", f'exec {DOCKER}/docker-buildx "$@"', ""]
        (folder / "bin/docker").write_text("\n".join(lines))
        (folder / "bin/docker").chmod(0o755)
        self.environ = {"PATH": f"{folder}/bin:{os.environ['PATH']}", "DOCKER_HOST": f"unix://{folder}/socket"}
        # All of them now: a daemon dies with the thread that has started it.
        self._daemons = [
            stack.enter_context(machine("buildkit", folder / f"daemon{number}")) for number in range(count)
        ]
        (folder / "socket").symlink_to(self._daemons[0].folder / "socket")

    def renew(self) -> Callable[[], None]:
        """Have another daemon, which has nothing; gives what ends the one before."""
        before = self._daemons.pop(0)
        (self._folder / "new").symlink_to(self._daemons[0].folder / "socket")
        (self._folder / "new").replace(self._folder / "socket")
        return before.kill


def the_run(here: Here) -> str:
    (name,) = (path.name for path in (here.state / "runs").iterdir())
    return name


@pytest.mark.parametrize("kind", KINDS)
def test_a_build_that_loses_its_machine_three_times_runs_no_finished_instruction_again(
    small: Here, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with Counter() as counter, ExitStack() as stack:
        prepare(small, "\n".join(counter.run(name, f"echo {name} >>/said") for name in NAMES) + "\n")
        docker = Docker(tmp_path_factory.mktemp("docker") / "d", stack, 4) if kind == "buildkit" else None
        small.environ |= docker.environ if docker else {}
        lost: list[str] = []

        def take(call: str) -> bool:
            name = call.removeprefix("begin/")
            if not call.startswith("begin/") or name not in {"two", "four", "five"} or name in lost:
                return True
            lost.append(name)
            run = the_run(small)
            if docker is not None:
                # BuildKit's instructions are sent beside the next ones: this one has ended and is about to be.
                ended = 2 + NAMES.index(name)
                eventually(lambda: len([tag for tag in cached(small) if tag.startswith("key-")]) == ended)
                lose = docker.renew()
            assert small.call("preempt", run, "--notice", "none").exit_code == 0
            if docker is not None:
                lose()
            small.wait_for(run, lambda state: sum(not attempt.open for attempt in state.attempts) == len(lost))
            return False

        counter.hook = take
        process = small.start("build", "--rent", "--builder", kind)
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


def cached(here: Here) -> tuple[str, ...]:
    return Layout(here.state / "images/ephemeral").tags("small/box/cache")


def kill_machines(small: Here) -> int:
    """Kill the supervisors of all machines that are up; how many."""
    kills = 0
    for up in (small.state / "cloud/machines").glob("*/supervisor.json"):
        ended = records.read_machine(up.parent)
        supervisor = records.read(up, records.Supervisor)
        if supervisor is not None and ended is not None and ended.ended is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(supervisor.pid, signal.SIGKILL)
                kills += 1
    return kills


@pytest.mark.parametrize("kind", KINDS)
def test_a_build_whose_machines_are_killed_at_any_moment_comes_to_its_end(
    small: Here, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """BuildKit's daemon is the host's: it outlives the machines."""
    kills = 0
    with Counter() as counter, ExitStack() as stack:
        if kind == "buildkit":
            small.environ |= Docker(tmp_path_factory.mktemp("docker") / "d", stack, 1).environ
        prepare(small, "\n".join(counter.run(name, f"sleep 0.5; echo {name} >>/said") for name in NAMES) + "\n")
        process = small.start("build", "--rent", "--builder", kind)
        for more in (1, 2, 3):
            wanted, until = len(counter.calls) + more, time.monotonic() + 60
            while len(counter.calls) < wanted:
                assert time.monotonic() < until, counter.calls
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
