import errno
import os
import resource
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spotweld.errors import Conflict, Corrupt, NotFound, StoreRefused, Unavailable, UsageError
from spotweld.store import files
from spotweld.store.files import sweep
from spotweld.store.local import LocalObjects
from spotweld.store.objects import Version
from spotweld.store.opening import open_store


@pytest.fixture
def objects(tmp_path: Path) -> LocalObjects:
    return LocalObjects(tmp_path / "store")


def names(folder: Path) -> set[str]:
    """All files below a folder, whatever they are."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def replaced(objects: LocalObjects, times: int) -> str:
    objects.create("k", b"0")
    for turn in range(1, times + 1):
        objects.replace("k", str(turn).encode(), objects.read("k")[1])
    return objects.read("k")[1]


def test_nothing_is_made_before_the_first_write(objects: LocalObjects) -> None:
    assert list(objects.list("")) == []
    with pytest.raises(NotFound):
        objects.get("k")
    objects.delete("k")
    assert not objects.root.exists()


def test_a_relative_folder_is_the_one_it_was_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    objects = LocalObjects(Path("x/../store"))
    monkeypatch.chdir("/")
    objects.create("k", b"")
    assert names(tmp_path) == {"store/k"}
    assert objects.url == f"file:{tmp_path}/store"


def test_its_url_opens_it_again(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path / "odd 100%41 ü?#name")
    objects.create("k", b"content")
    assert open_store(objects.url, verify=False).get("k") == b"content"


def test_many_replacements_leave_two_files_beside_the_first_one(objects: LocalObjects) -> None:
    token = replaced(objects, 20)
    assert names(objects.root) == {"k", f"k.~versions/@{token}", f"k.~versions/{token}"}


def test_what_a_killed_writer_left_is_removed_by_the_next_replacement(objects: LocalObjects) -> None:
    token = replaced(objects, 2)
    folder = objects.root / "k.~versions"
    (folder / "000000000001-aaaaaaaaaaaaaaaa").write_bytes(b"its pointer is consumed")
    (folder / "000000000003-bbbbbbbbbbbbbbbb").write_bytes(b"a racer for the same number")
    (folder / "000000000004-cccccccccccccccc").write_bytes(b"a racer for the next number")
    objects.replace("k", b"3", Version(token))
    token = objects.read("k")[1]
    assert names(folder) == {f"@{token}", token, "000000000004-cccccccccccccccc"}


def test_two_first_replacements_conflict(objects: LocalObjects, monkeypatch: pytest.MonkeyPatch) -> None:
    objects.create("k", b"0")
    version = objects.read("k")[1]
    real = Path.rename

    def slowly(self: Path, target: Path) -> Path:
        monkeypatch.undo()
        LocalObjects(objects.root).replace("k", b"winner", version)
        return real(self, target)

    monkeypatch.setattr(Path, "rename", slowly)
    with pytest.raises(Conflict):
        objects.replace("k", b"loser", version)
    assert objects.get("k") == b"winner"
    assert len(names(objects.root)) == 3


def test_the_loser_of_a_later_race_conflicts_and_leaves_nothing(
    objects: LocalObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = Version(replaced(objects, 1))
    real = Path.rename

    def slowly(self: Path, target: Path) -> Path:
        monkeypatch.undo()
        other = LocalObjects(objects.root)
        other.replace("k", b"winner", version)
        other.replace("k", b"winner again", other.read("k")[1])
        return real(self, target)

    monkeypatch.setattr(Path, "rename", slowly)
    with pytest.raises(Conflict):
        objects.replace("k", b"loser", version)
    assert objects.get("k") == b"winner again"
    assert len(names(objects.root)) == 3


@pytest.mark.parametrize("version", ["", "x", "../k", "@", "000000000001-", "blake3:", "000000000009-aaaaaaaaaaaaaaaa"])
@pytest.mark.parametrize("times", [0, 1])
def test_a_version_that_never_was_conflicts(objects: LocalObjects, times: int, version: str) -> None:
    replaced(objects, times)
    with pytest.raises(Conflict):
        objects.replace("k", b"x", Version(version))


def test_a_reader_never_misses_an_object_that_is_replaced_all_the_time(objects: LocalObjects) -> None:
    replaced(objects, 1)
    stop = threading.Event()
    seen: list[int] = []

    def read() -> None:
        mine = LocalObjects(objects.root)
        while not stop.is_set():
            seen.append(int(mine.get("k")))
            assert [meta.key for meta in mine.list("")] == ["k"]

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(2, 152):
        objects.replace("k", str(turn).encode(), objects.read("k")[1])
    stop.set()
    reader.join()
    assert seen == sorted(seen)


def test_a_lost_pointer_or_content_is_corrupt_not_missing(
    objects: LocalObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spotweld.store.versions.time.sleep", lambda _: None)
    token = replaced(objects, 2)
    folder = objects.root / "k.~versions"
    (folder / token).rename(folder / "elsewhere")
    with pytest.raises(Corrupt, match="missing"):
        objects.get("k")
    with pytest.raises(Corrupt, match="missing"):
        list(objects.list(""))
    (folder / f"@{token}").unlink()
    with pytest.raises(Corrupt, match="0 pointers"):
        objects.read("k")


def test_a_half_done_delete_hides_nothing_old(objects: LocalObjects) -> None:
    replaced(objects, 2)
    (objects.root / "k").unlink()
    assert objects.get("k") == b"2"
    with pytest.raises(Conflict):
        objects.create("k", b"new")
    objects.delete("k")
    objects.create("k", b"new")
    assert objects.get("k") == b"new"


def test_a_key_is_an_object_or_a_folder(objects: LocalObjects) -> None:
    objects.create("a", b"1")
    objects.create("b/c", b"2")
    with pytest.raises(NotFound):
        objects.get("a/x")
    with pytest.raises(NotFound):
        objects.get("b")
    objects.delete("a/x")
    assert list(objects.list("a/x/")) == []
    for verb in (objects.create, objects.put):
        with pytest.raises(UsageError):
            verb("a/x", b"")
        with pytest.raises(UsageError):
            verb("b", b"")
    with pytest.raises(UsageError):
        objects.delete("b")
    assert names(objects.root) == {"a", "b/c"}


def test_a_folder_removed_behind_its_back_is_made_again(objects: LocalObjects) -> None:
    objects.create("a/b/c", b"1")
    shutil.rmtree(objects.root)
    objects.create("a/b/c", b"2")
    assert objects.get("a/b/c") == b"2"


def test_strangers_in_the_folder_are_not_listed(objects: LocalObjects) -> None:
    objects.create("k", b"")
    (objects.root / ".~scratch").write_bytes(b"")
    (objects.root / "link").symlink_to("/etc/passwd")
    (objects.root / "loop").symlink_to(".")
    assert [meta.key for meta in objects.list("")] == ["k"]


def test_scratch_files_are_swept_after_a_day(objects: LocalObjects) -> None:
    objects.create("k", b"")
    root = objects.root
    for name, age in (("old", 25), ("new", 23)):
        (root / f".~{name}").write_bytes(b"")
        (root / f".~{name}-folder").mkdir()
        (root / f".~{name}-folder" / "content").write_bytes(b"")
        for path in (root / f".~{name}", root / f".~{name}-folder"):
            then = path.stat().st_mtime - age * 3600
            os.utime(path, (then, then))
    sweep(root, lambda _path: False)
    assert names(root) == {"k", ".~new", ".~new-folder/content"}


FAILURES = [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS, errno.EDQUOT]


@pytest.mark.parametrize("number", FAILURES)
@pytest.mark.parametrize("verb", ["create", "put", "replace"])
def test_what_the_kernel_refuses_is_unavailable_and_leaves_no_trace(
    objects: LocalObjects, monkeypatch: pytest.MonkeyPatch, verb: str, number: int
) -> None:
    version = Version(replaced(objects, 1))
    before = names(objects.root)
    acts: dict[str, Callable[[], None]] = {
        "create": lambda: objects.create("new", b"x" * 100),
        "put": lambda: objects.put("new", b"x" * 100),
        "replace": lambda: objects.replace("k", b"x" * 100, version),
    }

    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    for call in ("write", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(files.os, call, refuse)
            with pytest.raises(Unavailable, match=errno.errorcode[number]) as caught:
                acts[verb]()
        assert str(objects.root) in caught.value.what
        assert caught.value.todo
        assert names(objects.root) == before
    acts[verb]()
    assert objects.get("k" if verb == "replace" else "new") == b"x" * 100


@pytest.mark.parametrize("when", range(1, 7))
@pytest.mark.parametrize("times", [0, 1])
def test_any_fsync_may_fail(objects: LocalObjects, monkeypatch: pytest.MonkeyPatch, times: int, when: int) -> None:
    version = Version(replaced(objects, times) if times else (objects.create("k", b"0"), objects.read("k")[1])[1])
    real, calls = os.fsync, []

    def fsync(handle: int) -> None:
        calls.append(handle)
        if len(calls) == when:
            raise OSError(errno.EIO, "disk on fire")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    try:
        objects.replace("k", b"new", version)
    except Unavailable:
        assert len(calls) == when
    else:
        assert len(calls) < when
    monkeypatch.undo()
    data, version = objects.read("k")
    assert data in {str(times).encode(), b"new"}
    objects.replace("k", b"later", version)
    assert objects.get("k") == b"later"
    assert len(names(objects.root)) == 3


def test_short_writes_are_continued(objects: LocalObjects, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, bytes(data[:7])))
    objects.create("k", bytes(range(100)))
    assert objects.get("k") == bytes(range(100))


def test_a_file_system_without_links_is_refused(objects: LocalObjects, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StoreRefused, match="hard links"):
        objects.create("k", b"")
    assert names(objects.root) == set()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder in which a file of a few hundred kB does not fit: a disk of 1 MiB, or a limit where we may not mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() == 0 and subprocess.run(mount, check=False, capture_output=True).returncode == 0:
        yield folder
        subprocess.run(["umount", str(folder)], check=True)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (900_000, hard))
    yield folder
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_said_and_survived(tiny_disk: Path) -> None:
    objects = LocalObjects(tiny_disk / "store")
    version = Version(replaced(objects, 1))
    writes: list[Callable[[], None]] = [
        lambda: objects.create("big", bytes(2_000_000)),
        lambda: objects.put("big", bytes(2_000_000)),
        lambda: objects.replace("k", bytes(2_000_000), version),
    ]
    for write in writes:
        with pytest.raises(Unavailable, match=r"ENOSPC|EFBIG"):
            write()
    assert objects.get("k") == b"1"
    assert len(names(objects.root)) == 3
    objects.create("fits", bytes(500_000))
    objects.replace("k", b"2", version)
    assert objects.get("k") == b"2"
