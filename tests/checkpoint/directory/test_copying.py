"""A copy is the directory as it was at one instant, or there is none."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotweld.checkpoint import events
from spotweld.checkpoint.directory import copying
from spotweld.checkpoint.directory.copying import ROUNDS, Copies
from spotweld.checkpoint.directory.scanning import scan
from spotweld.errors import Unsettled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import HandClock, Job
    from spotweld.checkpoint.directory.scanning import Scan
    from spotweld.checkpoint.directory.session import DirectorySession


class Busy:
    """A clock during whose sleeps a program works."""

    def __init__(self, clock: HandClock, *acts: Callable[[], object]) -> None:
        self.clock, self.acts = clock, list(acts)
        self.now, self.monotonic = clock.now, clock.monotonic

    def sleep(self, seconds: float) -> None:
        self.clock.sleep(seconds)
        if self.acts:
            self.acts.pop(0)()


def taken(out: Path, scratch: Path, clock: Busy) -> dict[bytes, bytes]:
    with Copies(bytes(out), scratch) as copies:
        seen = copies.settle(clock)
        found = {}
        for path, mark in seen.files.items():
            data = memoryview(bytearray(mark.size))
            copies.read(path, 0, data)
            found[path] = bytes(data)
        return found


def test_what_changes_during_the_copying_is_copied_again(job: Job, clock: HandClock) -> None:
    (job.out / "a").write_text("1")
    (job.out / "b").write_text("1")

    def go_on() -> None:
        (job.out / "a").write_text("22")
        (job.out / "b.new").write_text("22")
        (job.out / "b.new").rename(job.out / "b")

    assert taken(job.out, job.scratch, Busy(clock, go_on, go_on)) == {b"a": b"22", b"b": b"22"}


def test_a_change_between_two_files_is_never_torn_apart(
    job: Job, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program changes a, then b, in the very moment in which one is copied already and the other is not."""
    for name in ("a", "b"):
        (job.out / name).write_text("old")
    real, done = os.open, []

    def open_and_be_overtaken(path: bytes, *more: int, **dir_fd: int) -> int:
        if str(path).endswith("b'") and not done:
            done.append(path)
            (job.out / "a").write_text("newer")
            (job.out / "b").write_text("newer")
        return real(path, *more, **dir_fd)

    monkeypatch.setattr(os, "open", open_and_be_overtaken)
    assert taken(job.out, job.scratch, Busy(clock)) == {b"a": b"newer", b"b": b"newer"}
    assert done


def test_files_that_come_and_go_and_turn_into_others(job: Job, clock: HandClock) -> None:
    (job.out / "a").write_text("1")

    def a_to_folder() -> None:
        (job.out / "a").unlink()
        (job.out / "a").mkdir()
        (job.out / "a/x").write_text("x")

    def to_pipe() -> None:
        (job.out / "a/x").unlink()
        os.mkfifo(job.out / "a/x")  # to open it for reading would wait for a writer

    def end() -> None:
        (job.out / "a/y").write_text("y")

    assert taken(job.out, job.scratch, Busy(clock, a_to_folder, to_pipe, end)) == {b"a/y": b"y"}


def test_a_program_that_never_stops_writing_is_told_apart_from_one_that_does(job: Job, clock: HandClock) -> None:
    log = job.out / "log"
    log.touch()

    def write() -> None:
        with log.open("a") as file:
            file.write("more\n")

    with pytest.raises(Unsettled, match="log"):
        taken(job.out, job.scratch, Busy(clock, *[write] * ROUNDS))
    assert len(taken(job.out, job.scratch, Busy(clock, *[write] * (ROUNDS - 1)))[b"log"]) == 5 * (2 * ROUNDS - 1)


