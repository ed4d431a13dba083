"""Machines one after another for one run, each an agent as a process with a disk of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import msgspec
from tests.runs.killing import MARK, kill_marked

from spotweld.checkpoint.events import parse_event
from spotweld.checkpoint.hazard import STEADY
from spotweld.errors import NotFound
from spotweld.images.containers.rooting import ALONE
from spotweld.project.nouns import CheckpointPolicy, EverySeconds
from spotweld.runs.reports import Result, Spec, result_key, spec_key
from spotweld.runs.shipping import Reader
from spotweld.runs.source import freeze, scan
from spotweld.store.opening import open_store
from spotweld.values import environment
from spotweld.values.environment import HOST_CACHE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from spotweld.images.containers.pinning import Pinned

POLICY = CheckpointPolicy(EverySeconds(0.05), directory="out")


class Machines:
    """A store, and the machines that came and went.

    Args:
        folder: for all of them.
        files: of the job: name and text.
    """

    def __init__(self, folder: Path, **files: str) -> None:
        self.folder = folder
        self.url = f"file:{folder / 'store'}"
        self.objects = open_store(self.url)
        work = folder / "job"
        work.mkdir()
        for name, text in files.items():
            (work / name).write_text(text)
        self.source = scan(work)
        freeze(work, self.source, self.objects)
        self.attempt = 0
        self.mark = secrets.token_hex(8)
        self.process: subprocess.Popen[bytes] | None = None
        self.environ: dict[str, str] = {HOST_CACHE: str(folder / "host")}
        self.image: Pinned | None = None

    @property
    def disk(self) -> Path:
        return self.folder / f"disk-{self.attempt}"

    @property
    def out(self) -> Path:
        return self.disk / "work/out"

    def start(
        self, command: str, policy: CheckpointPolicy = POLICY, prefix: Sequence[str] = (), **env: str
    ) -> subprocess.Popen[bytes]:
        """The next attempt, on a new machine, whose agent runs under ``prefix``."""
        self.attempt += 1
        self.disk.mkdir()
        spec = Spec("r", self.attempt, self.source.key, command, "", env, policy, STEADY, self.image)
        self.objects.put(spec_key("r", self.attempt), msgspec.json.encode(spec))
        ours = {environment.RUN_ID: "r", environment.ATTEMPT: str(self.attempt), environment.STORE: self.url}
        with (self.disk / "agent.log").open("wb") as output:
            self.process = subprocess.Popen(
                [*prefix, *(ALONE if self.image else ()), sys.executable, "-m", "spotweld.runs.agent"],
                cwd=self.disk,
                env=os.environ | self.environ | ours | {MARK: self.mark},
                stdout=output,
                stderr=output,
            )
        return self.process

    def run(self, command: str, policy: CheckpointPolicy = POLICY, **env: str) -> Result:
        """The next attempt, until it ends by itself."""
        self.start(command, policy, **env)
        return self.wait()

    def wait(self) -> Result:
        assert self.process is not None
        assert self.process.wait(60) == 0, self.agent_log()
        return self.result()

    def result(self) -> Result:
        return msgspec.json.decode(self.objects.get(result_key("r", self.attempt)), type=Result)

    def lose(self) -> None:
        """Take the machine away with all that is on it, at once."""
        self.end()
        shutil.rmtree(self.disk)

    def end(self) -> None:
        """Kill all that runs on the machine."""
        if self.process is not None:
            kill_marked(self.mark)
            self.process.wait()

    def agent_log(self) -> str:
        return (self.disk / "agent.log").read_text()

    def output(self) -> bytes:
        return b"".join(Reader(self.objects, "r", self.attempt, "log").pieces())

    def events(self, *kinds: type) -> list[Any]:
        """What was told in this attempt."""
        data = b"".join(Reader(self.objects, "r", self.attempt, "events").pieces())
        return [event for event in map(parse_event, data.splitlines()) if isinstance(event, kinds)]

    def wait_for(self, what: Callable[[], object]) -> None:
        until = time.monotonic() + 30
        while True:
            try:
                if what():
                    return
            except (NotFound, FileNotFoundError):
                pass
            assert time.monotonic() < until, self.agent_log()
            time.sleep(0.02)
