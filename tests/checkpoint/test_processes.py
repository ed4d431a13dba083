"""Whole processes, killed in every way: what comes after is bit for bit what would have come without."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from spotweld.checkpoint import events
from spotweld.checkpoint.events import parse_event
from spotweld.preemption.files import clear_notice, write_notice
from spotweld.preemption.notices import Kind, Notice
from spotweld.store.heads import read_head
from spotweld.store.opening import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = Path(__file__).parent / "programs"
CALLS = "write,fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,pwritev,pwritev2,fcntl"


def program(name: str) -> Any:  # noqa: ANN401
    """The program as a module, to run it in this process where nobody kills it."""
    spec = importlib.util.spec_from_file_location(name, PROGRAMS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Machine:
    """A folder with a store and an events file, and processes that use both."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"file:{folder}/store"
        self.told = folder / "events.jsonl"
        self.notice = folder / "notice.json"
        self.environ = {
            **os.environ,
            "SPOTWELD_STORE": self.url,
            "SPOTWELD_EVENTS_FILE": str(self.told),
            "SPOTWELD_NOTICE_FILE": str(self.notice),
        }

    def start(self, name: str, *args: object, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        self.told.unlink(missing_ok=True)
        command = [*before, sys.executable, str(PROGRAMS / f"{name}.py"), *map(str, args)]
        return subprocess.Popen(
            command, env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def run(self, name: str, *args: object, before: tuple[str, ...] = ()) -> tuple[int, str]:
        with self.start(name, *args, before=before) as process:
            try:
                out, err = process.communicate(timeout=120)
            finally:
                process.kill()
        return process.returncode, out if process.returncode == 0 else out + err

    @property
    def events(self) -> list[Any]:
        found = []
        for line in self.told.read_bytes().splitlines() if self.told.exists() else ():
            with contextlib.suppress(ValueError):  # a line that a kill cut short
                found.append(parse_event(line))
        return found

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def wait_for(self, kind: type) -> Any:  # noqa: ANN401
        for _ in range(3000):
            if found := self.of(kind):
                return found[0]
            time.sleep(0.01)
        raise AssertionError(f"no {kind.__name__} among {self.events}")

    def published(self) -> list[int]:
        head = read_head(open_store(self.url, verify=False), "default")
        return [kept.step for kept in head.kept] if head else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """What ``walk`` comes to after so many steps if nobody disturbs it."""
    walk = program("walk")
    return {
        total: walk.train(total, 1000, store=f"file:{tmp_path_factory.mktemp('undisturbed')}/store")
        for total in (12, 60, 2000)
    }


@pytest.fixture
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_one_thread")
def test_a_killed_pytorch_training_resumes_bit_for_bit(machine: Machine) -> None:
    mlp = program("mlp")
    wanted = mlp.train(60, 1000, store=f"{machine.url}-undisturbed")
    for kill_at in sorted(random.Random(5).sample(range(5, 58), 2)):
        assert machine.run("mlp", 60, 4, kill_at)[0] == -signal.SIGKILL
    assert machine.of(events.Restored)[0].step > 0
    assert mlp.train(60, 4, store=machine.url) == wanted


@pytest.mark.slow
@pytest.mark.parametrize("every", ["auto", "3"])
def test_a_pytorch_training_killed_many_times_resumes_bit_for_bit(machine: Machine, every: str) -> None:
    wanted = machine.run("mlp", 300, 1000, -1)[1]
    shutil.rmtree(machine.folder / "store")
    kills = 0
    for kill_at in sorted(random.Random(every).sample(range(5, 298), 12)):
        status, _ = machine.run("mlp", 300, every, kill_at)
        kills += status == -signal.SIGKILL
    assert machine.run("mlp", 300, every, -1) == (0, wanted)
    assert kills == 12


def test_killed_while_it_saves_without_a_pause(machine: Machine, undisturbed: dict[int, str]) -> None:
    """A save after every step: wherever the kill comes, one is most probably running."""
    for seed in range(3):
        process = machine.start("walk", 2000, 1, 0.001)
        machine.wait_for(events.Saved)
        time.sleep(random.Random(seed).random() * 0.2)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    assert machine.run("walk", 2000, 100, 0) == (0, undisturbed[2000])


def calls_of(machine: Machine, *args: object) -> list[tuple[str, int]]:
    """The writing system calls of the program's main thread in order, each with its number among its like."""
    log = machine.folder / "strace.log"
    before = ("strace", "-f", "--seccomp-bpf", "-o", str(log), "-e", f"trace={CALLS}")
    status, out = machine.run("walk", *args, before=before)
    assert status == 0, out
    found: list[tuple[str, int]] = []
    main = log.read_text().split(maxsplit=1)[0]
    for line in log.read_text().splitlines():
        if named := re.match(rf"{main} +(\w+)\(", line):
            found.append((named[1], 1 + sum(name == named[1] for name, _ in found)))
    return found


def signalled(call: tuple[str, int], sign: str = "KILL", log: Path | None = None) -> tuple[str, ...]:
    """The way to start a program that gets a signal when it enters this system call."""
    inject = f"inject={call[0]}:signal={sign}:when={call[1]}"
    return ("strace", "-f", "-qq", "--seccomp-bpf", "-o", str(log or "/dev/null"), "-e", inject)


def stops(process: subprocess.Popen[str], log: Path) -> bool:
    """Wait until the program has been stopped; False if it came to its end without."""
    # A traced process looks stopped at each of its system calls, so only the tracer knows.
    for _ in range(6000):
        if log.exists() and "stopped by SIGSTOP" in log.read_text():
            return True
        if process.poll() is not None:
            return False
        time.sleep(0.01)
    raise AssertionError(log.read_text()[-2000:])


def kill_matrix(machine: Machine, wanted: str, points: int) -> int:
    """Kill a fresh run at so many points, each time once more in the resume, and look at what comes of it."""
    args = (12, 2, 0, "same-thread")
    calls = calls_of(machine, *args)
    kills = 0
    for point in range(points):
        shutil.rmtree(machine.folder / "store", ignore_errors=True)
        first = calls[point * len(calls) // points]
        assert machine.run("walk", *args, before=signalled(first))[0] == -signal.SIGKILL
        published = max((event.step for event in machine.of(events.Saved)), default=0)
        # The resume begins to write anew: its kill comes at another call, from taking over to the sweeps.
        second = calls[(point * 7 + 3) % (len(calls) // 2)]
        kills += 1 + (machine.run("walk", *args, before=signalled(second))[0] == -signal.SIGKILL)
        steps = [event.step for event in machine.of(events.Restored)]
        assert all(step >= published for step in steps), "a published checkpoint was lost"
        published = max([published, *(event.step for event in machine.of(events.Saved))])
        assert machine.run("walk", *args) == (0, wanted), f"killed at {first} and {second}"
        assert published == 0 or machine.of(events.Restored)[0].step >= published, "a published checkpoint was lost"
    return kills


def test_killed_at_system_calls_all_over_a_run(machine: Machine, undisturbed: dict[int, str]) -> None:
    assert kill_matrix(machine, undisturbed[12], 3) > 3


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_a_hundred_system_calls(
    machine: Machine, undisturbed: dict[int, str], capsys: pytest.CaptureFixture[str]
) -> None:
    kills = kill_matrix(machine, undisturbed[12], 100)
    with capsys.disabled():
        print(f"\n{kills} kills at system calls of 200 runs: every resume bit-identical, nothing published was lost")  # noqa: T201
    assert kills > 150


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every object; a writer's own scratch files (``.~``) are none."""
    files = [path for path in folder.rglob("*") if path.is_file() and "/.~" not in str(path.relative_to(folder.parent))]
    return {str(path): path.read_bytes() for path in files}


def test_a_zombie_wakes_up_and_changes_nothing(machine: Machine, undisturbed: dict[int, str]) -> None:
    process = machine.start("walk", 2000, 2, 0.002)
    machine.wait_for(events.Saved)
    os.kill(process.pid, signal.SIGSTOP)
    walk = program("walk")
    assert walk.train(2000, 500, store=machine.url) == undisturbed[2000]
    before = snapshot(machine.folder / "store")
    os.kill(process.pid, signal.SIGCONT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert machine.of(events.Fenced)
    after = snapshot(machine.folder / "store")
    assert {path: after.get(path) for path in before} == before
    assert machine.published()[0] == 2000
    assert walk.train(2000, 500, store=machine.url) == undisturbed[2000]


@pytest.mark.slow
def test_a_zombie_stopped_at_any_system_call_changes_nothing(machine: Machine, undisturbed: dict[int, str]) -> None:
    args = (12, 2, 0, "same-thread")
    calls = calls_of(machine, *args)
    walk, log, zombies = program("walk"), machine.folder / "stop.log", 0
    for point in range(12):
        shutil.rmtree(machine.folder / "store", ignore_errors=True)
        log.unlink(missing_ok=True)
        call = calls[len(calls) // 4 + point * len(calls) // 20]
        process = machine.start("walk", *args, before=signalled(call, "STOP", log))
        if not stops(process, log):
            process.communicate(timeout=60)
            continue
        zombies += 1
        pid = machine.wait_for(events.Start).pid
        assert walk.train(60, 5, store=machine.url) == undisturbed[60]
        before = snapshot(machine.folder / "store")
        os.kill(pid, signal.SIGCONT)
        process.communicate(timeout=60)
        assert process.returncode == 75
        after = snapshot(machine.folder / "store")
        assert {path: after.get(path) for path in before} == before
        assert walk.train(60, 5, store=machine.url) == undisturbed[60]
    assert zombies >= 8


def test_a_notice_file_leads_to_a_last_save_and_exit_75(machine: Machine, undisturbed: dict[int, str]) -> None:
    process = machine.start("walk", 2000, 10, 0.005)
    machine.wait_for(events.Saved)
    now = time.time()
    write_notice(machine.notice, Notice("n", Kind.TERMINATE, "file", now + 1.5, now))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert "is durable" in err
    (emergency,) = machine.of(events.Emergency)
    assert emergency.decision == "full"
    step = machine.of(events.Leaving)[0].step
    assert machine.published()[0] == step
    clear_notice(machine.notice)
    assert machine.run("walk", 2000, 500, 0) == (0, undisturbed[2000])
    assert machine.of(events.Restored)[0].step == step


def test_a_notice_that_is_withdrawn_stops_nobody(machine: Machine, undisturbed: dict[int, str]) -> None:
    process = machine.start("walk", 60, 10, 0.03)
    machine.wait_for(events.Fresh)
    now = time.time()
    write_notice(machine.notice, Notice("n", Kind.TERMINATE, "file", now + 600, now))
    machine.wait_for(events.Noticed)
    clear_notice(machine.notice)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, undisturbed[60])
    assert machine.of(events.Withdrawn)


def test_sigterm_saves_and_exits_75(machine: Machine, undisturbed: dict[int, str]) -> None:
    process = machine.start("walk", 2000, 1000, 0.005)
    machine.wait_for(events.Step)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert machine.published() == [machine.of(events.Leaving)[0].step]
    assert machine.run("walk", 2000, 500, 0) == (0, undisturbed[2000])


def test_a_second_sigterm_while_it_shuts_down_changes_nothing(machine: Machine) -> None:
    late = "import atexit, os, signal, runpy, sys; atexit.register(lambda: os.kill(os.getpid(), signal.SIGTERM))"
    walk = (
        f"sys.argv = ['walk', '2000', '1000', '0.005']; runpy.run_path({str(PROGRAMS / 'walk.py')!r}, None, '__main__')"
    )
    process = subprocess.Popen([sys.executable, "-c", f"{late}; {walk}"], env=machine.environ, start_new_session=True)
    machine.wait_for(events.Step)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 75


def test_a_full_disk_stops_nobody(machine: Machine) -> None:
    """A real one: a tmpfs of 1 MiB in a mount namespace of its own, filled up until the second half of the run."""
    store = machine.folder / "store"
    store.mkdir()
    script = (
        f"mount -t tmpfs -o size=1m none {store} && head -c 1000000 /dev/zero > {store}/filler; "
        f"(while ! grep -q save_failed {machine.told} 2>/dev/null; do sleep 0.05; done; rm {store}/filler) & "
        f'"$@"; status=$?; wait; cp -r {store} {machine.folder}/copy; exit $status'
    )
    status, out = machine.run("walk", 200, 2, 0.01, before=("unshare", "--mount", "sh", "-c", script, "sh"))
    assert status == 0, out
    failed = machine.of(events.SaveFailed)
    assert "No space left on device" in failed[0].why
    assert machine.of(events.Saved)[-1].step == 200
    assert isinstance(machine.events[-1], events.Finished)


def test_the_engine_imports_quickly_and_without_anything_heavy() -> None:
    code = (
        "import sys, spotweld; from spotweld import Checkpointer\n"
        "heavy = {'torch', 'numpy', 'click', 'rich', 'ruamel', 'obstore', 'boto3', 'asyncio', 'http.client'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
