"""What restoring does beside a directory that is there already, and what no manifest can make it do."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from spotweld.checkpoint import events
from spotweld.checkpoint.directory import restoring, scanning
from spotweld.checkpoint.directory.listing import from_manifest
from spotweld.checkpoint.restoring import read_manifest
from spotweld.errors import Corrupt, Fenced, NoWholeCheckpoint
from spotweld.store.heads import read_head, take_over

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Job
    from spotweld.checkpoint.format import Manifest


def saved(job: Job, **files: bytes) -> Manifest:
    """Save these files; the manifest."""
    for name, data in files.items():
        (job.out / name).write_bytes(data)
    session = job.session()
    assert session.save("final", None)
    return newest(job)


def newest(job: Job) -> Manifest:
    head = read_head(job.store, "r")
    assert head is not None
    return read_manifest(job.store, "r", head.kept[0])


def gets(job: Job) -> list[str]:
    return [key for verb, key in job.store.calls if verb == "get" and "/packs/" in key]  # type: ignore[attr-defined]


def test_a_directory_that_is_right_already_is_left_alone(job: Job) -> None:
    saved(job, a=b"1" * 5000, b=b"2")
    inode = job.out.stat().st_ino
    job.store.calls.clear()  # type: ignore[attr-defined]
    assert job.session().step == 1
    assert job.out.stat().st_ino == inode
    assert gets(job) == []


def test_bytes_that_are_there_are_not_fetched_again(job: Job) -> None:
    large = bytes(range(256)) * 4096 * 20  # 20 MiB: beside the small ones
    saved(job, large=large, small=b"2")
    (job.out / "small").write_bytes(b"another")
    (job.out / "new").write_bytes(b"new")
    job.store.calls.clear()  # type: ignore[attr-defined]
    job.session()
    assert sorted(path.name for path in job.out.iterdir()) == ["large", "small"]
    assert (job.out / "small").read_bytes() == b"2"
    assert (job.out / "large").read_bytes() == large
    assert len(gets(job)) == 1


def test_local_bytes_that_only_look_right_are_replaced(job: Job) -> None:
    saved(job, a=b"right" * 1000)
    status = (job.out / "a").stat()
    (job.out / "a").write_bytes(b"wrong" * 1000)
    os.utime(job.out / "a", ns=(status.st_atime_ns, status.st_mtime_ns))
    job.session()
    assert (job.out / "a").read_bytes() == b"right" * 1000


@pytest.mark.parametrize("calls", range(1, 12))
def test_a_kill_leaves_the_old_directory_or_none_and_is_repaired(
    job: Job, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    saved(job, a=b"saved", b=b"saved")
    before = job.content()
    (job.out / "a").write_bytes(b"old and longer")
    left = calls

    class Killed(BaseException):
        pass

    def dying(real: Any) -> Any:  # noqa: ANN401
        def call(*args: object, **more: object) -> object:
            nonlocal left
            left -= 1
            if not left:
                for name in ("mkdir", "rename", "pwrite", "truncate", "chmod", "utime"):
                    monkeypatch.setattr(os, name, reals[name])
                monkeypatch.setattr(restoring, "remove", lambda _: None)  # the dead clear nothing up
                raise Killed
            return real(*args, **more)

        return call

    reals = {name: getattr(os, name) for name in ("mkdir", "rename", "pwrite", "truncate", "chmod", "utime")}
    for name, real in reals.items():
        monkeypatch.setattr(os, name, dying(real))
    with pytest.raises(Killed):
        job.session()
    monkeypatch.undo()
    if job.out.exists():
        assert job.content() == before or (job.out / "a").read_bytes() == b"old and longer"
    job.session()
    assert job.content() == before
    assert [path.name for path in job.work.iterdir()] == ["out"]


def test_damage_leaves_the_old_directory_untouched(job: Job) -> None:
    manifest = saved(job, a=b"saved")
    job.store.put(manifest.packs[0].key, b"SAVED")
    (job.out / "a").write_bytes(b"mine")
    with pytest.raises(NoWholeCheckpoint):
        job.session()
    assert (job.out / "a").read_bytes() == b"mine"
    assert [path.name for path in job.work.iterdir()] == ["out"]


def test_the_snapshot_before_a_damaged_one_is_restored_and_the_damage_told(job: Job) -> None:
    saved(job, a=b"first")
    session = job.session()
    (job.out / "a").write_bytes(b"second")
    assert session.save("final", None)
    job.store.put(newest(job).packs[0].key, b"SECOND")
    job.lose()
    session = job.session()
    assert (session.step, (job.out / "a").read_bytes()) == (1, b"first")
    assert [damage.step for damage in job.events(events.Restored)[-1].damaged] == [2]


def test_what_a_later_attempt_drops_is_not_called_damaged_even_after_real_damage(job: Job) -> None:
    saved(job, a=b"first")
    session = job.session()
    (job.out / "a").write_bytes(b"second")
    assert session.save("final", None)
    job.store.put(newest(job).packs[0].key, b"SECOND")
    job.lose()
    store: Any = job.store

    def overtake(verb: str, key: str) -> None:
        if verb == "get" and key.endswith("/head"):  # this attempt has seen that the run is its own
            store.after = lambda _verb, _key: None
            take_over(store, "r", 99)
            for dropped in store.keys("runs/r/packs/"):
                store.delete(dropped)

    store.after = overtake
    with pytest.raises(Fenced):
        job.session()


def test_folders_without_permissions_can_be_replaced(job: Job) -> None:
    saved(job, a=b"1")
    (job.out / "closed/deeper").mkdir(parents=True)
    (job.out / "closed/deeper/file").touch()
    (job.out / "closed/deeper").chmod(0)
    (job.out / "closed").chmod(0)
    job.session()
    assert [path.name for path in job.out.iterdir()] == ["a"]


def test_a_directory_that_cannot_be_looked_at_can_be_replaced(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(job, a=b"1")
    for name in "bcd":
        (job.out / name).touch()
    monkeypatch.setattr(scanning, "MOST", 3)
    job.session()
    assert [path.name for path in job.out.iterdir()] == ["a"]
    job.out.chmod(0)  # whoever is not root cannot even list it then
    job.session()
    assert [path.name for path in job.out.iterdir()] == ["a"]


def test_a_set_up_may_make_the_directory_a_link(job: Job, tmp_path: Path) -> None:
    saved(job, a=b"1")
    job.lose()
    (tmp_path / "large-disk").mkdir()
    job.out.symlink_to(tmp_path / "large-disk")
    job.session()
    assert job.out.is_symlink()
    assert (tmp_path / "large-disk/a").read_bytes() == b"1"


FILE = {"mode": 0o644, "mtime_ns": 5, "size": 1, "content": {"leaf": 0}}


def tree(files: Any = None, **more: Any) -> Any:  # noqa: ANN401
    """A manifest's state with these parts."""

    def node(value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, dict) and value.keys() not in ({"leaf"}, {"int"}):
            return {"dict": [[key, node(item)] for key, item in value.items()]}
        return value

    parts = {"mode": 0o755, "files": files or {"a": FILE}, "folders": {}, "hard_links": {}, "symlinks": {}}
    return node({"directory": parts | more, "finished": False})


