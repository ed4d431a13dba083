"""A project whose machines nobody takes, with programs that take no time."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from spotweld.cli.main import program
from spotweld.project.reading import load_project
from spotweld.providers.opening import open_provider
from spotweld.runs.drive import is_driven, log_path
from spotweld.runs.log import EventLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from spotweld.runs.states import RunState

MARK = "SPOTWELD_TEST_TREE"
PROJECT = """\
name: small
jobs:
  train: {command: python train.py, checkpoint: {every: 10 steps}, retry: {failures: 0}}
  say: {command: "echo out; echo err >&2; printf 'no end of line'"}
  fail: {command: "echo about to fail; exit 3", retry: {failures: 0}}
  unset: {setup: "echo set-up; exit 4", command: echo never, retry: {failures: 0}}
  sleepy: {command: "echo ready; sleep 300"}
  dear: {command: sleep 300, budget: 0.0001 USD}
  late: {command: sleep 300, max_duration: 1s}
placement: {interruptions: 100, window: 1h, avoid: 0.1s, back_off: 0.2s}
providers: {local: {zones: {a: {spot: 1 USD, on_demand: 3 USD, machines: 9}}, up: 9000d}}
"""
TRAIN = """\
import os, sys, time
import numpy as np
from spotweld import Checkpointer
seed, steps, nap = (float(os.environ.get(name, known)) for name, known in (("SEED", 1), ("STEPS", 30), ("NAP", 0)))
weights = np.zeros(1000)
checkpointer = Checkpointer({"weights": weights})
for step in checkpointer.steps(int(steps)):
    weights += seed
    checkpointer.log(loss=seed / (step + 1))
    time.sleep(nap)
print(f"trained with seed {seed:.0f}")
"""


class Here:
    """A project in a folder of its own, and the command line in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = secrets.token_hex(8)
        (folder / "spotweld.yaml").write_text(PROJECT)
        (folder / "train.py").write_text(TRAIN)
        self.local = load_project(folder / "spotweld.yaml").local
        self.environ = {MARK: self.mark, "XDG_CONFIG_HOME": str(folder / "home"), "NO_COLOR": "1", "TERM": "dumb"}

    @property
    def state(self) -> Path:
        return self.folder / ".spotweld"

    def call(self, *words: str, **more: Any) -> Result:  # noqa: ANN401 - CliRunner's
        """The verb in this process."""
        result = CliRunner().invoke(program, ["-C", str(self.folder), *words], env=self.environ, **more)
        assert "Traceback" not in result.output
        return result

    def start(self, *words: str, **more: Any) -> subprocess.Popen[str]:  # noqa: ANN401 - Popen's
        """The verb in a process of its own."""
        code = "from spotweld.cli.main import main; main()"
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(
            [sys.executable, "-c", code, *words], cwd=self.folder, env=os.environ | self.environ, **(pipes | more)
        )

    def run(self, name: str) -> RunState:
        log = EventLog(log_path(self.state))
        try:
            return log.state(name)
        finally:
            log.close()

    def wait_for(self, name: str, what: Callable[[RunState], object]) -> RunState:
        until = time.monotonic() + 60
        while True:
            with contextlib.suppress(Exception):
                if what(self.run(name)):
                    return self.run(name)
            assert time.monotonic() < until, f"{name} did not come so far"
            time.sleep(0.05)

    def controllers(self) -> list[int]:
        return [pid for pid in self._marked() if b"spotweld.runs.drive" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def clean_up(self) -> None:
        """Kill controllers and supervisors; a cloud that is asked ends the machines that they leave behind."""
        while found := self._marked():
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        open_provider(self.state, self.local).machines({})

    def is_driven(self, name: str) -> bool:
        return is_driven(self.state, name)

    def _marked(self) -> list[int]:
        wanted = f"{MARK}={self.mark}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
        return found


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Here]:
    """A project with nothing in it yet."""
    project = Here(tmp_path)
    yield project
    project.clean_up()


@pytest.fixture(scope="session")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    """A project with four runs that have ended. For reading."""
    project = Here(tmp_path_factory.mktemp("lived"))
    for name, job, *more in (
        ("calm", "train"),
        ("again", "train"),
        ("other", "train", "--env", "SEED=2"),
        ("failed", "fail"),
    ):
        assert project.call("launch", job, "--name", name, "-y", "--detach", *more).exit_code == 0
    for name in ("calm", "again", "other", "failed"):
        project.wait_for(name, lambda state: state.outcome is not None)
    yield project
    project.clean_up()
