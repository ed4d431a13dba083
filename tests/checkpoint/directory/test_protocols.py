"""The two ways in which a program says when its directory is consistent."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from spotweld.checkpoint import events
from spotweld.checkpoint.directory import copying, protocol, scanning, session
from spotweld.checkpoint.directory.copying import Copies
from spotweld.checkpoint.directory.protocol import ready_now
from spotweld.checkpoint.directory.scanning import mark_of
from spotweld.values.clocks import SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import HandClock, Job
    from spotweld.checkpoint.directory.scanning import Mark, Scan
    from spotweld.values.clocks import Clock


def test_only_a_renewed_marker_lets_a_snapshot_be_taken(job: Job) -> None:
    session, place = job.session(ready="out/READY"), job.place()
    (job.out / "a").write_text("1")
    assert not session.changed()
    assert session.save("cadence", place)
    assert session.step == 0
    (job.out / "READY").touch()
    assert session.changed()
    assert session.save("cadence", place)
    assert session.step == 1
    (job.out / "a").write_text("half")
    assert not session.changed()
    assert session.save("cadence", place)
    assert session.step == 1
    (job.out / "READY").unlink()
    (job.out / "a").write_text("whole")
    assert session.save("cadence", place)
    assert session.step == 1
    (job.out / "READY").write_text("again")
    assert session.save("cadence", place)
    assert session.step == 2
    job.lose()
    job.session(ready="out/READY")
    assert (job.out / "a").read_text() == "whole"


def test_a_marker_that_is_renewed_while_the_directory_is_copied_does_not_count(job: Job) -> None:
    session = job.session(ready="READY*")
    (job.out / "a").write_text("1")
    (job.work / "READY.1").touch()
    slept = job.clock.sleep
    job.clock.sleep = lambda seconds: (slept(seconds), (job.work / "READY.2").touch())[0]  # type: ignore[method-assign]
    assert not session.save("cadence", job.place())
    assert "changed" in session.why
    job.clock.sleep = slept  # type: ignore[method-assign]
    assert session.save("cadence", job.place(), urgent=True)
    assert session.step == 1


def test_the_end_of_the_program_needs_no_marker(job: Job) -> None:
    session = job.session(ready="out/READY")
    (job.out / "a").write_text("1")
    assert session.save("emergency", None)
    assert session.step == 0, "what an interrupted program left is not ready"
    assert session.save("final", None, finished=True)
    assert (session.step, session.finished) == (1, True)
    assert job.session().finished


def test_markers_may_be_a_pattern_and_anywhere_in_the_jobs_folder(job: Job) -> None:
    assert ready_now(job.work, "out/*.ok") == frozenset()
    (job.out / "1.ok").touch()
    one = ready_now(job.work, "out/*.ok")
    (job.out / ".hidden.ok").touch()
    (job.out / "dangling.ok").symlink_to("nowhere")
    both = ready_now(job.work, "out/*.ok")
    assert (len(one), len(both)) == (1, 2)
    os.utime(job.out / "1.ok", ns=(5, 5))
    assert ready_now(job.work, "out/*.ok") not in {one, both}


def test_quiesce_and_resume_frame_the_copying(job: Job) -> None:
    (job.out / "a").write_text("1")
    commands = {
        "quiesce": "echo quiesced $SPOTWELD_GROUP; echo still > out/a",
        "resume": "echo resumed; echo 2 > out/b",
    }
    session, place = job.session(**commands), job.place()
    assert session.save("cadence", place)
    assert place.console.read_text() == f"quiesced {place.group}\nresumed\n"
    (saved,) = job.events(events.Saved)
    assert 0 <= saved.stall <= saved.seconds
    job.lose()
    job.session()
    assert {path.name: path.read_text() for path in job.out.iterdir()} == {"a": "still\n"}


def test_two_changes_within_a_tick_of_the_kernels_clock_are_told_apart(
    job: Job, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They leave the same mark, as kernels before 6.13 do it, so what was copied between them must not be kept."""
    path, program, stamp = job.out / "a", job.session(quiesce="true"), [0]
    look, copy = session.scan, Copies.copy

    def write(data: bytes) -> None:
        path.write_bytes(data)
        stamp[0] = int(clock.monotonic() / 0.01)

    def coarse(status: os.stat_result) -> Mark:
        return replace(mark_of(status), mtime_ns=stamp[0], ctime_ns=stamp[0])

    def write_and_look(root: bytes) -> Scan | None:
        write(b"one")
        return look(root)

    def copy_and_write(copies: Copies, seen: Scan) -> None:
        monkeypatch.setattr(Copies, "copy", copy)
        copies.copy(seen)
        write(b"two")

    for module in (scanning, copying):
        monkeypatch.setattr(module, "mark_of", coarse)
    monkeypatch.setattr(session, "scan", write_and_look)
    monkeypatch.setattr(Copies, "copy", copy_and_write)
    assert program.save("cadence", job.place())
    monkeypatch.undo()
    job.lose()
    job.session()
    assert path.read_bytes() == b"two"


