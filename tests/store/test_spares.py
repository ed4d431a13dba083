"""Files that are written over: nothing is seen of them, and nothing is left of them."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from spotweld.errors import NotFound, Unavailable
from spotweld.store import local, spares
from spotweld.store.local import LocalObjects
from spotweld.store.spares import LARGE

if TYPE_CHECKING:
    from pathlib import Path


def content(number: int, size: int = LARGE) -> bytes:
    return bytes([number]) * size


def inodes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in folder.iterdir()}


def test_a_deleted_file_is_written_over(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path)
    objects.create("a/1", content(1))
    before = inodes(tmp_path / "a")["1"]
    objects.delete("a/1")
    with pytest.raises(NotFound):
        objects.get("a/1")
    assert list(objects.list("")) == []
    objects.create("a/2", content(2, LARGE + 5000))
    assert inodes(tmp_path / "a") == {"2": before}
    assert objects.get("a/2") == content(2, LARGE + 5000)


def test_what_is_deleted_and_written_over_while_it_is_read_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes would be another object's, and look like damage."""
    objects, preadv = LocalObjects(tmp_path), os.preadv
    objects.create("1", content(1))

    def late(handle: int, *more: Any) -> int:  # noqa: ANN401
        monkeypatch.undo()
        objects.delete("1")
        objects.create("2", content(2))
        return preadv(handle, *more)

    monkeypatch.setattr(os, "preadv", late)
    with pytest.raises(NotFound):
        objects.read_into("1", 0, memoryview(bytearray(100)))


def test_a_shorter_one_leaves_nothing_of_the_longer(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path)
    objects.create("1", content(1, LARGE + 12345))
    objects.delete("1")
    objects.create("2", content(2, LARGE + 1))
    assert objects.get("2") == content(2, LARGE + 1)


def test_no_more_are_kept_than_were_needed(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path)
    for number in range(3):
        objects.create(f"a/{number}", content(number))
    for number in range(3):
        objects.delete(f"a/{number}")
    assert len(inodes(tmp_path / "a")) == 3
    objects.create("a/3", content(3))
    objects.delete("a/3")
    assert len(inodes(tmp_path / "a")) == 2


def test_a_file_with_a_second_name_is_somebodys_copy(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path)
    objects.create("1", content(1))
    (tmp_path / "copy").hardlink_to(tmp_path / "1")
    objects.delete("1")
    objects.create("2", content(2))
    assert (tmp_path / "copy").read_bytes() == content(1)


def test_small_files_are_just_deleted(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path)
    objects.create("1", content(1, LARGE - 1))
    objects.delete("1")
    assert inodes(tmp_path) == {}


def test_a_store_that_is_let_go_leaves_no_spares(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path)
    objects.create("1", content(1))
    objects.delete("1")
    assert len(inodes(tmp_path)) == 1
    del objects
    gc.collect()
    assert inodes(tmp_path) == {}


def test_the_spares_of_a_killed_process_are_gone_with_the_next_one(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path)
    objects.create("1", content(1))
    objects.delete("1")
    mine = set(inodes(tmp_path))
    code = (
        "import os, sys; from pathlib import Path; from spotweld.store.local import LocalObjects\n"
        f"objects = LocalObjects(Path(sys.argv[1])); data = bytes({LARGE})\n"
        "objects.create('2', data); objects.delete('2'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert len(inodes(tmp_path)) == 2
    LocalObjects(tmp_path).create("3", b"x")
    assert set(inodes(tmp_path)) == {*mine, "3"}


def test_spares_make_room_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = LocalObjects(tmp_path)
    objects.create("1", content(1))
    objects.delete("1")
    write_new = local.write_new

    def full(path: Path, data: bytes) -> None:
        if len(inodes(tmp_path)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_new(path, data)

    monkeypatch.setattr(local, "write_new", full)
    objects.create("2", b"small")
    assert objects.get("2") == b"small"
    with pytest.raises(Unavailable, match="ENOSPC"):
        objects.create("3", b"small")


def test_a_spare_that_is_too_small_on_a_full_disk_gets_the_room_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = LocalObjects(tmp_path)
    for number in range(3):
        objects.create(str(number), content(number))
    for number in range(3):
        objects.delete(str(number))

    def full(_handle: int, _data: bytes) -> None:
        assert len(inodes(tmp_path)) == 3, "the room of all is still taken"
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(spares, "write_over", full)
    objects.create("large", content(7, 3 * LARGE))
    assert objects.get("large") == content(7, 3 * LARGE)
    assert set(inodes(tmp_path)) == {"large"}


def test_a_write_over_a_spare_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = LocalObjects(tmp_path)
    objects.create("1", content(1))
    objects.delete("1")
    fsync = os.fsync

    def broken(handle: int) -> None:
        if os.fstat(handle).st_size >= LARGE:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(Unavailable, match="EIO"):
        objects.create("2", content(2))
    monkeypatch.undo()
    assert inodes(tmp_path) == {}
    objects.create("2", content(2))
    assert objects.get("2") == content(2)