def test_what_is_copied_in_vain_does_not_fill_the_disk(
    job: Job, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    big, looks = job.out / "big", []

    def scan_after_a_change(root: bytes) -> Scan | None:
        looks.append(root)
        big.write_bytes(b"%02d" % len(looks) * 2**20 * 6)
        return scan(root)

    monkeypatch.setattr(copying, "scan", scan_after_a_change)
    with pytest.raises(Unsettled):
        taken(job.out, job.scratch, Busy(clock))
    assert len(looks) < 6


def test_a_save_that_could_not_be_taken_is_told_and_tried_again_later(job: Job, clock: HandClock) -> None:
    (job.out / "a").write_text("1")
    session = job.session()
    busy = Busy(clock, *[partial((job.out / "a").write_text, "x" * number) for number in range(2, 50)])
    session._clock = busy
    assert not session.save("cadence", None)
    (failed,) = job.events(events.SaveFailed)
    assert "changes all the time" in failed.why
    busy.acts = []
    assert not session.save("cadence", None)  # so soon it is not tried again
    clock.sleep(1.1)
    assert session.save("cadence", None)
    assert session.step == 1


def test_nothing_new_is_not_saved(job: Job) -> None:
    (job.out / "a").write_text("1")
    session = job.session()
    assert session.changed()
    for _ in range(3):
        assert session.save("cadence", None)
    assert session.step == 1
    assert not session.changed()
    (job.out / "a").chmod(0o600)
    assert session.changed()
    assert job.session().changed() is False, "what was restored is saved already"


def test_the_disk_keeps_room_for_the_program(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    (job.out / "a").write_bytes(bytes(range(256)))
    real = os.fstatvfs

    def full(file: int) -> os.statvfs_result:
        fields = list(real(file))
        fields[4] = 0  # f_bavail
        return os.statvfs_result(fields)

    monkeypatch.setattr(os, "fstatvfs", full)
    session = job.session()
    assert not session.save("cadence", None)
    assert "no room" in session.why


@settings(max_examples=60)
@given(
    stretches=st.lists(st.tuples(st.integers(0, 200_000), st.binary(min_size=1, max_size=9000)), max_size=6),
    size=st.integers(0, 250_000),
    start=st.integers(0, 250_000),
    length=st.integers(0, 250_000),
)
def test_any_part_of_a_file_with_holes_reads_as_the_file_does(
    tmp_path_factory: pytest.TempPathFactory,
    new_clock: type[HandClock],
    stretches: list[tuple[int, bytes]],
    size: int,
    start: int,
    length: int,
) -> None:
    folder = tmp_path_factory.mktemp("holes")
    (folder / "out").mkdir()
    path = folder / "out/file"
    with path.open("wb") as file:
        for at, data in stretches:
            file.seek(at)
            file.write(data)
        file.truncate(size)
    with Copies(bytes(folder / "out"), folder) as copies:
        copies.settle(new_clock())
        into = memoryview(bytearray(b"\xaa" * length))
        copies.read(b"file", start, into)
    whole = path.read_bytes()[start : start + length]
    assert bytes(into) == whole + bytes(length - len(whole))


class Counted(tuple[Any, ...]):  # noqa: SLOT001 - it has to count
    """Counts how many of its items are looked at."""

    looks = 0

    def __getitem__(self, at: Any) -> Any:  # noqa: ANN401
        self.looks += 1
        return super().__getitem__(at)


def test_a_part_of_a_file_with_many_holes_costs_no_look_at_the_others(tmp_path: Path, clock: HandClock) -> None:
    (tmp_path / "out").mkdir()
    path = tmp_path / "out/file"
    with path.open("wb") as file:
        for number in range(1000):
            file.seek(number * 2**16)
            file.write(bytes([number % 255 + 1]))
    with Copies(bytes(tmp_path / "out"), tmp_path) as copies:
        copies.settle(clock)
        mark, pieces = copies._copied[b"file"]
        counted = Counted(pieces)
        copies._copied[b"file"] = mark, counted
        into = memoryview(bytearray(2**16))
        copies.read(b"file", 700 * 2**16, into)
    assert into[0] == 700 % 255 + 1
    assert counted.looks < 20


def test_a_directory_that_is_not_there_has_no_scan(tmp_path: Path) -> None:
    assert scan(bytes(tmp_path / "none")) is None
    (tmp_path / "file").touch()
    assert scan(bytes(tmp_path / "file")) is None


def test_a_large_file_that_has_not_changed_is_not_read_again(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []
    copy = Copies._copy
    monkeypatch.setattr(Copies, "_copy", lambda self, path, mark: (read.append(path), copy(self, path, mark))[1])

    def save(session: DirectorySession, *, finished: bool = False) -> list[bytes]:
        read.clear()
        assert session.save("cadence", None, finished=finished), session.why
        return read

    (job.out / "large").write_bytes(os.urandom(5_000_000))
    (job.out / "twin").hardlink_to(job.out / "large")
    (job.out / "growing").write_bytes(os.urandom(5_000_000))
    (job.out / "small").write_bytes(b"1")
    session = job.session()
    assert save(session) == [b"growing", b"large", b"small"]
    with (job.out / "growing").open("ab") as file:
        file.write(b"more")
    assert save(session) == [b"growing", b"small"]
    before = job.content()
    job.lose()
    session = job.session()
    assert job.content() == before
    (job.out / "small").write_bytes(b"22")
    assert save(session) == [b"small"]
    assert save(session, finished=True) == [b"growing", b"large", b"small"], "at the end no mark is trusted"
    before = job.content()
    job.lose()
    job.session()
    assert job.content() == before


def test_a_small_file_that_has_not_changed_does_not_hide_its_neighbour(job: Job) -> None:
    """Together they fill no more blocks than the first one alone, in a chunk that is large enough to be shared."""
    (job.out / "first").write_bytes(os.urandom(260_000))
    (job.out / "second").write_text("1")
    session = job.session()
    assert session.save("cadence", None)
    (job.out / "second").write_text("2")
    assert session.save("cadence", None)
    job.lose()
    assert job.session().step == 2
    assert (job.out / "second").read_text() == "2"