@pytest.mark.parametrize(("quiesce", "why"), [("exit 3", "exit status 3"), ("exec sleep 60", "did not end within")])
def test_a_quiesce_that_fails_is_undone_and_nothing_is_saved(
    job: Job, monkeypatch: pytest.MonkeyPatch, quiesce: str, why: str
) -> None:
    monkeypatch.setattr(protocol, "PATIENCE", 0.2)
    (job.out / "a").write_text("1")
    session, place = job.session(quiesce=quiesce, resume="echo resumed"), job.place()
    assert not session.save("cadence", place)
    assert why in session.why
    assert place.console.read_text() == "resumed\n"
    assert session.step == 0


def test_a_resume_that_fails_is_told(job: Job, caplog: pytest.LogCaptureFixture) -> None:
    (job.out / "a").write_text("1")
    session = job.session(quiesce="true", resume="exit 4")
    assert session.save("cadence", job.place())
    assert session.step == 1
    assert "may be standing still" in caplog.text


def test_a_program_that_has_ended_is_not_quiesced(job: Job) -> None:
    (job.out / "a").write_text("1")
    session = job.session(quiesce="exit 1", resume="exit 1")
    assert session.save("final", None, finished=True)
    assert session.step == 1


class WhileItRuns:
    """A clock in whose every sleep a program writes to its log, unless it has been stopped."""

    def __init__(self, clock: Clock, pid: int, log: Path) -> None:
        self.now, self.monotonic = clock.now, clock.monotonic
        self._clock, self._pid, self._log = clock, pid, log

    def sleep(self, seconds: float) -> None:
        self._clock.sleep(seconds)
        time.sleep(0.005)  # the kernel stops a process a moment later
        if state_of(self._pid) != "T":
            with self._log.open("a") as log:
                log.write("a line\n")


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


STOP = {"quiesce": 'kill -STOP "-$SPOTWELD_GROUP"', "resume": 'kill -CONT "-$SPOTWELD_GROUP"'}


@pytest.mark.parametrize("policy", [{}, STOP], ids=["by itself", "by command"])
def test_a_program_that_writes_without_pause_is_stopped_for_the_copying(
    job: Job, sleeper: subprocess.Popen[bytes], policy: dict[str, str]
) -> None:
    session = job.session(**policy)
    (job.out / "log").touch()
    session._clock = WhileItRuns(job.clock, sleeper.pid, job.out / "log")
    assert session.save("cadence", replace(job.place(), group=sleeper.pid)), session.why
    while state_of(sleeper.pid) != "S":  # it goes on
        assert sleeper.poll() is None
    (saved,) = job.events(events.Saved)
    assert saved.stall > 0
    before = job.content()
    job.lose()
    job.session()
    assert job.content() == before


def test_a_program_that_is_not_to_be_stopped_is_not(
    job: Job, sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "killpg")
    session = job.session(quiesce="true")
    (job.out / "log").touch()
    session._clock = WhileItRuns(job.clock, sleeper.pid, job.out / "log")
    assert not session.save("cadence", replace(job.place(), group=sleeper.pid))
    assert "changes all the time" in session.why
    assert job.events(events.Saved) == []


def test_a_program_at_full_speed_is_saved_as_it_was_at_one_instant(job: Job) -> None:
    script = "while :; do n=$((n + 1)); echo $n >> out/log; echo $n > out/n.new; mv out/n.new out/n; done"
    process = subprocess.Popen(["/bin/sh", "-c", script], cwd=job.work, start_new_session=True)
    try:
        while not (job.out / "n").exists():
            assert process.poll() is None
        job.clock = SystemClock()
        session = job.session()
        assert session.save("cadence", replace(job.place(), group=process.pid)), session.why
        size = (job.out / "log").stat().st_size
        while (job.out / "log").stat().st_size == size:
            assert process.poll() is None
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    job.lose()
    job.session()
    last = int((job.out / "log").read_text().splitlines()[-1])
    assert int((job.out / "n").read_text()) in {last, last - 1}
