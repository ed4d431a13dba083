"""A machine's agent runs a job in its image: real mounts, real processes; nothing of it outlives the machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.images.busybox import add_busybox
from tests.images.samples import add_index
from tests.images.servers import docker_registry
from tests.runs.machines import POLICY, Machines
from tests.runs.samples import attempt_opened, opened

from spotweld.checkpoint.events import Fresh, ImageReady, Saved
from spotweld.images.containers.pinning import Pinned
from spotweld.images.containers.rooting import ALONE
from spotweld.images.registries.layouts import Layout
from spotweld.images.registries.opening import open_registry
from spotweld.project.nouns import CheckpointPolicy, EverySeconds
from spotweld.runs.boots import boot
from spotweld.runs.events import Opened, decode, encode
from spotweld.runs.reports import Stage
from spotweld.runs.states import Attempt, RunState
from spotweld.values import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PLAIN = CheckpointPolicy(EverySeconds(60.0))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "registry")


@pytest.fixture
def machines(tmp_path: Path, layout: Layout) -> Iterator[Machines]:
    """Machines whose job lives in an image of busybox."""
    made = add_busybox(layout, "x/box", "latest")
    found = Machines(tmp_path, **{"hello.txt": "hello"})
    found.image = Pinned("box", layout.url, "x/box", made.digest)
    yield found
    found.end()
    assert mounted(tmp_path) == []


def mounted(folder: Path) -> list[str]:
    """Mounts below ``folder`` that any process of this host sees."""
    found = set()
    for info in Path("/proc").glob("[0-9]*/mountinfo"):
        try:
            found |= {line.split()[4] for line in info.read_text().splitlines() if str(folder) in line}
        except OSError:
            continue
    return sorted(found)


def state_of(image: Pinned | None) -> RunState:
    event = opened()
    return RunState("r", event.project, event.job, "s3://b", event.source, event.local, event.placement, 0.0, image)


def test_only_a_job_with_an_image_gets_namespaces_and_only_its_agent_the_credentials(tmp_path: Path) -> None:
    attempt = msgspec.convert({**msgspec.to_builtins(attempt_opened(1)), "number": 1, "opened": 0.0}, Attempt)
    (tmp_path / "auth.json").write_text(json.dumps({"auths": {"h.example": {"auth": "dTpw"}}}))
    environ = {"REGISTRY_AUTH_FILE": str(tmp_path / "auth.json"), "AWS_X": "1"}
    plain = boot(state_of(None), attempt, environ)
    assert plain.argv == (sys.executable, "-m", "spotweld.runs.agent")
    assert environment.REGISTRY_AUTH not in plain.env
    inside = boot(state_of(Pinned("n", "https://h.example", "r", "sha256:0")), attempt, environ)  # type: ignore[arg-type]
    assert inside.argv == (*ALONE, *plain.argv)
    assert json.loads(inside.env.pop(environment.REGISTRY_AUTH)) == {"auths": {"h.example": {"auth": "dTpw"}}}
    assert inside.env == plain.env
    building = boot(msgspec.structs.replace(state_of(None), hosts=("h.example", "other")), attempt, environ)
    assert building.argv == plain.argv
    assert json.loads(building.env[environment.REGISTRY_AUTH]) == {"auths": {"h.example": {"auth": "dTpw"}}}
    nobody = boot(state_of(Pinned("n", "https://other", "r", "sha256:0")), attempt, environ)  # type: ignore[arg-type]
    assert nobody.env == plain.env


def test_a_log_of_before_images_can_be_read() -> None:
    event = opened()
    old = {name: value for name, value in json.loads(encode(event)).items() if name != "image"}
    assert decode(json.dumps(old).encode()) == event
    pinned = msgspec.structs.replace(event, image=Pinned("n", "oci:/x", "r", "sha256:0"))  # type: ignore[arg-type]
    found = decode(encode(pinned))
    assert isinstance(found, Opened)
    assert found.image == pinned.image


@pytest.mark.slow
def test_the_job_finds_its_files_its_store_and_its_image(machines: Machines) -> None:
    store = machines.folder / "store"
    machines.environ |= {"PYTHONPATH": os.environ.get("PYTHONPATH", ""), environment.REGISTRY_AUTH: '{"auths": {}}'}
    tell = """printf '{"kind": "fresh", "t": 1}\\n' >> $SPOTWELD_EVENTS_FILE"""
    look = f"ls -d {store}/sources; test -e /usr/lib && echo host; ls /proc/self/fd /dev/null /dev/shm >/dev/null"
    command = f"cat hello.txt /marker; echo $IN_IMAGE $PATH $MINE; {look} && {tell} && env && exit 7"
    result = machines.run(command, PLAIN, MINE="my own")
    said = machines.output().decode()
    assert (result.exit_code, result.stage) == (7, Stage.RUNNING), said
    assert said.startswith(f"hellolatestyes /bin my own\n{store}/sources\n"), said
    for hidden in ("PYTHONPATH", environment.METADATA, environment.REGISTRY_AUTH, environment.HOST_CACHE, "host\n"):
        assert hidden not in said
    assert "HOME=/root" in said
    (ready,) = machines.events(ImageReady)
    assert len(machines.events(Fresh)) == 1
    assert (ready.image, ready.here, ready.moved) == ("box", False, 0)
    machines.lose()
    assert machines.run("true", PLAIN).exit_code == 0
    assert machines.events(ImageReady)[0].here


ACCOUNTS = {
    "etc/passwd": "root:x:0:0::/root:/bin/sh\napp:x:1234:1235::/home/app:/bin/sh\n",
    "etc/group": "app:x:1235:\nvideo:x:44:app\n",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("user", "wanted"),
    [("app", "1234 1235 44"), ("1234:44", "1234 44"), ("4321", "4321 0"), ("", "0 0"), ("0:1235", "0 1235")],
)
def test_it_runs_as_the_images_user_and_may_write_what_is_the_jobs(
    machines: Machines, layout: Layout, user: str, wanted: str
) -> None:
    said = {"User": user, "Entrypoint": ["/bin/false"], "Cmd": ["no"], "WorkingDir": "/nowhere"}
    made = add_busybox(layout, "x/user", "latest", ACCOUNTS, env=("IN_IMAGE=yes",), more=said)
    machines.image = Pinned("user", layout.url, "x/user", made.digest)
    tell = """printf '{"kind": "fresh", "t": 1}\\n' >> $SPOTWELD_EVENTS_FILE"""
    writes = f"echo x >> hello.txt && echo x > new && echo x > {machines.folder}/store/theirs && {tell}"
    look = "pwd; id -u; id -g; id -G; echo $HOME; echo $PATH; touch ~/here && touch /tmp/here"
    result = machines.run(f"{writes} && {look}; echo err >> /dev/stderr", PLAIN)
    lines = machines.output().decode().splitlines()
    assert result.exit_code == 0, lines
    uid, gid, *more = wanted.split()
    home = {"1234": "/home/app", "0": "/root"}.get(uid, "/")
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert lines == [str(machines.disk / "work"), uid, gid, " ".join([gid, *more]), home, path, "err"]
    assert len(machines.events(Fresh)) == 1
    for name in ("hello.txt", "new"):
        assert (machines.disk / "work" / name).stat().st_uid == int(uid)


@pytest.mark.slow
def test_a_directory_of_another_user_is_kept(machines: Machines, layout: Layout) -> None:
    made = add_busybox(layout, "x/user", "latest", ACCOUNTS, more={"User": "app"})
    machines.image = Pinned("user", layout.url, "x/user", made.digest)
    policy = msgspec.structs.replace(POLICY, every=EverySeconds(0.3))
    count = "mkdir -p out; n=$(cat out/n 2>/dev/null || echo 0); echo from $n as $(id -u) of $(stat -c %u out)"
    count += "; while test $n -lt 100; do n=$(expr $n + 1); echo $n > out/t; mv out/t out/n; sleep 0.02; done"
    machines.start(count, policy)
    machines.wait_for(lambda: machines.events(Saved))
    machines.lose()
    assert machines.run(count, policy).exit_code == 0
    said = next(line for line in machines.output().decode().splitlines() if line.startswith("from "))
    assert int(said.split()[1]) > 0
    assert said.endswith("as 1234 of 1234")


@pytest.mark.slow
def test_a_home_that_cannot_be_one_is_no_matter(machines: Machines, layout: Layout) -> None:
    accounts = {"etc/passwd": "service:x:7:7::/dev/null:/bin/false\nodd:x:8:8::/bin/sh/home:/bin/false\n"}
    for user in ("service", "odd"):
        made = add_busybox(layout, "x/user", "latest", accounts, more={"User": user})
        machines.image = Pinned("user", layout.url, "x/user", made.digest)
        result = machines.run("id -u", PLAIN)
        assert result.exit_code == 0, result
        machines.lose()


@pytest.mark.slow
def test_what_an_older_version_has_fetched_is_fetched_anew(machines: Machines) -> None:
    assert machines.run("true", PLAIN).exit_code == 0
    (mark,) = (machines.folder / "host/images").glob("fetched-*/*.json")
    known = json.loads(mark.read_text())
    mark.write_text(json.dumps({"id": known["id"], "env": known["env"]}))
    for name in ("0" * 64, "1" * 64):
        mark.with_name(f"{name}.json").write_text('{"id": "gone"}' if name[0] == "0" else "{")
        os.utime(mark.with_name(f"{name}.json"), (1, 1))
    assert machines.run("cat /marker", PLAIN).exit_code == 0
    assert json.loads(mark.read_text()) == known
    assert [one.name for one in mark.parent.glob("*.json")] == [mark.name]


@pytest.mark.slow
def test_a_user_that_the_image_does_not_have(machines: Machines, layout: Layout) -> None:
    made = add_busybox(layout, "x/user", "latest", ACCOUNTS, more={"User": "nobody"})
    machines.image = Pinned("user", layout.url, "x/user", made.digest)
    result = machines.run("true", PLAIN)
    assert result.stage is Stage.ENTERING
    assert "its /etc/passwd has no user 'nobody'" in result.detail


@pytest.mark.slow
@pytest.mark.parametrize(("command", "code"), [("exit 75", 75), ("kill -9 $$", 137), ("exit 3", 3), ("true", 0)])
def test_the_exit_status_comes_back_unchanged(machines: Machines, command: str, code: int) -> None:
    assert machines.run(command, PLAIN).exit_code == code


@pytest.mark.slow
def test_term_reaches_the_program_and_the_notice_is_there(machines: Machines) -> None:
    process = machines.start(
        "trap 'test -e $SPOTWELD_NOTICE_FILE && echo noticed; exit 75' TERM; echo up; while :; do sleep 0.1; done",
        PLAIN,
    )
    machines.wait_for(lambda: b"up" in machines.output())
    # As the provider does it: to the group, in which the first two are deaf.
    for pid in (process.pid, *descendants(process.pid)[:2]):
        os.kill(pid, signal.SIGTERM)
    result = machines.wait()
    assert (result.exit_code, result.notice is not None) == (75, True)
    assert b"noticed" in machines.output()


@pytest.mark.slow
def test_what_the_set_up_leaves_is_there_and_dies_with_the_machine(machines: Machines) -> None:
    daemon = "(env -i /bin/setsid /bin/sh -c 'while :; do echo . >> /beat; sleep 0.05; done' &)"
    process = machines.start(f"{daemon}; sleep 0.3; echo up; sleep 600", PLAIN)
    machines.wait_for(lambda: b"up" in machines.output())
    left = descendants(process.pid)
    assert len(left) >= 4
    assert mounted(machines.disk)
    process.kill()
    process.wait()
    machines.wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left))
    assert mounted(machines.folder) == []


@pytest.mark.slow
def test_a_directory_is_kept_and_its_commands_run_in_the_image(machines: Machines) -> None:
    policy = msgspec.structs.replace(POLICY, every=EverySeconds(0.3), quiesce="echo quiet $IN_IMAGE")
    count = "mkdir -p out; n=$(cat out/n 2>/dev/null || echo 0); echo from $n"
    count += "; while test $n -lt 200; do n=$(expr $n + 1); echo $n > out/t; mv out/t out/n; sleep 0.02; done"
    machines.start(count, policy)
    machines.wait_for(lambda: machines.events(Saved))
    machines.lose()
    assert machines.run(count, policy).exit_code == 0
    said = machines.output().decode()
    began = next(line for line in said.splitlines() if line.startswith("from "))
    assert int(began.split()[1]) > 0
    assert (machines.out / "n").read_text() == "200\n"
    assert "quiet yes" in said


@pytest.mark.slow
def test_images_of_a_server_for_all_platforms_and_in_dockers_form(machines: Machines, tmp_path: Path) -> None:
    with docker_registry(tmp_path) as url:
        registry = open_registry(url, {})
        ours = add_busybox(registry, "x/box", "ours", {"marker": "ours"}, docker=True)
        other = add_busybox(registry, "x/box", "other", {"marker": "other"})
        both = add_index(registry, "x/box", "both", [("s390x", other), ("amd64", ours)])
        machines.image = Pinned("box", url, "x/box", both.digest)
        assert machines.run("cat /marker", PLAIN).exit_code == 0
        assert machines.output() == b"ours"
        assert machines.events(ImageReady)[0].moved > 100_000
        none = add_index(registry, "x/box", "none", [("s390x", other)])
        machines.image = Pinned("box", url, "x/box", none.digest)
        refused = machines.run("true", PLAIN)
    assert (refused.stage, refused.exit_code) == (Stage.ENTERING, 1)
    assert "linux/s390x" in refused.detail


@pytest.mark.slow
def test_a_damaged_layer_never_runs(machines: Machines, layout: Layout) -> None:
    largest = max((layout.folder / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    whole = largest.read_bytes()
    for damaged in (whole[:-1], bytes([*whole[:-9], whole[-9] ^ 1, *whole[-8:]])):
        largest.write_bytes(damaged)
        result = machines.run("true", PLAIN)
        assert result.stage is Stage.ENTERING
        assert "damaged" in result.detail, result
    largest.write_bytes(whole)
    assert machines.run("true", PLAIN).exit_code == 0


@pytest.mark.slow
def test_without_a_shell_or_with_an_emptied_cache(machines: Machines, layout: Layout) -> None:
    assert machines.run("true", PLAIN).exit_code == 0
    shutil.rmtree(machines.folder / "host/images/storage-overlay")
    assert machines.run("true", PLAIN).exit_code == 0
    bare = add_busybox(layout, "x/bare", "latest", {"bin/.wh.sh": ""})
    machines.image = Pinned("bare", layout.url, "x/bare", bare.digest)
    assert "/bin/sh" in machines.run("true", PLAIN).detail


@pytest.mark.slow
def test_where_nothing_can_be_laid_over_anything_files_are_copied(machines: Machines, tmp_path: Path) -> None:
    fake = tmp_path / "bin"
    fake.mkdir()
    (fake / "mount").write_text('#!/bin/sh\ncase "$*" in *overlay*) exit 32;; esac\nexec /bin/mount "$@"\n')
    (fake / "mount").chmod(0o755)
    machines.environ["PATH"] = f"{fake}:{os.environ['PATH']}"
    assert machines.run("cat /marker", PLAIN).exit_code == 0
    assert machines.output() == b"latest"
    assert (machines.folder / "host/images/storage-vfs").exists()
    machines.lose()
    assert machines.run("cat /marker", PLAIN).exit_code == 0
    assert machines.events(ImageReady)[0].here


@pytest.mark.slow
def test_images_that_nobody_uses_are_forgotten(machines: Machines, layout: Layout) -> None:
    assert machines.run("true", PLAIN).exit_code == 0
    marks = machines.folder / "host/images/fetched-overlay"
    (old,) = marks.glob("*.json")
    os.utime(old, (1, 1))
    newer = add_busybox(layout, "x/box", "latest", {"marker": "newer"})
    machines.image = Pinned("box", layout.url, "x/box", newer.digest)
    assert machines.run("cat /marker", PLAIN).exit_code == 0
    assert machines.output() == b"newer"
    assert [mark.stem for mark in marks.glob("*.json")] == [newer.digest.partition(":")[2]]


def fetching(machines: Machines) -> bool:
    return any((machines.folder / "host/images/tmp").iterdir())


def unpacking(machines: Machines) -> bool:
    return (machines.disk / "image/storage").exists()


def mounting(machines: Machines) -> bool:
    return bool(mounted(machines.disk / "image"))


def running(machines: Machines) -> bool:
    return b"up" in machines.output()


@pytest.mark.slow
@pytest.mark.parametrize("phase", [fetching, unpacking, mounting, running])
def test_a_machine_that_is_killed_leaves_nothing_mounted_and_the_next_one_goes_on(
    machines: Machines, phase: Callable[[Machines], bool]
) -> None:
    for _ in range(2):
        process = machines.start("echo up; sleep 600", PLAIN)
        until = time.monotonic() + 30
        while not _holds(phase, machines):
            assert time.monotonic() < until, machines.agent_log()
        process.kill()
        process.wait()
        machines.wait_for(lambda: mounted(machines.folder) == [])
        machines.lose()
    assert machines.run("cat /marker", PLAIN).exit_code == 0
    assert machines.output() == b"latest"
    assert not fetching(machines)


@pytest.mark.slow
def test_a_machine_that_is_killed_at_any_moment(machines: Machines) -> None:
    began = time.monotonic()
    assert machines.run("true", PLAIN).exit_code == 0
    took = time.monotonic() - began
    for part in range(1, 13):
        if part % 3 == 0:
            shutil.rmtree(machines.folder / "host", ignore_errors=True)
        process = machines.start("true", PLAIN)
        time.sleep(took * part / 13)
        process.kill()
        process.wait()
        machines.wait_for(lambda: mounted(machines.folder) == [])
    assert machines.run("cat /marker", PLAIN).exit_code == 0
    assert machines.output() == b"latest"


def descendants(pid: int) -> list[int]:
    """Of a process, the nearest first."""
    found = [pid]
    for one in found:
        for path in Path(f"/proc/{one}/task").glob("*/children"):
            found += [int(word) for word in path.read_text().split()]
    return found[1:]


def _holds(phase: Callable[[Machines], bool], machines: Machines) -> bool:
    try:
        return phase(machines)
    except OSError:
        return False


@pytest.mark.slow
def test_machines_of_one_host_that_start_at_once_fetch_once(machines: Machines, tmp_path: Path) -> None:
    (tmp_path / "others").mkdir()
    with docker_registry(tmp_path) as url:
        made = add_busybox(open_registry(url, {}), "x/box", "latest")
        crowd = []
        for number in range(3):
            (tmp_path / f"others/{number}").mkdir()
            one = Machines(tmp_path / f"others/{number}", **{"hello.txt": "hello"})
            one.environ, one.image = dict(machines.environ), Pinned("box", url, "x/box", made.digest)
            one.start("cat /marker; echo $PPID >> /mine; cat /mine", PLAIN)
            crowd.append(one)
        assert [one.wait().exit_code for one in crowd] == [0, 0, 0]
    told = [one.events(ImageReady)[0] for one in crowd]
    assert sorted(event.here for event in told) == [False, True, True]
    # What one writes into its root, no other one sees.
    assert all(one.output().startswith(b"latest") and one.output().count(b"\n") == 1 for one in crowd)
