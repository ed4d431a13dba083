"""A job's folder with a directory in it, and sessions that save and restore it."""

from __future__ import annotations

import os
import shutil
import stat
from typing import TYPE_CHECKING, Any

import pytest

from spotweld.checkpoint.directory.protocol import Place
from spotweld.checkpoint.directory.session import DirectorySession
from spotweld.checkpoint.events import EventFile, parse_event
from spotweld.project.nouns import CheckpointPolicy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from spotweld.store.objects import Objects
    from spotweld.values.clocks import Clock


NOBODY = 2**22
"""A process group that cannot be: no process has so high a number."""


class Job:
    """A job's folder ``work`` on a machine, whose directory is ``work/out``."""

    def __init__(self, folder: Path, store: Objects, clock: Clock) -> None:
        self.folder, self.store, self.clock = folder, store, clock
        self.work = folder / "work"
        self.out = self.work / "out"
        self.out.mkdir(parents=True)
        self.told = folder / "events.jsonl"
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        self.attempt = 0

    def session(self, **policy: Any) -> DirectorySession:  # noqa: ANN401
        self.attempt += 1
        rules = CheckpointPolicy(**{"directory": "out", "keep_last": 2} | policy)
        tell = EventFile(str(self.told))
        return DirectorySession(self.work, rules, "r", self.attempt, self.store, self.scratch, tell, self.clock)

    def place(self) -> Place:
        return Place(self.work, dict(os.environ), self.folder / "console.txt", NOBODY)

    def lose(self) -> None:
        """The machine's disk is gone."""
        shutil.rmtree(self.work)
        self.work.mkdir()

    def events(self, kind: type) -> list[Any]:
        found = [parse_event(line) for line in self.told.read_bytes().splitlines()] if self.told.exists() else []
        return [event for event in found if isinstance(event, kind)]

    def content(self) -> dict[bytes, Any]:
        return content(self.out)


def content(root: Path) -> dict[bytes, Any]:
    """Everything that is to come back: kinds, modes, times, bytes, which names are one file."""
    found: dict[bytes, Any] = {b"": stat.S_IMODE(root.stat().st_mode)}
    first: dict[int, bytes] = {}
    for folder, folders, files in os.walk(bytes(root)):
        folders.sort()
        for name in sorted([*folders, *files]):
            path = os.path.join(folder, name)
            status = os.lstat(path)
            short = path[len(bytes(root)) + 1 :]
            if stat.S_ISLNK(status.st_mode):
                found[short] = os.readlink(path)
            elif stat.S_ISDIR(status.st_mode):
                found[short] = stat.S_IMODE(status.st_mode)
            elif stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    data = file.read() if status.st_size < 2**24 else status.st_size
                twin = first.setdefault(status.st_ino, short)
                found[short] = (stat.S_IMODE(status.st_mode), status.st_mtime_ns, data, twin)
    return found


@pytest.fixture
def job(tmp_path: Path, store: Objects, clock: Clock) -> Job:
    return Job(tmp_path, store, clock)


@pytest.fixture(scope="session")
def new_job(new_store: Callable[[], Objects]) -> Callable[[Path, Clock], Job]:
    """For tests that need many, such as Hypothesis's."""
    return lambda folder, clock: Job(folder, new_store(), clock)