def odd(path: str, **more: Any) -> Any:  # noqa: ANN401
    return tree({path: FILE}, **more)


@pytest.mark.parametrize(
    "state",
    [
        *(
            odd(path)
            for path in ("/a", "../a", "b/../../a", ".", "..", "", "a/", "a//b", "./a", "a\\b", "a%00", "a%2e", "a%2E")
        ),
        odd("a\x00"),
        odd("no/such/folder"),
        odd("link/a", symlinks={"link": "."}),
        odd("link/a", symlinks={"link": "folder"}, folders={"folder": 0o755}),
        odd("a", folders={"a": 0o755}),
        odd("a", symlinks={"a": "b"}),
        odd("a", folders={"x/y": 0o755}),
        odd("a", folders={"../x": 0o755}),
        odd("a", hard_links={"../b": "a"}),
        odd("a", hard_links={"b": "../../etc/passwd"}),
        odd("a", hard_links={"b": "c"}),
        *(odd("a", symlinks={"s": to}) for to in ("/etc", "..", "../x", "a/../..", "", "x%00", "./../x")),
        odd("a", symlinks={"f/s": "../../x"}, folders={"f": 0o755}),
        odd("a", symlinks={"f/s": "up/../../x", "f/up": "."}, folders={"f": 0o755}),
        tree({"a": FILE | {"size": 2}}),
        tree({"a": FILE | {"size": -1}}),
        tree({"a": FILE | {"content": 0}}, folders={"b": "x"}),
        tree({"a": FILE, "b": FILE}),
        tree({"a": FILE | {"content": 1}}),
        tree({"a": FILE | {"mode": "x"}}),
        tree({"a": FILE | {"evil": 1}}),
        tree({"a": FILE | {"mtime_ns": {"int": "0x" + "f" * 30}}}),
    ],
)
def test_a_manifest_that_leads_out_of_the_directory_is_refused(job: Job, state: Any) -> None:  # noqa: ANN401
    manifest = msgspec.structs.replace(saved(job, a=b"1"), state=state)
    with pytest.raises(Corrupt):
        from_manifest(manifest)


