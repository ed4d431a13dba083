"""The small parts of the local cloud, without machines."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spotweld.errors import ProjectError, ProviderError
from spotweld.project.nouns import LocalProvider, Project
from spotweld.providers.local import births, guests, launches, processes, records
from spotweld.providers.local.control import Inbox, Interrupt, Stop, send
from spotweld.providers.local.supervisor import Supervisor
from spotweld.providers.opening import open_provider
from spotweld.providers.provider import Boot, Machine, MachineEnd, MachineState

if TYPE_CHECKING:
    from conftest import Clouds, FakeClock


def test_the_cloud_clock_follows_no_jump_of_the_wall_clock(tmp_path: Path, fake_clock: "FakeClock") -> None:
    birth = births.begin(tmp_path, fake_clock)
    assert births.begin(tmp_path, fake_clock) == birth == births.read_birth(tmp_path)
    fake_clock.sleep(5.0)
    fake_clock.jump(-3600.0)
    assert births.elapsed(birth, fake_clock) == 5.0


def test_after_a_reboot_the_wall_clock_has_to_do(tmp_path: Path, fake_clock: "FakeClock") -> None:
    birth = births.Birth(born=fake_clock.now() - 100.0, boot="another", monotonic=fake_clock.monotonic() + 1e6)
    records.write(tmp_path / "cloud.json", birth)
    assert births.elapsed(births.begin(tmp_path, fake_clock), fake_clock) == 100.0
    fake_clock.jump(-3600.0)
    assert births.elapsed(birth, fake_clock) == 0.0


def test_offers_follow_the_clock_and_write_nothing(clouds: "Clouds", fake_clock: "FakeClock", tmp_path: Path) -> None:
    from spotweld.providers.local.cloud import LocalCloud

    zone = clouds.zone(gap=10, levels=[1, 1])
    zone.trace.write_text('{"metadata": {"gap_seconds": 10}, "data": [1, 1], "prices": [0.5, 0.25]}')
    cloud = LocalCloud(tmp_path / "cloud", LocalProvider((zone,)), fake_clock)
    assert str(clouds.offer(cloud).hourly) == "0.5000 USD"
    assert not (tmp_path / "cloud").exists()
    (tmp_path / "cloud").mkdir()
    births.begin(tmp_path / "cloud", fake_clock)
    fake_clock.sleep(10.0)
    assert str(clouds.offer(cloud).hourly) == "0.2500 USD"


def test_a_project_opens_its_cloud_beside_its_file(clouds: "Clouds", tmp_path: Path) -> None:
    project = Project(
        file=tmp_path / "spotweld.yaml", name="p", store="memory:", local=LocalProvider((clouds.zone(),)), jobs={}
    )
    assert open_provider(project.state, project.local).machines({}) == []
    assert not (tmp_path / ".spotweld").exists()


def test_machines_that_have_ended_are_not_looked_at_again(
    clouds: "Clouds", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A project has had thousands after a while, and every controller lists them several times a second."""
    from spotweld.providers.local.cloud import LocalCloud

    cloud = LocalCloud(tmp_path, LocalProvider((clouds.zone(levels=[2]),)))
    offer = clouds.offer(cloud)
    ids = [f"m-{number:016x}" for number in range(50)]
    for name in ids:
        (tmp_path / "machines" / name).mkdir(parents=True)
        over = Machine(name, name, offer, {}, MachineState.ENDED, 1.0, 2.0, MachineEnd.EXITED)
        records.write(tmp_path / "machines" / name / "machine.json", over)
    assert [machine.id for machine in cloud.machines({})] == ids

    def look(path: Path, *_: object, **__: object) -> None:
        raise AssertionError(f"it looks at {path}")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "is_dir", look)
        patch.setattr(records, "in_charge", look)
        assert [machine.id for machine in cloud.machines({})] == ids
        assert cloud.room(offer) == 2


def test_a_bad_trace_is_a_finding_and_an_error_of_the_project(clouds: "Clouds") -> None:
    zone = clouds.zone("bad")
    cloud = clouds.make(clouds.zone(), zone)
    zone.trace.write_text("[]")
    with pytest.raises(ProjectError, match=r"bad\.json"):
        cloud.offers()
    (bad,) = [finding for finding in cloud.health() if not finding.ok]
    assert "bad.json" in bad.what
    assert bad.todo


