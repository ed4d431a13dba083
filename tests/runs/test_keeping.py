"""Programs that know nothing of Spotweld on machines that go away: the agent keeps their directory."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace
from tests.runs.killing import Point, strace
from tests.runs.machines import POLICY, Machines

from spotweld.checkpoint import events
from spotweld.errors import NotFound
from spotweld.preemption.metadata_server import MetadataServer
from spotweld.preemption.notices import Kind
from spotweld.project.nouns import EverySeconds
from spotweld.runs.reports import Stage
from spotweld.store.heads import read_head, take_over
from spotweld.values import environment

if TYPE_CHECKING:
    from collections.abc import Iterator
RARELY = replace(POLICY, every=EverySeconds(3600))
COUNT = """
mkdir -p out
n=$(cat out/n 2>/dev/null || echo 0)
echo "from $n"
while [ "$n" -lt "$1" ]; do
    n=$((n + 1))
    echo "$n" > out/n.new
    mv out/n.new out/n
    echo "line $n" >> out/log
    sleep 0.05
done
"""


EXAMPLE = Path(__file__).parents[2] / "examples/anyprogram/simulate.sh"
ROWS, STEPS = 150, 400


EXAMPLE = Path(__file__).parents[2] / "examples/anyprogram/simulate.sh"
ROWS, STEPS = 3000, 4000


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    machines = Machines(tmp_path, **{"count.sh": COUNT})
    yield machines
    machines.end()


def test_a_program_goes_on_where_the_last_snapshot_was(machines: Machines) -> None:
    machines.start("sh count.sh 1000")
    machines.wait_for(lambda: len(machines.events(events.Saved)) > 2)
    saved = machines.events(events.Saved)
    machines.lose()
    machines.start("sh count.sh 1000")
    machines.wait_for(lambda: machines.output() and machines.events(events.Restored))
    (restored,) = machines.events(events.Restored)
    assert restored.step >= saved[-1].step
    start = int(machines.output().split()[1])
    assert start > 0
    machines.wait_for(lambda: int((machines.out / "n").read_text()) > start + 3)
    lines = (machines.out / "log").read_text().splitlines()
    assert lines[start - 1] in {f"line {start}", f"line {start - 1}"}


def test_at_the_end_the_last_state_is_durable_and_a_finished_program_is_not_run_again(machines: Machines) -> None:
    result = machines.run("sh count.sh 3", replace(POLICY, directory="out/"))
    assert (result.exit_code, result.detail) == (0, "")
    assert machines.events(events.Saved)[-1].reason == "final"
    assert machines.events(events.Finished)
    result = machines.run("sh count.sh 3")
    assert (result.stage, result.exit_code) == (Stage.RUNNING, 0)
    assert machines.output() == b""
    assert (machines.out / "n").read_text() == "3\n"
    assert (machines.out / "log").read_text() == "line 1\nline 2\nline 3\n"


def test_a_program_that_fails_starts_again_from_before_it_failed(machines: Machines) -> None:
    machines.start("sh count.sh 5; echo broken > out/n; exit 3", RARELY)
    assert machines.wait().exit_code == 3
    assert machines.events(events.Saved) == []


def test_a_program_that_term_ends_is_saved_as_it_left(machines: Machines) -> None:
    process = machines.start("exec sh count.sh 1000", RARELY)
    machines.wait_for(lambda: int((machines.out / "n").read_text()) > 2)
    process.send_signal(signal.SIGTERM)
    result = machines.wait()
    assert (result.exit_code, result.notice is not None and result.notice.source) == (143, "signal")
    assert machines.events(events.Saved)
    stopped = (machines.out / "n").read_text()
    machines.lose()
    machines.start("cat out/n")
    assert machines.wait().exit_code == 0
    assert machines.output().decode() == stopped


def test_a_notice_is_answered_at_once_and_again_before_the_machine_goes(machines: Machines) -> None:
    with MetadataServer() as server:
        machines.environ[environment.METADATA] = server.url
        machines.start("sh count.sh 100000", RARELY)
        machines.wait_for(lambda: int((machines.out / "n").read_text()) > 2)
        server.announce(Kind.TERMINATE, time.time() + 4)
        machines.wait_for(lambda: len(machines.events(events.Saved)) > 1)
    assert [event.reason for event in machines.events(events.Saved)] == ["notice", "emergency"]
    assert machines.events(events.Noticed)
    assert [event.decision for event in machines.events(events.Emergency)] == ["full"]


def test_whoever_was_declared_dead_stops_its_program(machines: Machines) -> None:
    machines.start("sh count.sh 100000")
    machines.wait_for(lambda: machines.events(events.Saved))
    take_over(machines.objects, "r", 2)
    result = machines.wait()
    assert result.exit_code == 75
    assert "taken over" in result.detail
    assert machines.events(events.Fenced)


def test_an_attempt_that_comes_too_late_does_not_run(machines: Machines) -> None:
    take_over(machines.objects, "r", 2)
    result = machines.run("echo ran")
    assert result.exit_code == 75
    assert machines.output() == b""


def test_damage_is_told_and_the_snapshot_before_is_used(machines: Machines) -> None:
    machines.start("sh count.sh 1000")
    machines.wait_for(lambda: len(machines.events(events.Saved)) > 3)
    machines.lose()
    head = read_head(machines.objects, "r")
    assert head is not None
    newest = head.kept[0].key
    machines.objects.put(newest, b"x" + machines.objects.get(newest)[1:])
    machines.start("sh count.sh 1000")
    machines.wait_for(lambda: machines.output() and machines.events(events.Restored))
    (restored,) = machines.events(events.Restored)
    assert [damage.step for damage in restored.damaged] == [restored.step + 1]
    assert int(machines.output().split()[1]) > 0


def test_without_a_directory_the_program_runs_all_the_same(machines: Machines) -> None:
    assert machines.run("echo no directory").exit_code == 0
    assert machines.events(events.Saved) == []
    with pytest.raises(NotFound):
        machines.objects.get("runs/r/manifests")


def undisturbed(folder: Path) -> dict[str, str]:
    """What the example's program leaves in its directory without Spotweld and without kills."""
    folder.mkdir()
    environ = {"PATH": "/usr/bin:/bin", "ROWS": str(ROWS), "STEPS": str(STEPS)}
    subprocess.run([EXAMPLE], cwd=folder, env=environ, check=True, capture_output=True)
    return left(folder / "out")


