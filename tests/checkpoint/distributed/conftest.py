"""Two ways to have ranks: threads that meet, which is quick, and processes that PyTorch brings together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from spotweld.checkpoint.distributed.group import PeerLost
from spotweld.errors import SpotweldError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PROGRAMS = Path(__file__).parent / "programs"
_PATIENCE = 20.0


class Meeting:
    """Where threads exchange what they have, round after round."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._rounds: dict[int, dict[int, Any]] = {}
        self._at = [0] * size
        self._gone: set[int] = set()
        self._changed = threading.Condition()

    def exchange(self, rank: int, value: object) -> list[Any]:
        with self._changed:
            number = self._at[rank]
            self._at[rank] += 1
            values = self._rounds.setdefault(number, {})
            values[rank] = value
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: len(values) == self.size or self._gone - values.keys(), _PATIENCE):
                raise PeerLost("a thread does not come")
            if len(values) < self.size:
                raise PeerLost("a thread is gone")
            return [values[one] for one in range(self.size)]

    def leave(self, rank: int) -> None:
        with self._changed:
            self._gone.add(rank)
            self._changed.notify_all()


class ThreadGroup:
    def __init__(self, meeting: Meeting, rank: int) -> None:
        self.meeting, self.rank, self.size = meeting, rank, meeting.size

    def largest(self, values: Sequence[float]) -> list[float]:
        return [max(column) for column in zip(*self.meeting.exchange(self.rank, [*values]), strict=True)]

    def tell(self, data: bytes) -> bytes:
        return self.meeting.exchange(self.rank, data)[0]

    def gather(self, data: bytes) -> list[bytes]:
        return self.meeting.exchange(self.rank, data)

    def collect(self, data: bytes) -> list[bytes]:
        found = self.meeting.exchange(self.rank, data)
        return found if self.rank == 0 else []


class Ranks:
    """Runs a function as every rank of a group, in threads; what each returned or raised."""

    def __init__(self, size: int) -> None:
        self.meetings = [Meeting(size), Meeting(size)]
        self.size = size

    def groups(self, rank: int) -> tuple[ThreadGroup, ThreadGroup]:
        first, second = (ThreadGroup(meeting, rank) for meeting in self.meetings)
        return first, second

    def run(self, body: Callable[[int], object]) -> list[Any]:
        ends: list[Any] = [None] * self.size

        def work(rank: int) -> None:
            try:
                ends[rank] = body(rank)
            except BaseException as error:  # noqa: BLE001 - the test looks at it
                ends[rank] = error
                if not isinstance(error, (SystemExit, SpotweldError)):
                    traceback.print_exception(error)
            finally:
                for meeting in self.meetings:
                    meeting.leave(rank)

        threads = [threading.Thread(target=work, args=(rank,), daemon=True) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        return ends


@pytest.fixture(scope="session")
def new_ranks() -> type[Ranks]:
    return Ranks


class Processes:
    """Groups of real ranks, one after another."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        self._zygote = subprocess.Popen(
            [sys.executable, str(PROGRAMS / "zygote.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.errors = ""

    def run(
        self,
        program: str,
        ranks: int,
        *argv: object,
        store: Path,
        meanwhile: Callable[[list[int]], object] = lambda _: None,
        **env: str,
    ) -> tuple[list[int], list[str]]:
        """The exit codes and the last lines printed, by rank."""
        request = {
            "program": program,
            "ranks": ranks,
            "argv": [str(one) for one in argv],
            "env": {"SPOTWELD_STORE": f"file:{store}", **env},
            "folder": str(self._folder),
        }
        stdin, stdout = self._zygote.stdin, self._zygote.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(request) + "\n")
        stdin.flush()
        meanwhile(json.loads(stdout.readline()))
        codes = json.loads(stdout.readline())
        self.errors = "".join((self._folder / f"err.{rank}").read_text() for rank in range(ranks))
        lines = [(self._folder / f"out.{rank}").read_text().strip().rpartition("\n")[2] for rank in range(ranks)]
        return codes, [line.rpartition(" ")[2] for line in lines]

    def close(self) -> None:
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        self._zygote.stdin.close()
        self._zygote.stdout.close()
        self._zygote.wait(30)


@pytest.fixture(scope="session")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    found = Processes(tmp_path_factory.mktemp("ranks"))
    yield found
    found.close()