def test_a_folder_that_cannot_hold_machines_is_a_finding(clouds: "Clouds", tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cloud = clouds.make(folder="file/cloud")
    assert [finding.ok for finding in cloud.health()] == [True, False, True]
    assert cloud.machines({}) == []
    with pytest.raises(ProviderError, match="cannot be used"):
        clouds.started(cloud)


def test_requests_reach_a_supervisor_that_listens(tmp_path: Path) -> None:
    assert not send(tmp_path, Stop())
    inbox = Inbox(tmp_path)
    assert inbox.read() == []
    assert send(tmp_path, Stop())
    assert send(tmp_path, Interrupt(2.5))
    (tmp_path / "control").write_text("garbage\n{}\n")
    assert send(tmp_path, Interrupt(None))
    assert inbox.read() == [Stop(), Interrupt(2.5), Interrupt(None)]
    os.close(inbox.fileno())
    assert not send(tmp_path, Stop())


def test_a_flood_of_requests_hangs_nobody(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    for _ in range(10_000):
        assert send(tmp_path, Stop())
    assert set(inbox.read()) == {Stop()}
    os.close(inbox.fileno())


def test_a_record_is_private_and_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    assert records.read(path, births.Birth) is None
    for born in (1.0, 2.0):
        records.write(path, births.Birth(born=born))
    assert records.read(path, births.Birth) == births.Birth(born=2.0)
    assert path.stat().st_mode & 0o077 == 0
    assert list(tmp_path.iterdir()) == [path]
    path.write_text("{}")
    with pytest.raises(ProviderError, match=r"record\.json"):
        records.read(path, births.Birth)


def test_a_record_that_a_full_disk_refuses_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "record.json"
    records.write(path, births.Birth(born=1.0))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("spotweld.providers.local.records.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        records.write(path, births.Birth(born=2.0))
    assert list(tmp_path.iterdir()) == [path]
    assert records.read(path, births.Birth) == births.Birth(born=1.0)


def test_one_is_in_charge_until_the_last_copy_of_its_lock_is_gone(tmp_path: Path) -> None:
    assert not records.in_charge(tmp_path)
    lock = records.take(tmp_path)
    assert lock is not None
    assert records.take(tmp_path) is None
    assert records.in_charge(tmp_path)
    heir = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=(lock,))
    os.close(lock)
    assert records.in_charge(tmp_path)
    heir.communicate()
    assert not records.in_charge(tmp_path)


def test_a_console_keeps_the_end_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guests, "CONSOLE", 1000)
    source, sink = os.pipe()
    os.set_blocking(source, False)
    console = guests.Console(tmp_path, source)
    for i in range(100):
        os.write(sink, f"line {i:04d} {'.' * 89}\n".encode())
        assert console.drain()
    os.close(sink)
    assert not console.drain()
    os.close(source)
    older, newer = (tmp_path / "console.1.log").read_text(), (tmp_path / "console.log").read_text()
    assert len(older) <= 1000
    assert len(newer) <= 1000
    assert (older + newer).splitlines()[-1].startswith("line 0099")
    console._file.close()


def test_a_path_of_the_guest_finds_this_python_first(tmp_path: Path) -> None:
    boot = Boot(("true",), {"PATH": "/mine", "HOME": "/home/me", "SPOTWELD_METADATA": "http://elsewhere"})
    env = guests.environment(boot, tmp_path, "http://here", {"PATH": "/host", "LANG": "C.UTF-8", "AWS_SECRET": "x"})
    assert env == {
        "LANG": "C.UTF-8",
        "PATH": f"{Path(sys.executable).parent}:/mine",
        "HOME": str(tmp_path / "disk"),
        "SPOTWELD_HOST_CACHE": str(tmp_path.parent.parent / "cache"),
        "SPOTWELD_METADATA": "http://here",
        processes.MARK: str(tmp_path),
    }


@pytest.mark.parametrize(
    ("point", "below"), [("/c/disk", True), ("/c/disk/a\\040b", True), ("/c/disk2", False), ("/c", False), ("/", False)]
)
def test_mounts_below_a_disk_are_seen(point: str, below: bool) -> None:
    line = f"36 35 98:0 /mnt1 {point} rw,noatime master:1 - ext3 /dev/sda1 rw,errors=continue\n"
    assert guests.mounts_below(Path("/c/disk"), line) is below


def test_a_process_is_killed_only_if_it_is_still_the_same() -> None:
    process = subprocess.Popen(["sleep", "100000"])
    found = processes.look_up(process.pid)
    assert found is not None
    assert found.parent == os.getpid()
    processes.kill(found.pid, found.started - 1)
    assert process.poll() is None
    processes.kill(found.pid, found.started)
    assert process.wait() == -signal.SIGKILL
    processes.kill(found.pid, found.started)
    assert processes.look_up(process.pid) is None


def test_marked_processes_and_their_descendants_are_found(tmp_path: Path) -> None:
    script = "env -i sleep 100000 & echo ready; wait"
    with subprocess.Popen(
        ["sh", "-c", script], env={**os.environ, processes.MARK: str(tmp_path)}, stdout=subprocess.PIPE
    ) as shell:
        assert shell.stdout is not None
        shell.stdout.readline()
        found = processes.marked(tmp_path)
        assert len(found) == 2
        assert processes.marked(tmp_path / "another") == []
        processes.kill_all(lambda: processes.marked(tmp_path))
        shell.wait()
    assert processes.marked(tmp_path) == []


def test_relative_entries_of_the_python_path_keep_their_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"src{os.pathsep}{os.pathsep}/abs")
    assert launches._environment()["PYTHONPATH"] == f"{Path.cwd()}/src{os.pathsep}/abs"


def test_a_supervisor_without_a_request_gives_up(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no machine that was asked for"):
        Supervisor(tmp_path)