def left(out: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in out.iterdir()}


POINTS = [
    *(Point("rename", number) for number in (1, 2)),
    *(Point("fsync", number) for number in (1, 4, 7, 9)),
    *(Point("pwrite64", number) for number in (1, 2, 3)),
    *(Point("link", number) for number in (1, 3, 6)),
    *(Point("mkdir", number) for number in (1, 5)),
    *(Point(call, 1) for call in ("unlink", "utimensat", "truncate", "chmod", "kill")),
    *[None] * 8,
]
"""At a system call of the agent, in saving or in restoring, whichever comes to it; None: after some time."""


@pytest.mark.slow
def test_a_machine_lost_at_any_moment_costs_nothing_that_was_saved(tmp_path: Path) -> None:
    machines = Machines(tmp_path, **{"simulate.sh": EXAMPLE.read_text()})
    sizes = {"ROWS": str(ROWS), "STEPS": str(STEPS)}
    dice, resumed, called = random.Random(5), [0], 0
    try:
        for point in POINTS:
            prefix = strace(point, "-f", "-b", "execve") if point else []
            process = machines.start("exec sh simulate.sh", POLICY, prefix, **sizes)
            with contextlib.suppress(subprocess.TimeoutExpired):
                called += process.wait(3 if point else 0.5 + dice.random()) != 0
            resumed += [event.step for event in machines.events(events.Restored)]
            with pytest.raises(NotFound):
                machines.result()  # nobody came to an end
            machines.lose()
        assert machines.run("exec sh simulate.sh", **sizes).exit_code == 0
    finally:
        machines.end()
    assert called >= len(POINTS) // 2
    assert resumed == sorted(resumed)
    assert resumed[-1] > 5
    assert left(machines.out) == undisturbed(tmp_path / "peace")
