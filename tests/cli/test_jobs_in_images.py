"""Jobs with an image, the whole way: launched, their machines taken and killed, resumed, done; nothing is left."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.images.busybox import add_busybox
from tests.images.servers import docker_registry

from spotweld.images.registries.opening import open_registry
from spotweld.providers.local import records
from spotweld.runs.events import Cause, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.conftest import Here

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

COUNT = """\
keep=${SPOTWELD_STORE#file:}/kept
trap 'echo told to go at $n; exit 75' TERM
n=$(cat $keep 2>/dev/null || echo 0)
echo attempt $SPOTWELD_ATTEMPT in image $IN_IMAGE goes on from $n
while test $n -lt ${UNTIL:-60}; do n=$(expr $n + 1); echo $n > $keep; sleep 0.05; done
echo counted to $n
"""
DIRECTORY = """\
mkdir -p out; n=$(cat out/n 2>/dev/null || echo 0); echo goes on from $n
while test $n -lt 150; do n=$(expr $n + 1); echo $n > out/t; mv out/t out/n; sleep 0.03; done
"""
JOBS = """\
jobs:
  count: {image: IMAGE, setup: "echo set up >> /log", command: sh count.sh}
  directory: {image: IMAGE, command: sh directory.sh, checkpoint: {directory: out/, every: 0.3s}}
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with docker_registry(tmp_path) as url:
        yield url


@pytest.fixture
def boxed(small: Here, server: str) -> Here:
    jobs = JOBS.replace("IMAGE", f"'{server.removeprefix('http://')}/x/box:latest'")
    text = (small.folder / "spotweld.yaml").read_text()
    (small.folder / "spotweld.yaml").write_text(text.replace("jobs:\n", jobs, 1))
    (small.folder / "count.sh").write_text(COUNT)
    (small.folder / "directory.sh").write_text(DIRECTORY)
    build(server, "first")
    return small


def build(server: str, marker: str) -> None:
    add_busybox(open_registry(server, {}), "x/box", "latest", {"marker": marker})


def launch(here: Here, job: str, *more: str) -> None:
    assert here.call("launch", job, "--name", "it", "-y", "--detach", *more).exit_code == 0


def said(here: Here, word: str) -> Callable[[object], bool]:
    return lambda _: word in here.call("logs", "it").stdout


def watch(here: Here) -> None:
    assert here.call("watch", "it").exit_code == 0
    assert here.run("it").outcome is Outcome.DONE


def nothing_is_left(here: Here) -> None:
    for info in Path("/proc").glob("[0-9]*/mountinfo"):
        try:
            text = info.read_text()
        except OSError:
            continue
        assert str(here.folder) not in text
    assert not list((here.state / "cloud/machines").glob("*/disk"))
    assert not list((here.state / "cloud/cache/images/tmp").iterdir())


def test_it_is_launched_taken_and_resumed_in_the_same_bits(boxed: Here, server: str) -> None:
    said_first = boxed.call("launch", "count", "--name", "it", "-y", "--detach").stderr
    pinned = boxed.run("it").image
    assert pinned is not None
    assert f"image     {pinned.name}: {pinned.digest}" in said_first
    build(server, "second")
    boxed.wait_for("it", said(boxed, "attempt 1 in image yes goes on from 0"))
    assert boxed.call("preempt", "it", "--notice", "1s").exit_code == 0
    watch(boxed)
    state = boxed.run("it")
    assert [attempt.cause for attempt in state.attempts] == [Cause.PREEMPTED, Cause.DONE]
    assert state.attempts[0].exit_code == 75
    assert state.image == pinned
    assert len(list((boxed.state / "cloud/cache/images/fetched-overlay").glob("*.json"))) == 1
    told = boxed.call("logs", "it").stdout
    left = int(told.partition("told to go at ")[2].split()[0])
    assert left > 0
    assert f"attempt 2 in image yes goes on from {left}" in told
    assert "counted to 60" in told
    assert "this host had it" in boxed.call("watch", "it").stderr
    nothing_is_left(boxed)


def test_a_directory_is_kept_when_the_machine_vanishes(boxed: Here) -> None:
    launch(boxed, "directory")
    boxed.wait_for("it", lambda _: saved(boxed))
    assert boxed.call("preempt", "it", "--notice", "none").exit_code == 0
    watch(boxed)
    began = [int(line.split()[-1]) for line in boxed.call("logs", "it").stdout.splitlines() if "goes on" in line]
    assert began[0] == 0
    assert began[1] > 0
    nothing_is_left(boxed)


def saved(here: Here) -> bool:
    return here.call("checkpoint", "ls", "it", "--json").stdout.count('"step"') > 1


@pytest.mark.parametrize("phase", ["fetching", "unpacking", "running"])
def test_a_machine_that_is_killed_at_once_leaves_nothing(boxed: Here, phase: str) -> None:
    signs = {
        "fetching": lambda: any((boxed.state / "cloud/cache/images/tmp").iterdir()),
        "unpacking": lambda: any((boxed.state / "cloud/machines").glob("*/disk/image/storage")),
        "running": lambda: "goes on" in boxed.call("logs", "it").stdout,
    }
    launch(boxed, "count", "--env", "UNTIL=20")
    boxed.wait_for("it", lambda _: signs[phase]())
    (machine,) = (boxed.state / "cloud/machines").iterdir()
    supervisor = records.read(machine / "supervisor.json", records.Supervisor)
    assert supervisor is not None
    os.kill(supervisor.pid, signal.SIGKILL)
    watch(boxed)
    causes = [attempt.cause for attempt in boxed.run("it").attempts]
    assert causes == [Cause.PREEMPTED_UNNOTICED, Cause.DONE]
    assert "counted to 20" in boxed.call("logs", "it").stdout
    nothing_is_left(boxed)


def test_a_pool_has_image_and_set_up_ready(boxed: Here, server: str) -> None:
    file = boxed.folder / "spotweld.yaml"
    pools = "pools:\n  counting: {job: count}\n  keeping: {job: directory}\n"
    text = file.read_text().replace("placement:", f"{pools}placement:")
    # The registry writes into the project's folder, and other files are another preparation.
    (boxed.folder / "files").mkdir()
    (boxed.folder / "count.sh").rename(boxed.folder / "files/count.sh")
    file.write_text(text.replace("command: sh count.sh", "command: sh count.sh, workdir: files"))
    up = boxed.call("pool", "up", "-y")
    assert up.exit_code == 0, up.output
    launch(boxed, "count", "--env", "UNTIL=3")
    watch(boxed)
    assert boxed.run("it").attempts[0].drawn is None, "the set-up might have seen that variable"
    assert boxed.call("launch", "count", "--name", "counted", "-y").exit_code == 0
    (attempt,) = boxed.run("counted").attempts
    assert attempt.drawn is not None
    assert "attempt 1 in image yes" in boxed.call("logs", "counted").stdout
    assert boxed.call("launch", "directory", "--name", "kept", "-y", "--detach").exit_code == 0
    running = boxed.wait_for("kept", lambda state: state.attempts[0].running)
    assert running.attempts[0].drawn is not None
    assert boxed.call("preempt", "kept", "--notice", "1s").exit_code == 0
    assert boxed.call("watch", "kept").exit_code == 0
    assert [attempt.cause for attempt in boxed.run("kept").attempts] == [Cause.PREEMPTED, Cause.DONE]
    build(server, "second")
    assert "pool " not in boxed.call("plan", "count").stdout, "another image, another preparation"
    for pool in ("counting", "keeping"):
        assert boxed.call("pool", "down", pool).exit_code == 0
    nothing_is_left(boxed)
