"""Programs of frameworks, killed and started again until they are done."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from spotweld.checkpoint import events
from spotweld.checkpoint.events import parse_event
from spotweld.preemption.files import clear_notice, write_notice
from spotweld.preemption.notices import Kind, Notice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROGRAMS = Path(__file__).parent / "programs"
QUIET = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore", "JAX_PLATFORMS": "cpu"}


class Zygote:
    """A process that has imported a framework and forks one for every run."""

    def __init__(self, *modules: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAMS / "zygote.py"), *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | QUIET,
        )

    def start(self, argv: list[str], folder: Path, ranks: int, **environ: object) -> int:
        """The number of the last of so many processes."""
        told = {name: str(value) for name, value in environ.items()}
        asked = {"argv": argv, "environ": told, "folder": str(folder), "ranks": ranks}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def wait(self) -> int:
        return self._answer()

    def close(self) -> None:
        self.process.communicate(timeout=60)

    def _answer(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())


class Run:
    """One run of a program: its folder, with its store, its events and what it told."""

    def __init__(self, zygote: Zygote, folder: Path, *argv: str, ranks: int = 1) -> None:
        self.zygote, self.folder, self.argv, self.ranks = zygote, folder, list(argv), ranks
        folder.mkdir()
        self.told, self.notice, self.store = folder / "events.jsonl", folder / "notice.json", folder / "store"
        self.restored: list[int] = []

    def start(self, **environ: object) -> int:
        self.told.unlink(missing_ok=True)
        return self.zygote.start(
            self.argv,
            self.folder,
            self.ranks,
            SPOTWELD_STORE=f"file:{self.store}",
            SPOTWELD_EVENTS_FILE=self.told,
            SPOTWELD_NOTICE_FILE=self.notice,
            **environ,
        )

    def wait(self) -> int:
        status = self.zygote.wait()
        self.restored += [event.step for event in self.of(events.Restored)]
        return status

    def of(self, kind: type) -> list[Any]:
        found = []
        for line in self.told.read_bytes().splitlines() if self.told.exists() else ():
            with contextlib.suppress(ValueError):  # a line that a kill cut short
                found.append(parse_event(line))
        return [event for event in found if isinstance(event, kind)]

    def wait_for(self, kind: type) -> None:
        for _ in range(6000):
            if self.of(kind):
                return
            time.sleep(0.01)
        raise AssertionError(self.err)

    @property
    def err(self) -> str:
        return (self.folder / "stderr.txt").read_text()[-3000:]

    @property
    def out(self) -> str:
        return (self.folder / "stdout.txt").read_text().splitlines()[-1]

    @property
    def seen(self) -> dict[str, object]:
        """What was told, by what it is about. What was told twice, because it was done again, was told the same."""
        seen: dict[str, object] = {}
        for line in (self.folder / "told.jsonl").read_text().splitlines():
            what, value = json.loads(line)
            assert seen.setdefault(json.dumps(what), value) == value, f"{what} came out differently when it was redone"
        return seen


class Trial:
    """Runs a program undisturbed, and again with whatever can happen to it, and compares."""

    def __init__(self, zygote: Zygote, folder: Path) -> None:
        self.zygote, self.folder = zygote, folder

    def __call__(self, *argv: str, kills: tuple[int, int], seed: int, notice: str = "signal", ranks: int = 1) -> Run:
        calm = Run(self.zygote, self.folder / "calm", *argv, ranks=ranks)
        calm.start()
        assert calm.wait() == 0, calm.err
        run = Run(self.zygote, self.folder / "disturbed", *argv, ranks=ranks)
        for at in sorted(random.Random(seed).sample(range(*kills), 2)):
            run.start(KILL_AT=at, PAUSE=0.05)
            assert run.wait() == -signal.SIGKILL, run.err
        self._notify(run, notice)
        run.start()
        assert run.wait() == 0, run.err
        assert run.restored[-1] > 0, "nothing was ever resumed"
        assert run.out == calm.out
        assert run.seen == calm.seen
        run.start()  # a finished run has nothing to do, and comes to the same end
        assert (run.wait(), run.out) == (0, calm.out), run.err
        return run

    def _notify(self, run: Run, how: str) -> None:
        pid = run.start(PAUSE=0.4)
        run.wait_for(events.Step)
        if how == "signal":
            os.kill(pid, signal.SIGTERM)
        else:
            now = time.time()
            write_notice(run.notice, Notice("n", Kind.TERMINATE, "file", now + 1.2, now))
        assert run.wait() == 75, run.err
        assert "is durable" in run.err
        clear_notice(run.notice)


@pytest.fixture(scope="session")
def zygote() -> Iterator[Callable[..., Zygote]]:
    """Started when the first test needs it, by the modules that it has imported."""
    started: dict[tuple[str, ...], Zygote] = {}

    def of(*modules: str) -> Zygote:
        if modules not in started:
            started[modules] = Zygote(*modules)
        return started[modules]

    yield of
    for one in started.values():
        one.close()


@pytest.fixture
def trial(tmp_path: Path) -> Callable[[Zygote], Trial]:
    return lambda zygote: Trial(zygote, tmp_path)


@pytest.fixture
def new_run(tmp_path: Path) -> Callable[..., Run]:
    return lambda zygote, *argv, ranks=1: Run(zygote, tmp_path / "run", *argv, ranks=ranks)
