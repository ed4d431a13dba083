"""Real processes that race, are stopped, and come back."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.store.zombie import FENCED, STEPS, kept

from spotweld.store.heads import head_key, read_head, take_over
from spotweld.store.local import LocalObjects

HERE = Path(__file__).parent
RUN = "digits"


def start(script: str, *args: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(HERE / script), *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_eight_processes_count_every_increment_once(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path)
    objects.create("counter", b"0")
    processes = [start("counting.py", tmp_path, 25) for _ in range(8)]
    wrote = [int(value) for process in processes for value in process.communicate(timeout=120)[0].split()]
    assert sorted(wrote) == list(range(1, 201))
    assert objects.get("counter") == b"200"
    assert len(list((tmp_path / "counter.~versions").iterdir())) == 2


def test_killed_counters_lose_nothing_that_was_counted(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path)
    objects.create("counter", b"0")
    victims = [start("counting.py", tmp_path, 10**6) for _ in range(3)]
    last = 0
    for victim in victims:
        # Each is killed in the middle of something, once the three have got somewhere.
        while int(objects.get("counter")) < last + 20:
            os.sched_yield()
        last = int(objects.get("counter"))
        victim.kill()
        victim.communicate()
        assert int(objects.get("counter")) >= last
    last = int(objects.get("counter"))
    (survivor,) = [start("counting.py", tmp_path, 10)]
    assert survivor.communicate(timeout=60)[0].split() == [str(last + turn) for turn in range(1, 11)]


@pytest.mark.parametrize("where", list(STEPS))
def test_a_stopped_writer_neither_blocks_its_successor_nor_comes_back(tmp_path: Path, where: str) -> None:
    objects = LocalObjects(tmp_path)
    stopped = start("zombie.py", tmp_path, RUN, where)
    _, status = os.waitpid(stopped.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)

    successor = take_over(objects, RUN, 2)
    published = successor.publish(kept(3))
    bytes_then = objects.get(head_key(RUN))

    os.kill(stopped.pid, signal.SIGCONT)
    code = stopped.wait(timeout=60)
    stopped.communicate()
    # Stopped after the rename, it had published before its successor took over.
    assert code == (0 if where == "after it" else FENCED)
    assert objects.get(head_key(RUN)) == bytes_then
    assert read_head(objects, RUN) == published
    assert successor.publish(kept(4)) == read_head(objects, RUN)
    assert {path.name for path in (tmp_path / "runs" / RUN).iterdir()} == {"head", "head.~versions"}
    assert len(list((tmp_path / "runs" / RUN / "head.~versions").iterdir())) == 2
