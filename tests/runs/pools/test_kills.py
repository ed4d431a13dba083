"""SIGKILL to the keeper, and to a controller that takes a machine, at system calls: nothing is forgotten or doubled."""

from __future__ import annotations

import fcntl
import os
import secrets
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from tests.runs.killing import LOCAL, MARK, Point, kill_marked, strace

from spotweld.placement.cheapest import CheapestSpot
from spotweld.project.nouns import Job, PlacementRules, Pool
from spotweld.providers.local.cloud import LocalCloud
from spotweld.providers.provider import MachineState
from spotweld.runs.controller import Controller
from spotweld.runs.drive import log_path
from spotweld.runs.events import Opened, Outcome
from spotweld.runs.log import EventLog
from spotweld.runs.pools.drive import ensure_kept, pools_path
from spotweld.runs.pools.events import Wanted
from spotweld.runs.pools.log import PoolLog
from spotweld.runs.pools.members import member_prefix, read_claim, recipe_of
from spotweld.runs.pools.opening import take_down
from spotweld.runs.source import freeze, scan
from spotweld.store.opening import open_store
from spotweld.values.clocks import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("marked")]
RULES = PlacementRules(interruptions=100, avoid=0.0, back_off=0.2)


class Place:
    """A project with one pool."""

    def __init__(self, folder: Path, machines: int) -> None:
        self.state, self.url = folder / "state", f"file:{folder / 'store'}"
        work = folder / "work"
        work.mkdir(parents=True)
        self.state.mkdir()
        (work / "input.txt").write_text("here\n")
        self.objects = open_store(self.url)
        self.source = scan(work)
        freeze(work, self.source, self.objects)
        self.job = Job("job", "cat input.txt", workdir=work)
        self.log, self.runs = PoolLog(pools_path(self.state)), EventLog(log_path(self.state))
        recipe = recipe_of(self.job, self.url, self.source.key, None)
        self.wanted = Wanted("project", Pool("warm", "job", machines=machines), recipe, LOCAL, RULES)
        self.log.want(self.wanted)

    def cloud(self) -> LocalCloud:
        return LocalCloud(self.state / "cloud", LOCAL)

    def keeper(self, point: Point) -> subprocess.Popen[bytes]:
        """A keeper as a process that is killed at the point."""
        folder = self.state / "pools" / "warm"
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(lock, fcntl.LOCK_EX)
        arguments = [sys.executable, "-m", "spotweld.runs.pools.drive", str(self.state), "warm", str(lock)]
        try:
            return subprocess.Popen(
                [*strace(point), *arguments], pass_fds=[lock], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        finally:
            os.close(lock)

    def run(self, name: str) -> None:
        opened = Opened("project", self.job, self.url, self.source.key, LOCAL, RULES)
        self.runs.open_run(name, opened)

    def drive(self, name: str) -> None:
        policy = CheapestSpot.of(RULES)
        Controller(name, self.runs, self.objects, self.cloud(), policy, SystemClock(), lambda _: None).drive()

    def await_ready(self) -> None:
        until(lambda: self.log.state("warm").phase == "ready")

    def check_down(self) -> None:
        """Every machine is in the log and has ended; each claim says what the log says."""
        assert take_down(self.log, self.state, ["warm"], SystemClock(), 60.0) == []
        members = self.log.state("warm").members
        machines = self.cloud().machines({})
        assert all(machine.state is MachineState.ENDED for machine in machines)
        known = [member.machine for member in members if member.machine]
        assert sorted(machine.id for machine in machines if "pool" in machine.labels) == sorted(known)
        for member in members:
            found = read_claim(self.objects, member_prefix("project", member.token))
            assert found is not None
            assert bool(found.run) == (member.taken is not None)


def until(what: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end, "it did not come so far"
        time.sleep(0.02)


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    mark = secrets.token_hex(8)
    monkeypatch.setenv(MARK, mark)
    yield
    kill_marked(mark)


def points(**calls: int) -> list[Point]:
    return [Point(call, number) for call, most in calls.items() for number in range(1, most + 1)]


@pytest.mark.timeout(1200)
def test_the_keeper_killed_at_its_system_calls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def one(point: Point) -> bool:
        place = Place(tmp_path / str(point), machines=2)
        process = place.keeper(point)
        until(lambda: process.poll() is not None or len(place.log.state("warm").waiting) >= 2)
        place.log.request_down("warm")
        if process.poll() is None:
            # Now killed on the way down, or not at all.
            until(lambda: process.poll() is not None)
        place.check_down()
        place.log.want(place.wanted)
        ensure_kept(place.state, "warm")
        place.await_ready()
        place.check_down()
        return process.returncode != 0

    tried = points(fsync=16, fdatasync=4, pwrite64=20, rename=8, link=5, write=6)
    with ThreadPoolExecutor(2) as pool:
        killed = sum(pool.map(one, tried))
    with capsys.disabled():
        print(f"\nthe keeper was killed at {killed} of {len(tried)} points")  # noqa: T201
    assert killed > 25


@pytest.mark.timeout(1200)
def test_the_controller_killed_at_its_system_calls_finds_its_machine_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Place(tmp_path, machines=1)
    ensure_kept(place.state, "warm")
    killed = 0
    tried = points(fsync=14, fdatasync=4, pwrite64=14, rename=4, link=3)
    for point in tried:
        place.await_ready()
        place.run(str(point))
        command = [*strace(point), sys.executable, "-m", "spotweld.runs.drive", str(place.state), str(point), ""]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        killed += process.wait(60) != 0
        place.drive(str(point))
        run = place.runs.state(str(point))
        assert run.outcome is Outcome.DONE
        (attempt,) = run.attempts
        assert attempt.drawn is not None
        assert attempt.machine == attempt.drawn.machine
    with capsys.disabled():
        print(f"\nthe controller was killed at {killed} of {len(tried)} points")  # noqa: T201
    had = [place.runs.state(str(point)).attempts[0].machine for point in tried]
    assert len(had) == len(set(had))
    assert killed > 15
    place.check_down()
