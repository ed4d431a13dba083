"""The agent as a process on a machine of its own, and what it leaves in the store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from spotweld.checkpoint.hazard import USUAL, read
from spotweld.errors import NotFound
from spotweld.preemption.metadata_server import MetadataServer
from spotweld.preemption.notices import Kind
from spotweld.project.nouns import CheckpointPolicy
from spotweld.runs.reports import Result, Spec, Stage, Status, over_key, result_key, spec_key, status_key
from spotweld.runs.shipping import Reader
from spotweld.runs.source import freeze, scan
from spotweld.store.opening import open_store
from spotweld.values import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DRIVER = Path(__file__).with_name("agent_driver.py")
UNTIL = "until [ -e {0} ]; do sleep 0.02; done"
WHILE = "while [ -e {0} ]; do sleep 0.02; done"
NOTICE = '"$SPOTWELD_NOTICE_FILE"'


class Place:
    """A machine and the store that it reports to."""

    def __init__(self, folder: Path) -> None:
        self.disk = folder / "disk"
        self.disk.mkdir()
        self.url = f"file:{folder / 'store'}"
        self.objects = open_store(self.url)
        self.environ: dict[str, str] = {}
        work = folder / "job"
        work.mkdir()
        (work / "hello.txt").write_text("hello from the job\n")
        self.source = scan(work)
        freeze(work, self.source, self.objects)
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, command: str, setup: str = "", driver: tuple[str, ...] = (), **env: str) -> subprocess.Popen[bytes]:
        spec = Spec("r", 1, self.source.key, command, setup, env, CheckpointPolicy(), USUAL)
        self.objects.put(spec_key("r", 1), msgspec.json.encode(spec))
        environ = os.environ | self.environ
        environ |= {environment.RUN_ID: "r", environment.ATTEMPT: "1", environment.STORE: self.url}
        what = [str(DRIVER), *driver] if driver else ["-m", "spotweld.runs.agent"]
        with (self.disk / "agent.log").open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *what], cwd=self.disk, env=environ, stdout=output, stderr=output
            )
        self.processes.append(process)
        return process

    def run(self, command: str, setup: str = "", driver: tuple[str, ...] = (), **env: str) -> Result:
        process = self.start(command, setup, driver, **env)
        assert process.wait(60) == 0, (self.disk / "agent.log").read_text()
        return self.result()

    def result(self) -> Result:
        return msgspec.json.decode(self.objects.get(result_key("r", 1)), type=Result)

    def status(self) -> Status | None:
        try:
            return msgspec.json.decode(self.objects.get(status_key("r", 1)), type=Status)
        except NotFound:
            return None

    def shipped(self, stream: str) -> bytes:
        return b"".join(Reader(self.objects, "r", 1, stream).pieces())

    def wait_for(self, what: Callable[[], object]) -> None:
        until = time.monotonic() + 30
        while not what():
            assert time.monotonic() < until, (self.disk / "agent.log").read_text()
            time.sleep(0.02)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    for process in place.processes:
        process.kill()
        process.wait()


def test_the_command_runs_among_the_frozen_files_and_all_it_says_is_shipped(place: Place) -> None:
    big = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done"
    result = place.run(
        f'cat hello.txt; {big}; echo "$GREETING" >&2; echo \'{{"x": 1}}\' >> "$SPOTWELD_EVENTS_FILE"', GREETING="hi"
    )
    assert (result.stage, result.exit_code, result.notice) == (Stage.RUNNING, 0, None)
    lines = place.shipped("log").decode().splitlines()
    assert lines == ["hello from the job", *(f"line {n}" for n in range(20000)), "hi"]
    assert place.shipped("events") == b'{"x": 1}\n'
    status = place.status()
    assert status is not None
    assert status.beat >= 1


@pytest.mark.parametrize(
    ("command", "code"), [("exit 3", 3), ("kill -9 $$", 137), ("exec false", 1), ("no-such-program", 127)]
)
def test_exit_codes_are_told_as_a_shell_does(place: Place, command: str, code: int) -> None:
    assert place.run(command).exit_code == code


def test_a_set_up_that_fails_is_told_and_the_command_is_not_run(place: Place) -> None:
    result = place.run("echo the command", "echo the set-up; exit 4")
    assert (result.stage, result.exit_code) == (Stage.SETTING_UP, 4)
    assert "exit 4" in result.detail
    assert place.shipped("log") == b"the set-up\n"


def test_the_set_up_and_the_command_share_a_folder(place: Place) -> None:
    assert place.run("cat made", "echo made by the set-up > made").exit_code == 0
    assert place.shipped("log") == b"made by the set-up\n"


def test_the_process_knows_its_run_and_not_the_metadata_service(place: Place) -> None:
    with MetadataServer() as server:
        place.environ[environment.METADATA] = server.url
        assert place.run("env").exit_code == 0
    found = dict(line.split("=", 1) for line in place.shipped("log").decode().splitlines() if "=" in line)
    assert found[environment.RUN_ID] == "r"
    assert found[environment.ATTEMPT] == "1"
    assert read(found[environment.HAZARD]) == USUAL
    assert 0 <= time.time() - float(found[environment.MACHINE_STARTED]) < 60
    assert msgspec.json.decode(found[environment.CHECKPOINT], type=CheckpointPolicy) == CheckpointPolicy()
    assert environment.METADATA not in found


def test_term_reaches_a_program_that_knows_nothing_of_spotweld(place: Place) -> None:
    process = place.start("trap 'echo termed; exit 7' TERM; echo ready; while :; do sleep 0.02; done")
    place.wait_for(lambda: b"ready" in place.shipped("log"))
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    result = place.result()
    assert (result.exit_code, result.notice is not None and result.notice.source) == (7, "signal")
    assert place.shipped("log").splitlines()[-1] == b"termed"


def test_a_program_that_ignores_term_is_left_to_the_machine(place: Place) -> None:
    process = place.start(f"trap '' TERM; echo ready; {UNTIL.format('go')}; exit 0")
    place.wait_for(lambda: b"ready" in place.shipped("log"))
    process.send_signal(signal.SIGTERM)
    place.wait_for(lambda: (status := place.status()) is not None and status.notice is not None)
    (place.disk / "work/go").touch()
    assert process.wait(30) == 0
    assert place.result().exit_code == 0


def test_a_notice_comes_and_goes(place: Place) -> None:
    with MetadataServer() as server:
        place.environ[environment.METADATA] = server.url
        process = place.start(f"echo ready; {UNTIL.format(NOTICE)}; echo came; {WHILE.format(NOTICE)}; echo went")
        place.wait_for(lambda: b"ready" in place.shipped("log"))
        server.announce(Kind.TERMINATE, time.time() + 100)
        place.wait_for(lambda: b"came" in place.shipped("log"))
        place.wait_for(lambda: (status := place.status()) is not None and status.notice is not None)
        server.withdraw()
        assert process.wait(30) == 0
    assert place.shipped("log") == b"ready\ncame\nwent\n"
    assert place.result().notice is None


def test_who_leaves_as_resumable_had_a_notice_even_if_it_was_taken_back(place: Place) -> None:
    with MetadataServer() as server:
        place.environ[environment.METADATA] = server.url
        process = place.start(f"echo ready; {UNTIL.format(NOTICE)}; echo came; {WHILE.format(NOTICE)}; exit 75")
        place.wait_for(lambda: b"ready" in place.shipped("log"))
        server.announce(Kind.TERMINATE, time.time() + 100)
        place.wait_for(lambda: b"came" in place.shipped("log"))
        server.withdraw()
        assert process.wait(30) == 0
    result = place.result()
    assert (result.exit_code, result.notice is not None and result.notice.source) == (75, "aws")


@pytest.mark.parametrize("down", [("0", "2"), ("0.5", "2.5")])
def test_a_store_that_is_down_for_a_while_loses_nothing(place: Place, down: tuple[str, str]) -> None:
    command = "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.1; done"
    assert place.run(command, driver=("no-answer", *down)).exit_code == 0
    assert place.shipped("log") == b"1\n2\n3\n4\n5\n6\n7\n8\n"
    assert "trying again" in (place.disk / "agent.log").read_text()


def test_lost_answers_neither_double_nor_lose_output(place: Place) -> None:
    command = "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.1; done"
    assert place.run(command, driver=("answer-lost", "0", "1.2")).exit_code == 0
    assert place.shipped("log") == b"1\n2\n3\n4\n5\n6\n7\n8\n"


def test_a_store_that_hangs_keeps_no_notice_from_the_program(place: Place) -> None:
    with MetadataServer() as server:
        place.environ[environment.METADATA] = server.url
        command = f"echo ready > {place.disk}/ready; {UNTIL.format(NOTICE)}; echo came > {place.disk}/came; exit 75"
        process = place.start(command, driver=("slow", "0", "20", "status.json"))
        place.wait_for((place.disk / "ready").exists)
        server.announce(Kind.TERMINATE, time.time() + 100)
        assert process.wait(15) == 0
    assert (place.disk / "came").exists()
    assert place.result().exit_code == 75


def test_a_notice_that_the_disk_does_not_take_is_passed_on_as_soon_as_it_does(place: Place) -> None:
    with MetadataServer() as server:
        place.environ[environment.METADATA] = server.url
        command = f"echo ready > {place.disk}/ready; until [ -f {NOTICE} ]; do sleep 0.02; done; exit 75"
        # It stands for a full disk: nothing can be put there.
        (place.disk / "notice.json").mkdir()
        process = place.start(command)
        place.wait_for((place.disk / "ready").exists)
        server.announce(Kind.TERMINATE, time.time() + 100)
        place.wait_for(lambda: "cannot be forwarded" in (place.disk / "agent.log").read_text())
        place.wait_for(lambda: (status := place.status()) is not None and status.notice is not None)
        (place.disk / "notice.json").rmdir()
        assert process.wait(15) == 0
    assert place.result().exit_code == 75
    assert (place.disk / "agent.log").read_text().count("cannot be forwarded") == 1


def test_term_during_the_last_words_does_not_cut_them_off(place: Place) -> None:
    process = place.start("exit 5", driver=("slow", "0", "2", "result.json"))
    place.wait_for(lambda: "hanging" in (place.disk / "agent.log").read_text())
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert place.result().exit_code == 5


def test_what_is_left_in_the_background_does_not_hold_the_result_up(place: Place) -> None:
    began = time.monotonic()
    assert place.run("sleep 60 & echo $!").exit_code == 0
    assert time.monotonic() - began < 30
    os.kill(int(place.shipped("log")), signal.SIGKILL)


def test_the_process_dies_with_the_agent(place: Place) -> None:
    process = place.start("echo $$; exec sleep 60")
    place.wait_for(lambda: place.shipped("log"))
    pid = int(place.shipped("log"))
    process.kill()
    process.wait()
    place.wait_for(lambda: not Path(f"/proc/{pid}").exists() or "(zombie)" in Path(f"/proc/{pid}/status").read_text())


def test_an_attempt_that_is_over_is_not_begun(place: Place) -> None:
    place.objects.put(over_key("r", 1), b"cancelled")
    process = place.start("echo it ran > ../ran")
    assert process.wait(30) == 0
    assert not (place.disk / "ran").exists()
    with pytest.raises(NotFound):
        place.result()


def test_frozen_files_that_are_damaged_are_told_and_not_run(place: Place) -> None:
    key = next(meta.key for meta in place.objects.list("blobs/"))
    place.objects.put(key, b"HELLO from the job\n")
    result = place.run("echo ran")
    assert (result.stage, result.exit_code) == (Stage.PREPARING, 1)
    assert "Corrupt" in result.detail
    assert place.shipped("log") == b""


def test_a_command_that_cannot_be_started_is_a_failure_and_not_a_silent_death(place: Place) -> None:
    result = place.run("true", HUGE="x" * 200_000)
    assert (result.stage, result.exit_code) == (Stage.RUNNING, 1)
    assert "OSError" in result.detail
