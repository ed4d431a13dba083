"""What is saved comes back: every kind of file, every name, on a machine that has nothing of it."""

from __future__ import annotations

import hashlib
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from spotweld.checkpoint import events
from spotweld.checkpoint.directory.engine import publish
from spotweld.checkpoint.publishing import Publisher
from spotweld.checkpoint.staging import Staging
from spotweld.errors import CheckpointError, StateMismatch
from spotweld.store.heads import take_over

if TYPE_CHECKING:
    from conftest import Job

PIECE = 4 * 2**20
"""Bytes that the engine stores anew at most when one of them changes."""


def again(job: Job) -> None:
    """Save, lose the machine, restore, and see that all is as it was."""
    before = job.content()
    session = job.session()
    assert session.save("final", None)
    assert job.events(events.Saved), job.events(events.SaveFailed)
    job.lose()
    restored = job.session()
    assert restored.step == session.step
    assert job.content() == before


def test_files_folders_links_modes_and_times(job: Job) -> None:
    out = job.out
    (out / "a/b/c").mkdir(parents=True)
    (out / "empty").mkdir(mode=0o750)
    (out / "a/one.txt").write_text("one")
    (out / "a/nothing").touch()
    (out / "a/b/run.sh").write_text("#!/bin/sh\n")
    (out / "a/b/run.sh").chmod(0o755)
    (out / "a/b/secret").write_text("s")
    (out / "a/b/secret").chmod(0o400)
    os.utime(out / "a/one.txt", ns=(1, 1_234_567_890_123_456_789))
    os.utime(out / "a/nothing", ns=(1, -5))
    (out / "latest").symlink_to("a/one.txt")
    (out / "a/b/up").symlink_to("../../empty")
    (out / "dangling").symlink_to("not/there")
    (out / "twin").hardlink_to(out / "a/one.txt")
    (out / "a/b").chmod(0o500)
    out.chmod(0o711)
    again(job)
    assert (job.out / "twin").samefile(job.out / "a/one.txt")


def test_names_of_any_bytes(job: Job) -> None:
    for name in (
        b"\xff\xfe",
        b"caf\xe9",
        "café".encode(),
        b"100%",
        b"%41",
        b"A",
        b"back\\slash",
        b"new\nline",
        b"-rf",
        b"\x01",
    ):
        with open(os.path.join(bytes(job.out), name), "wb") as file:
            file.write(name)
        os.symlink(name, os.path.join(bytes(job.out), b"to " + name))
    again(job)


def test_an_empty_directory(job: Job) -> None:
    again(job)


def test_what_is_saved_replaces_what_the_frozen_files_brought(job: Job) -> None:
    (job.out / "mine").write_text("mine")
    job.session().save("final", None)
    job.lose()
    job.out.mkdir()
    (job.out / "input").write_text("laid out")
    job.session()
    assert [path.name for path in job.out.iterdir()] == ["mine"]
    assert [path.name for path in job.work.iterdir()] == ["out"]


def test_special_files_and_links_that_lead_out_are_left_out_and_told_once(
    job: Job, caplog: pytest.LogCaptureFixture
) -> None:
    os.mkfifo(job.out / "pipe")
    (job.out / "etc").symlink_to("/etc")
    (job.out / "above").symlink_to("../secret")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(job.out / "s"))
    (job.out / "file").write_text("1")
    session = job.session()
    assert session.save("final", None)
    (job.out / "file").write_text("22")
    assert session.save("final", None)
    assert session.step == 2
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 4
    for words in ("pipe is not saved: it is a named pipe", "s is not saved: it is a socket", "etc", "above"):
        assert any(words in line for line in told)
    job.lose()
    job.session()
    assert [path.name for path in job.out.iterdir()] == ["file"]


def test_a_large_file_with_holes(job: Job) -> None:
    with (job.out / "sparse").open("wb") as file:
        file.truncate(100_000_000)
        for at in (0, 5_000_000, 70_123_457):
            file.seek(at)
            file.write(b"data at %d" % at)
    (job.out / "hole").touch()
    os.truncate(job.out / "hole", 3_000_000)
    session = job.session()
    assert session.save("final", None)
    job.lose()
    job.session()
    assert (job.out / "hole").stat().st_size == 3_000_000
    status = (job.out / "sparse").stat()
    assert status.st_size == 100_000_000
    assert status.st_blocks * 512 < 2_000_000
    with (job.out / "sparse").open("rb") as file:
        for at in (0, 5_000_000, 70_123_457):
            file.seek(at)
            assert file.read(20).rstrip(b"\0") == b"data at %d" % at
    assert (job.out / "hole").read_bytes() == bytes(3_000_000)


def test_the_stores_bytes_come_once_however_small_the_files(job: Job) -> None:
    for number in range(300):
        (job.out / f"{number}").write_bytes(b"%d" % number * number)
    again(job)


def test_a_checkpoint_of_something_else_is_refused(job: Job) -> None:
    writer = take_over(job.store, "r", 0)
    publisher = Publisher(job.store, "r", writer, job.clock, keep_last=1, keep_every=0)
    publish(publisher, 7, {"dict": [["model", 5]]}, [], Staging(), job.clock)
    with pytest.raises(StateMismatch, match="not one of a directory"):
        job.session()


def test_two_names_that_a_file_system_takes_for_one_are_refused(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    (job.out / "a").write_text("1")
    (job.out / "A").write_text("2")
    job.session().save("final", None)
    job.lose()
    real = os.open

    def folded(path: Any) -> Any:  # noqa: ANN401
        return path.lower() if isinstance(path, bytes) else path

    monkeypatch.setattr(os, "open", lambda path, *more, **dir_fd: real(folded(path), *more, **dir_fd))
    with pytest.raises(CheckpointError, match="takes two names for one"):
        job.session()
    monkeypatch.undo()
    assert list(job.work.iterdir()) == []


def stored(job: Job) -> int:
    """Bytes of all packs of the run."""
    return sum(meta.size for meta in job.store.list("runs/r/packs/"))


def test_one_changed_byte_of_a_large_file_costs_one_piece_of_it(job: Job) -> None:
    with (job.out / "large").open("wb") as file:
        for block in range(64):
            file.write(hashlib.shake_128(b"%d" % block).digest(2**20))
    (job.out / "other").write_bytes(bytes(range(256)) * 4096 * 20)
    session = job.session(keep_last=5)
    assert session.save("cadence", None)
    before = stored(job)
    with (job.out / "large").open("r+b") as file:
        file.seek(33_333_333)
        file.write(b"!")
    assert session.save("cadence", None)
    assert session.step == 2
    assert stored(job) - before <= PIECE
    job.lose()
    session = job.session(keep_last=5)
    before = stored(job)
    (job.out / "new").write_text("new")
    assert session.save("cadence", None)
    assert stored(job) - before < 2**16, "what was restored is not stored again"


@pytest.mark.parametrize("folders", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_a_hundred_small_files_in_every_folder(job: Job, folders: int) -> None:
    for folder in range(folders):
        (job.out / f"{folder:02}").mkdir()
        for number in range(100):
            (job.out / f"{folder:02}/{number:02}").write_bytes(b"%d %d" % (folder, number) * 8)
    again(job)
    session = job.session()
    (job.out / "02/50").write_text("another")
    assert session.save("final", None)
    assert session.step == 2
