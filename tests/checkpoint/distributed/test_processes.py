"""Real ranks: what PyTorch shards, what signals do, and ranks that are killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import msgspec
import pytest

from spotweld.checkpoint.format import decode
from spotweld.project.nouns import CheckpointPolicy, Compress, Tier
from spotweld.store.heads import read_head
from spotweld.store.opening import open_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.checkpoint.distributed.conftest import Processes

    from spotweld.checkpoint.format import Manifest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def newest(store: Path) -> Manifest:
    objects = open_store(f"file:{store}")
    head = read_head(objects, "default")
    assert head is not None
    return decode(objects.get(head.kept[0].key), "default")


def steps_of(file: Path) -> list[list[int]]:
    return [[int(word) for word in line.split()] for line in file.read_text().splitlines()]


def after_step(steps: Path, step: int, act: Callable[[list[int]], None]) -> Callable[[list[int]], None]:
    """Do ``act`` as soon as rank 0 has done a step."""

    def wait(pids: list[int]) -> None:
        file, give_up = steps.with_name(f"{steps.name}.0"), time.monotonic() + 60
        while time.monotonic() < give_up and not (file.exists() and any(one >= step for one, _ in steps_of(file))):
            time.sleep(0.01)
        act(pids)

    return wait


@pytest.mark.parametrize(("kind", "ranks"), [("fsdp", 2), ("tp", 2), ("2d", 4)])
def test_a_sharded_training_resumes_bit_for_bit(processes: Processes, tmp_path: Path, kind: str, ranks: int) -> None:
    undisturbed = processes.run("sharded", ranks, 9, 100, kind, store=tmp_path / "a")
    processes.run("sharded", ranks, 5, 2, kind, store=tmp_path / "b")
    resumed = processes.run("sharded", ranks, 9, 2, kind, store=tmp_path / "b")
    assert undisturbed[0] == [0] * ranks, processes.errors
    assert resumed == undisturbed


def test_another_number_of_ranks_goes_on(processes: Processes, tmp_path: Path) -> None:
    for total, ranks in ((3, 4), (5, 2), (7, 3)):
        codes, _ = processes.run("sharded", ranks, total, 2, store=tmp_path)
        assert codes == [0] * ranks, processes.errors
    assert newest(tmp_path).step == 7


@pytest.mark.parametrize(("then", "now"), [("plain", "fsdp"), ("fsdp", "plain")])
def test_another_kind_of_sharding_goes_on(processes: Processes, tmp_path: Path, then: str, now: str) -> None:
    saved = processes.run("sharded", 2, 3, 2, then, store=tmp_path)
    assert saved[0] == [0, 0], processes.errors
    assert processes.run("sharded", 2, 3, 2, now, store=tmp_path) == saved
    codes, _ = processes.run("sharded", 2, 5, 2, now, store=tmp_path)
    assert codes == [0, 0], processes.errors
    assert newest(tmp_path).step == 5


def test_a_dcp_state_is_the_same_on_any_number_of_ranks(processes: Processes, tmp_path: Path) -> None:
    codes, (saved, *_) = processes.run("resharding", 4, "save", 3, "fsdp", store=tmp_path)
    assert codes == [0] * 4, processes.errors
    assert len({pack.key for pack in newest(tmp_path).packs}) < 12  # most chunks are the first save's
    for ranks in (1, 2, 3):
        codes, digests = processes.run("resharding", ranks, "load", 3, "fsdp", store=tmp_path)
        assert (codes, digests) == ([0] * ranks, [saved] * ranks), processes.errors


def test_dcp_falls_back_on_all_ranks(processes: Processes, tmp_path: Path) -> None:
    _, (saved, *_) = processes.run("resharding", 2, "save", 2, "fsdp", store=tmp_path)
    objects = open_store(f"file:{tmp_path}")
    head = read_head(objects, "default")
    assert head is not None
    new, old = (decode(objects.get(kept.key), "default") for kept in head.kept)
    for key in {pack.key for pack in new.packs} - {pack.key for pack in old.packs}:
        file = tmp_path / key
        data = bytearray(file.read_bytes())
        data[0] ^= 1
        file.write_bytes(data)
    codes, digests = processes.run("resharding", 2, "load", 2, "fsdp", store=tmp_path)
    assert (codes, digests) == ([0, 0], [saved, saved]), processes.errors
    assert processes.errors.count("damaged and passed over") == 2


@pytest.mark.parametrize(
    ("verb", "steps", "kind", "why"),
    [("save", 0, "fsdp", "bad cannot be saved"), ("load", 1, "picky", "Picky would unpickle it")],
)
def test_nothing_is_pickled_or_unpickled(
    processes: Processes, tmp_path: Path, verb: str, steps: int, kind: str, why: str
) -> None:
    processes.run("resharding", 1, "save", 1, "fsdp", store=tmp_path)
    codes, _ = processes.run("resharding", 1, verb, steps, kind, store=tmp_path)
    assert codes == [1]
    assert why in processes.errors


@pytest.mark.parametrize("hearer", [0, 1])
def test_a_signal_to_one_rank_moves_all_at_the_same_edge(processes: Processes, tmp_path: Path, hearer: int) -> None:
    steps = tmp_path / "steps"
    codes, _ = processes.run(
        "sharded",
        2,
        2000,
        1000,
        "fsdp",
        0.02,
        store=tmp_path / "s",
        meanwhile=after_step(steps, 4, lambda pids: os.kill(pids[hearer], signal.SIGTERM)),
        STEPS=str(steps),
    )
    assert codes == [75, 75], processes.errors
    first, second = (steps_of(tmp_path / f"steps.{rank}") for rank in range(2))
    assert [step for step, _ in first] == [step for step, _ in second]
    assert newest(tmp_path / "s").step == len(first)


@pytest.mark.parametrize("tier", [False, True])
def test_a_group_killed_at_any_moment_resumes_bit_for_bit(processes: Processes, tmp_path: Path, tier: bool) -> None:
    policy = CheckpointPolicy(tiers=(Tier(f"file:{tmp_path}/near"),) if tier else (), compress=Compress.BYTES)
    undisturbed = processes.run("sharded", 2, 100, 1000, store=tmp_path / "a")
    dice, kills, steps = random.Random(20), 0, tmp_path / "steps"

    def kill(pids: list[int]) -> None:
        """In a start now and then, else after some steps: as many seconds are any number of steps."""
        (tmp_path / "steps.0").unlink(missing_ok=True)
        give_up, some = time.monotonic() + 60, dice.randrange(6)
        while time.monotonic() < give_up and some and not done(some):
            time.sleep(0.01)
        time.sleep(dice.uniform(0, 0.3))
        os.kill(dice.choice(pids), signal.SIGKILL)

    def done(some: int) -> bool:
        file = tmp_path / "steps.0"
        return file.exists() and len(steps_of(file)) >= some

    codes, digests = [-9], [""]
    while any(codes):
        more = kills < 10
        codes, digests = processes.run(
            "sharded",
            2,
            100,
            2,
            "fsdp",
            0.1 if more else 0.0,
            store=tmp_path / "b",
            meanwhile=kill if more else lambda _: None,
            STEPS=str(steps),
            SPOTWELD_CHECKPOINT=msgspec.json.encode(policy).decode(),
        )
        kills += -signal.SIGKILL in codes
        assert all(code in {0, 75, 1, -signal.SIGKILL, -signal.SIGTERM} for code in codes), processes.errors
        assert kills >= 10 or any(codes), "it was done before it had been killed often enough"
    assert (codes, digests) == undisturbed
    assert (tmp_path / "near").exists() == tier


def test_torchrun_ends_the_others_and_the_next_one_resumes(tmp_path: Path) -> None:
    """As a user has it. (A restart within one torchrun is left to PyTorch: gloo's groups do not always meet again.)"""
    from tests.checkpoint.distributed.conftest import PROGRAMS

    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "SPOTWELD_STORE": f"file:{tmp_path}/store",
        "STEPS": str(tmp_path / "steps"),
    }
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]

    def start(total: int, pause: float) -> subprocess.Popen[str]:
        program = [str(PROGRAMS / "sharded.py"), str(total), "2", "fsdp", str(pause)]
        return subprocess.Popen(
            [*torchrun, *program], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    with start(1000, 0.1) as first:
        after_step(tmp_path / "steps", 5, lambda _: None)([])
        os.kill(steps_of(tmp_path / "steps.1")[-1][1], signal.SIGKILL)
        first.communicate(timeout=200)
    before = len(steps_of(tmp_path / "steps.0"))
    stands = newest(tmp_path / "store").step
    with start(stands + 3, 0.0) as second:
        out, _ = second.communicate(timeout=200)
    assert first.returncode != 0
    assert second.returncode == 0
    assert out.count("rank ") == 2
    assert stands >= 2
    assert [step for step, _ in steps_of(tmp_path / "steps.0")][before:] == [stands, stands + 1, stands + 2]
