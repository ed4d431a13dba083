from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from spotweld import Sampler
from spotweld.checkpoint.distributed.checkpointer import DistributedCheckpointer
from spotweld.checkpoint.format import decode
from spotweld.errors import NoWholeCheckpoint, StateMismatch, Unavailable, UsageError
from spotweld.store.heads import read_head

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.checkpoint.conftest import Announcer, HandClock, Watched
    from tests.checkpoint.distributed.conftest import Ranks


class Program:
    """What one rank runs: weights that all share, a log that each has for itself."""

    def __init__(self, size: int, rank: int) -> None:
        self.rank, self.size = rank, size
        self.weights = np.zeros((4, 3))
        self.log: list[float] = []
        self.sampler = Sampler(20, 4, seed=1)
        self.done: list[int] = []

    def train(self, ranks: Ranks, store: Watched, clock: HandClock, total: int, **options: Any) -> tuple[list[int], str]:
        at = options.pop("at", lambda _program, _checkpointer, _step: None)
        checkpointer = DistributedCheckpointer(
            {"weights": self.weights, "sampler": self.sampler},
            per_rank={"log": self.log},
            groups=lambda: ranks.groups(self.rank),
            store=store,
            clock=clock,
            notices=options.pop("notices", ()),
            **{"every": 2, **options},
        )
        for step in checkpointer.steps(total):
            self.weights += len(self.sampler.next()) + step
            self.log.append(self.rank + step / 10)
            self.done.append(step)
            at(self, checkpointer, step)
            clock.sleep(1)
        return self.done, f"{self.weights.sum()} {self.sampler.taken} {self.log}"


def run(
    new_ranks: type[Ranks], new_clock: type[HandClock], store: Watched, size: int, total: int, **options: Any
) -> list[Any]:
    ranks = new_ranks(size)

    def body(rank: int) -> object:
        chosen = {name: value(rank) if name == "notices" else value for name, value in options.items()}
        return Program(size, rank).train(ranks, store, new_clock(), total, **chosen)

    return ranks.run(body)


@pytest.fixture
def group(new_ranks: type[Ranks], new_clock: type[HandClock], store: Watched) -> Callable[..., list[Any]]:
    return lambda size, total, **options: run(new_ranks, new_clock, store, size, total, **options)


def newest(store: Watched) -> Any:
    head = read_head(store, "default")
    assert head is not None
    return decode(store.get(head.kept[0].key), "default")


def test_a_group_resumes_where_it_was(
    group: Callable[..., list[Any]],
    new_ranks: type[Ranks],
    new_clock: type[HandClock],
    new_store: Callable[[], Watched],
) -> None:
    undisturbed = run(new_ranks, new_clock, new_store(), 3, 9)
    group(3, 5)
    resumed = group(3, 9)
    assert [done for done, _ in resumed] == [[5, 6, 7, 8]] * 3
    assert [end for _, end in resumed] == [end for _, end in undisturbed]


def test_what_all_share_is_stored_once(group: Callable[..., list[Any]], store: Watched) -> None:
    group(3, 2)
    manifest = newest(store)
    arrays = [leaf for leaf in manifest.leaves if leaf.shape == (4, 3)]
    assert len(arrays) == 1
    assert len(manifest.rng["list"]) == 3
    assert {key.rpartition("/")[2].split("-")[1] for key in store.keys("runs/default/packs/")} == {
        "0000",
        "0001",
        "0002",
    }


@pytest.mark.parametrize("size", [1, 2, 4])
def test_another_number_of_ranks_resumes(group: Callable[..., list[Any]], size: int) -> None:
    group(3, 4)
    ends = group(size, 6)
    assert [done for done, _ in ends] == [[4, 5]] * size
    assert all(end.startswith(f"{12 * (6 * 4 + 15)}.0 6 ") for _, end in ends)
    assert [end.count(",") for _, end in ends] == [5, 5, 5, 1][:size]


def test_ranks_that_do_not_share_what_they_should_are_told_at_once(
    new_ranks: type[Ranks], new_clock: type[HandClock], store: Watched
) -> None:
    ranks = new_ranks(2)

    def body(rank: int) -> object:
        checkpointer = DistributedCheckpointer(
            {"rates": {"rate": 0.1 * rank}},
            groups=lambda: ranks.groups(rank),
            store=store,
            clock=new_clock(),
            notices=(),
        )
        return list(checkpointer.steps(3))

    ends = ranks.run(body)
    assert [type(end) for end in ends] == [StateMismatch, StateMismatch]
    assert "per_rank" in ends[0].todo


def test_ranks_with_different_programs_are_told(
    new_ranks: type[Ranks], new_clock: type[HandClock], store: Watched
) -> None:
    ranks = new_ranks(2)
    ends = ranks.run(lambda rank: Program(2, rank).train(ranks, store, new_clock(), 5 + rank))
    assert [type(end) for end in ends] == [UsageError, UsageError]


@pytest.mark.parametrize("hearer", [0, 1, 2])
@pytest.mark.parametrize("seconds", [None, 3600.0])
def test_a_notice_to_one_rank_moves_all(
    group: Callable[..., list[Any]],
    store: Watched,
    clock: HandClock,
    announcer: Announcer,
    hearer: int,
    seconds: float | None,
) -> None:
    told: dict[int, int] = {}

    def at(program: Program, _checkpointer: object, step: int) -> None:
        told[program.rank] = step
        if program.rank == hearer and step == 3:
            announcer.terminate(seconds)
        if program.rank == hearer and step > 3 and seconds:
            announcer.clock.sleep(1000)

    ends = group(3, 50, at=at, every=100, notices=lambda rank: [announcer] if rank == hearer else [])
    assert [type(end) for end in ends] == [SystemExit] * 3
    assert [end.code for end in ends] == [75] * 3
    assert len(set(told.values())) == 1
    assert newest(store).step == told[0] + 1
