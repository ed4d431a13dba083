"""Whole processes with codecs, differences and tiers, killed, stopped and out of space: nothing published is lost."""

from __future__ import annotations

import re
import shutil
import signal
from os import kill
from typing import TYPE_CHECKING, Any

import pytest
from tests.checkpoint.test_processes import Machine, program, signalled, snapshot, stops

from spotweld.checkpoint import events
from spotweld.checkpoint.restoring import read_manifest
from spotweld.store.heads import read_head
from spotweld.store.opening import open_store

if TYPE_CHECKING:
    from pathlib import Path

CALLS = "write,fsync,rename,link,unlink,mkdir,pwritev,pwritev2,fcntl,ftruncate,fallocate"
"""What changes a file; large ones are written past the page cache, with the flag that fcntl sets."""
TOTAL = 12
WAYS = [("none", False), ("bytes", False), ("none", True), ("bytes", True)]


class Tiered(Machine):
    """A machine with a disk of its own in front of the store."""

    def __init__(self, folder: Path, compress: str, tier: bool) -> None:
        super().__init__(folder)
        self.disk = folder / "disk"
        self.tier = f"file:{self.disk}" if tier else "-"
        self.args = (TOTAL, 1, 0, compress, self.tier, "same-thread")

    def wipe(self) -> None:
        for name in ("store", "disk", "elsewhere"):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def calls(self) -> list[tuple[str, int, str]]:
        """The writing calls of the program's main thread in order: name, number among its like, and what it is done to.

        Leaves no store.
        """
        log = self.folder / "strace.log"
        before = ("strace", "-f", "-y", "--seccomp-bpf", "-o", str(log), "-e", f"trace={CALLS}")
        status, out = self.run("tiered", *self.args, before=before)
        assert status == 0, out
        self.wipe()
        found: list[tuple[str, int, str]] = []
        main = log.read_text().split(maxsplit=1)[0]
        for line in log.read_text().splitlines():
            if named := re.match(rf"{main} +(\w+)\((.*)", line):
                found.append((named[1], 1 + sum(name == named[1] for name, _, _ in found), named[2]))
        return found

    def resume(self, monkeypatch: pytest.MonkeyPatch, store: str = "", tier: str = "") -> str:
        """Go on in this process, where nobody kills it; the digest of the last state."""
        self.told.unlink(missing_ok=True)
        with monkeypatch.context() as patched:
            patched.setenv("SPOTWELD_EVENTS_FILE", str(self.told))
            compress = str(self.args[3])
            digest: str = program("tiered").train(TOTAL, 3, 0.0, compress, tier or self.tier, store=store or self.url)
        return digest

    def restored(self) -> Any:  # noqa: ANN401
        return next(iter(self.of(events.Restored)), None)

    def kept(self) -> list[int]:
        """Steps in the tier."""
        objects = open_store(self.tier, verify=False)
        inside = {meta.key.split("/")[1] for meta in objects.list("runs/")}
        head = read_head(objects, inside.pop()) if inside else None
        return [one.step for one in head.kept] if head else []


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What it comes to if nobody disturbs it."""
    digest: str = program("tiered").train(TOTAL, 1000, store=f"file:{tmp_path_factory.mktemp('undisturbed')}/store")
    return digest


def kill_matrix(machine: Tiered, wanted: str, points: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Kill a fresh run at so many points, each time once more in the resume; how often that was."""
    calls, kills = machine.calls(), 0
    for point in range(points):
        machine.wipe()
        first = calls[(2 * point + 1) * len(calls) // (2 * points)]
        assert machine.run("tiered", *machine.args, before=signalled(first[:2]))[0] == -signal.SIGKILL
        published = max(machine.published(), default=0)
        second = calls[(point * 11 + 5) % (len(calls) // 2)]
        kills += 1 + (machine.run("tiered", *machine.args, before=signalled(second[:2]))[0] == -signal.SIGKILL)
        if restored := machine.restored():
            assert restored.step >= published, "a published checkpoint was lost"
            assert restored.damaged == ()
        published = max([published, *machine.published()])
        assert machine.resume(monkeypatch) == wanted, f"killed at {first} and {second}"
        assert published == 0 or machine.restored().step >= published, "a published checkpoint was lost"
        assert machine.published()[0] == TOTAL
    return kills


def test_killed_with_differences_on_their_way_to_the_store(
    tmp_path: Path, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kill_matrix(Tiered(tmp_path, "bytes", tier=True), wanted, 1, monkeypatch) >= 1


@pytest.mark.slow
@pytest.mark.parametrize(("compress", "tier"), WAYS)
def test_killed_at_system_calls_with_every_codec_and_tier(
    tmp_path: Path, wanted: str, monkeypatch: pytest.MonkeyPatch, compress: str, tier: bool
) -> None:
    assert kill_matrix(Tiered(tmp_path, compress, tier), wanted, 8, monkeypatch) >= 12


@pytest.mark.slow
def test_killed_while_the_store_is_filled_from_the_tier(
    tmp_path: Path, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same machine restores the newer one from its disk; another one what the store has published last."""
    machine = Tiered(tmp_path, "bytes", tier=True)
    uploads = [call for call in machine.calls() if f"{machine.folder}/store/" in call[2]]
    newer = 0
    for point in range(16):
        machine.wipe()
        call = uploads[len(uploads) // 8 + point * len(uploads) * 7 // 8 // 16]
        assert machine.run("tiered", *machine.args, before=signalled(call[:2]))[0] == -signal.SIGKILL
        near, far = max(machine.kept(), default=0), max(machine.published(), default=0)
        assert near >= far
        newer += near > far
        shutil.copytree(machine.folder / "store", machine.folder / "elsewhere")
        assert machine.resume(monkeypatch) == wanted, call
        restored = machine.restored()
        assert (restored.step if restored else 0) == near, call
        assert restored is None or restored.tier == machine.tier
        assert machine.resume(monkeypatch, f"file:{machine.folder}/elsewhere", "-") == wanted, call
        restored = machine.restored()
        assert (restored.step if restored else 0) == far, call
        assert restored is None or (restored.tier, restored.damaged) == ("", ())
    assert newer >= 8


@pytest.mark.slow
@pytest.mark.parametrize(("compress", "tier"), WAYS[1:])
def test_a_zombie_stopped_anywhere_changes_neither_tier_nor_store(
    tmp_path: Path, wanted: str, monkeypatch: pytest.MonkeyPatch, compress: str, tier: bool
) -> None:
    machine = Tiered(tmp_path, compress, tier)
    calls, log, zombies = machine.calls(), machine.folder / "stop.log", 0
    for point in range(4):
        machine.wipe()
        log.unlink(missing_ok=True)
        call = calls[len(calls) // 4 + point * len(calls) // 7]
        process = machine.start("tiered", *machine.args, before=signalled(call[:2], "STOP", log))
        if not stops(process, log):
            process.communicate(timeout=60)
            continue
        zombies += 1
        pid = machine.wait_for(events.Start).pid
        assert machine.resume(monkeypatch) == wanted
        before = snapshot(machine.folder / "store") | snapshot(machine.disk)
        kill(pid, signal.SIGCONT)
        process.communicate(timeout=60)
        assert process.returncode == 75
        after = snapshot(machine.folder / "store") | snapshot(machine.disk)
        assert {path: after.get(path) for path in before} == before, call
        assert machine.resume(monkeypatch) == wanted
        assert machine.published()[0] == TOTAL
    assert zombies >= 3


@pytest.mark.slow
@pytest.mark.parametrize("full", ["store", "disk"])
def test_a_full_disk_stops_nobody(tmp_path: Path, wanted: str, full: str) -> None:
    """A tmpfs of its own, full until a save has failed."""
    machine = Tiered(tmp_path, "bytes", tier=True)
    folder = machine.folder / full
    folder.mkdir()
    script = (
        f"mount -t tmpfs -o size=16m none {folder} && head -c 16000000 /dev/zero > {folder}/filler; "
        f"(while ! grep -q save_failed {machine.told} 2>/dev/null; do sleep 0.05; done; rm {folder}/filler) & "
        f'"$@"; status=$?; wait; cp -r {folder} {machine.folder}/copy; exit $status'
    )
    before = ("unshare", "--mount", "sh", "-c", script, "sh")
    status, out = machine.run("tiered", TOTAL, 1, 0.2, "bytes", machine.tier, before=before)
    assert (status, out) == (0, wanted)
    assert "No space left on device" in machine.of(events.SaveFailed)[0].why
    store = f"file:{machine.folder}/copy" if full == "store" else machine.url
    head = read_head(open_store(store, verify=False), "default")
    assert head is not None
    assert head.kept[0].step == TOTAL
    read_manifest(open_store(store, verify=False), "default", head.kept[0])