@pytest.mark.parametrize(
    "state",
    [
        odd("f/a", folders={"f": 0o755}, symlinks={"f/s": "../f/a", "f/t": "./a"}),
        odd("a%FF", hard_links={"b": "a%FF"}, folders={"a b": 0o4777}),
        odd("..."),
        odd("a..b"),
    ],
)
def test_what_is_unusual_and_safe_is_taken(job: Job, state: Any) -> None:  # noqa: ANN401
    manifest = msgspec.structs.replace(saved(job, a=b"1"), state=state)
    assert from_manifest(manifest).files


def test_setuid_is_never_restored(job: Job) -> None:
    manifest = msgspec.structs.replace(saved(job, a=b"1"), state=tree({"a": FILE | {"mode": 0o6755}}))
    listing = from_manifest(manifest)
    restoring.restore(job.store, manifest, listing, bytes(job.out))
    assert (job.out / "a").stat().st_mode & 0o7777 == 0o755


IN_A_SMALL_TMPFS = """
import sys
from pathlib import Path
from spotweld.checkpoint.directory.session import DirectorySession
from spotweld.checkpoint.events import EventFile
from spotweld.errors import CheckpointError
from spotweld.project.nouns import CheckpointPolicy
from spotweld.store.opening import open_store
from spotweld.values.clocks import SystemClock

def session(folder, attempt, scratch):
    policy, tell = CheckpointPolicy(directory="out"), EventFile(None)
    return DirectorySession(Path(folder), policy, "r", attempt, objects, Path(scratch), tell, SystemClock())

objects = open_store(sys.argv[1])
large, small = sys.argv[2], sys.argv[3]
(Path(large) / "out").mkdir()
(Path(large) / "out/file").write_bytes(bytes(range(256)) * 4 * 4096 * 6)
full = session(large, 1, small)
assert not full.save("final", None)
print("save:", full.why)
good = session(large, 2, large)
assert good.save("final", None), good.why
(Path(small) / "out").mkdir()
(Path(small) / "out/mine").write_bytes(b"mine")
try:
    session(small, 3, large)
except CheckpointError as error:
    print("restore:", error)
print(sorted(str(path.relative_to(small)) for path in Path(small).rglob("*")))
"""


def test_a_disk_that_is_too_small_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    for name in ("large", "small"):
        (tmp_path / name).mkdir()
    url = f"file:{tmp_path / 'store'}"
    mount = 'mount -t tmpfs -o size=20m none "$4" && exec "$0" -c "$1" "$2" "$3" "$4"'
    done = subprocess.run(
        [
            "unshare",
            "-rm",
            "sh",
            "-c",
            mount,
            sys.executable,
            IN_A_SMALL_TMPFS,
            url,
            tmp_path / "large",
            tmp_path / "small",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    save, restore, left = done.stdout.splitlines()
    assert "no room" in save or "No space" in save
    assert "25.2 MB do not fit on the disk" in restore
    assert left == "['out', 'out/mine']"
