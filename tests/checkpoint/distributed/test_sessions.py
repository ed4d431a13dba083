from __future__ import annotations

import math
import threading
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
import torch

from spotweld import Checkpointer, Sampler
from spotweld.checkpoint.distributed.checkpointer import DistributedCheckpointer
from spotweld.checkpoint.distributed.shards import layout_of
from spotweld.checkpoint.format import decode
from spotweld.errors import NoWholeCheckpoint, StateMismatch, Unavailable, UsageError
from spotweld.store.heads import read_head

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.checkpoint.conftest import Announcer, HandClock, Watched
    from tests.checkpoint.distributed.conftest import Ranks

    from spotweld.checkpoint.format import Manifest


class Program:
    """What one rank runs: weights that all share, a log that each has for itself."""

    def __init__(self, size: int, rank: int) -> None:
        self.rank, self.size = rank, size
        self.weights = np.zeros((4, 3))
        self.log: list[float] = []
        self.sampler = Sampler(20, 4, seed=1)
        self.done: list[int] = []

    def train(
        self,
        ranks: Ranks,
        store: Watched,
        clock: HandClock,
        total: int,
        **options: Any,  # noqa: ANN401
    ) -> tuple[list[int], str]:
        self.clock = clock
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
            if self.rank == 0:
                checkpointer._session._saves.wait(20)  # so that every save ends within the step in which it began
            at(self, checkpointer, step)
            clock.sleep(1)
        return self.done, f"{self.weights.sum()} {self.sampler.taken} {self.log}"


def run(
    new_ranks: type[Ranks],
    new_clock: type[HandClock],
    store: Watched,
    size: int,
    total: int,
    **options: Any,  # noqa: ANN401
) -> list[Any]:
    ranks = new_ranks(size)

    def body(rank: int) -> object:
        chosen = {name: value(rank) if name == "notices" else value for name, value in options.items()}
        return Program(size, rank).train(ranks, store, new_clock(), total, **chosen)

    return ranks.run(body)


@pytest.fixture
def group(new_ranks: type[Ranks], new_clock: type[HandClock], store: Watched) -> Callable[..., list[Any]]:
    return lambda size, total, **options: run(new_ranks, new_clock, store, size, total, **options)


def on_publish(store: Watched) -> threading.Event:
    """Set as soon as a checkpoint is published."""
    published = threading.Event()

    def after(verb: str, key: str) -> None:
        if verb == "replace" and key.endswith("/head") and read_head(store.inner, "default").kept:
            published.set()

    store.after = after
    return published


def newest(store: Watched) -> Manifest:
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


@pytest.mark.parametrize(
    ("first", "later"),
    [
        (math.inf, np.float64(0.25)),  # the best loss so far
        (np.float64(1.0), 0.5),
        (0.0, torch.tensor(2.0)),  # a mean that runs along
        (b"", None),
    ],
)
def test_a_value_may_become_one_of_another_kind(
    new_ranks: type[Ranks], new_clock: type[HandClock], store: Watched, first: object, later: object
) -> None:
    def train(total: int) -> list[Any]:
        ranks = new_ranks(2)

        def body(rank: int) -> object:
            told = {"value": first}
            checkpointer = DistributedCheckpointer(
                {"told": told}, groups=lambda: ranks.groups(rank), store=store, clock=new_clock(), notices=()
            )
            for _ in checkpointer.steps(total):
                told["value"] = later
            return told["value"]

        return ranks.run(body)

    train(2)
    again = train(2)  # nothing is left to do: what is there was restored
    assert [type(value) for value in again] == [type(later)] * 2
    assert again == [later] * 2


def test_other_containers_come_back(new_ranks: type[Ranks], new_clock: type[HandClock], store: Watched) -> None:
    def train(total: int) -> list[Any]:
        ranks = new_ranks(2)

        def body(rank: int) -> object:
            log: dict[str, Any] = {"latest": deque(maxlen=2), "seen": set(), "counts": Counter()}
            checkpointer = DistributedCheckpointer(
                {"log": log}, groups=lambda: ranks.groups(rank), store=store, clock=new_clock(), notices=()
            )
            for step in checkpointer.steps(total):
                log["latest"].append(np.full(3, step))
                log["seen"].add(step)
                log["counts"][step % 2] += 1
            return [array.tolist() for array in log["latest"]], log["latest"].maxlen, log["seen"], log["counts"]

        return ranks.run(body)

    train(3)
    for latest, most, seen, counts in train(5):
        assert (latest, most) == ([[3] * 3, [4] * 3], 2)
        assert (seen, counts) == ({0, 1, 2, 3, 4}, Counter({0: 3, 1: 2}))


def test_what_each_rank_has_for_itself_is_not_left_out_for_its_name(
    group: Callable[..., list[Any]], new_ranks: type[Ranks], new_clock: type[HandClock], store: Watched
) -> None:
    group(2, 4)
    ranks = new_ranks(2)

    def body(rank: int) -> object:
        checkpointer = DistributedCheckpointer(
            {"weights": np.zeros((4, 3)), "sampler": Sampler(20, 4, seed=1)},
            per_rank={"diary": []},
            groups=lambda: ranks.groups(rank),
            store=store,
            clock=new_clock(),
            notices=(),
        )
        return list(checkpointer.steps(6))

    for end in ranks.run(body):
        assert isinstance(end, StateMismatch)
        assert "['log'] then, ['diary'] now" in str(end)


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
    announcer: Announcer,
    hearer: int,
    seconds: float | None,
) -> None:
    told: dict[int, int] = {}

    def at(program: Program, _checkpointer: object, step: int) -> None:
        told[program.rank] = step
        if program.rank == hearer and step == 3:
            announcer.terminate(seconds)
        if step > 3 and seconds:
            program.clock.sleep(1000)

    ends = group(3, 50, at=at, every=100, notices=lambda rank: [announcer] if rank == hearer else [])
    assert [type(end) for end in ends] == [SystemExit] * 3
    assert [end.code for end in ends] == [75] * 3
    assert len(set(told.values())) == 1
    assert newest(store).step == told[0] + 1


def test_a_recommendation_to_one_rank_makes_all_save(
    group: Callable[..., list[Any]], store: Watched, announcer: Announcer
) -> None:
    published = on_publish(store)

    def at(program: Program, _checkpointer: object, step: int) -> None:
        if program.rank == 1 and step == 3:
            announcer.rebalance()
        if program.rank == 0 and step == 8:
            assert published.wait(20)

    ends = group(2, 10, at=at, every=100, notices=lambda rank: [announcer] if rank == 1 else [])
    assert [done for done, _ in ends] == [list(range(10))] * 2
    assert published.is_set()


def test_a_save_asked_for_by_one_rank_is_all_ranks(group: Callable[..., list[Any]], store: Watched) -> None:
    published = on_publish(store)

    def at(program: Program, checkpointer: DistributedCheckpointer, step: int) -> None:
        if program.rank == 2 and step == 3:
            checkpointer.save()
        if program.rank == 0 and step == 8:
            assert published.wait(20)

    ends = group(3, 9, at=at, every=100)
    assert [done[-1] for done, _ in ends] == [8] * 3


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_training_goes_on_when_the_program_cannot_give_its_state(
    group: Callable[..., list[Any]], store: Watched, rank: int
) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    def at(program: Program, _checkpointer: object, step: int) -> None:
        if program.rank == rank and step in {3, 6}:
            vars(program.sampler)["state_dict"] = fail
        elif program.rank == rank:
            vars(program.sampler).pop("state_dict", None)

    ends = group(3, 9, at=at, every=1)
    assert [done for done, _ in ends] == [list(range(9))] * 3
    assert newest(store).step == 9


def test_a_save_that_fails_leaves_nothing_on_a_full_disk(group: Callable[..., list[Any]], store: Watched) -> None:
    left: list[set[str]] = []

    def packs() -> set[str]:
        return set(store.keys("runs/default/packs/"))

    def at(program: Program, _checkpointer: object, step: int) -> None:
        if program.rank == 0 and step in {3, 6}:
            left.append(packs())

    def full(verb: str, key: str) -> None:
        if verb == "create" and 1 <= len(left) < 2 and "packs/" in key and key.split("-")[1] == "0001":
            raise Unavailable(f"Cannot write {key}", "No space left on device (ENOSPC)")

    store.before = full
    group(3, 9, at=at, every=2)
    assert left[1] <= left[0]
    assert newest(store).step == 9


@pytest.mark.parametrize("finishers", [{0}, {1}, {2}, {0, 1}, {0, 1, 2}])
@pytest.mark.parametrize("last", [3, 8])
def test_a_run_that_any_rank_ends_is_over_for_all(
    group: Callable[..., list[Any]], store: Watched, finishers: set[int], last: int
) -> None:
    def at(program: Program, checkpointer: DistributedCheckpointer, step: int) -> None:
        if program.rank in finishers and step == last:
            checkpointer.finish()

    ends = group(3, 9, at=at, every=100)
    assert [done for done, _ in ends] == [list(range(last + 1))] * 3
    assert newest(store).step == last + 1
    assert [done for done, _ in group(3, 10)] == [list(range(last + 1, 10))] * 3


@pytest.mark.parametrize("failing", ["0000", "0001", "manifests", "head"])
def test_training_goes_on_while_the_store_fails(
    group: Callable[..., list[Any]], store: Watched, failing: str, caplog: pytest.LogCaptureFixture
) -> None:
    broken = threading.Event()

    def at(program: Program, _checkpointer: object, step: int) -> None:
        if program.rank == 0 and step in {3, 12}:
            (broken.set if step == 3 else broken.clear)()

    def before(verb: str, key: str) -> None:
        part = key.rpartition("/")[2].split("-")[1:2] if "packs" in key else key.split("/")[2:3]
        if broken.is_set() and verb in {"create", "replace"} and part == [failing]:
            raise Unavailable("no network")

    store.before = before
    ends = group(2, 30, at=at, every=1)
    assert [done for done, _ in ends] == [list(range(30))] * 2
    assert newest(store).step == 30
    assert "a save failed, training goes on" in caplog.text
    assert "saving works again" in caplog.text


def test_a_zombie_group_stops_and_harms_nothing(
    new_ranks: type[Ranks], new_clock: type[HandClock], store: Watched
) -> None:
    asleep, awake = threading.Event(), threading.Event()

    def at(program: Program, _checkpointer: object, step: int) -> None:
        if program.rank == 1 and step == 5:
            asleep.set()
            awake.wait(20)

    old: list[Any] = []
    thread = threading.Thread(
        target=lambda: old.extend(run(new_ranks, new_clock, store, 2, 20, at=at, every=1)), daemon=True
    )
    thread.start()
    assert asleep.wait(20)
    new = run(new_ranks, new_clock, store, 2, 12, every=1)
    before = newest(store)
    awake.set()
    thread.join(30)
    assert [end.code for end in old] == [75, 75]
    assert all(end.startswith(f"{12 * (12 * 4 + 66)}.0 12 ") for _, end in new)
    assert newest(store) == before
    assert {pack.key for pack in before.packs} <= store.keys("runs/default/packs/")


def flip(store: Watched, key: str) -> None:
    data = bytearray(store.get(key))
    data[0] ^= 1
    store.inner.delete(key)
    store.inner.create(key, bytes(data))


@pytest.mark.parametrize("writer", ["0000", "0001", "manifests"])
def test_all_ranks_fall_back_from_a_damaged_checkpoint_together(
    group: Callable[..., list[Any]], store: Watched, writer: str, caplog: pytest.LogCaptureFixture
) -> None:
    group(2, 4)
    group(2, 6)
    head = read_head(store, "default")
    assert head is not None
    (old, new) = (decode(store.get(kept.key), "default") for kept in head.kept[1::-1])
    fresh = {pack.key for pack in new.packs} - {pack.key for pack in old.packs}
    keys = [head.kept[0].key] if writer == "manifests" else [key for key in fresh if f"-{writer}-" in key]
    flip(store, keys[0])
    ends = group(2, 8)
    assert [done[0] for done, _ in ends] == [old.step] * 2
    assert f"the checkpoint of step {new.step} is damaged and passed over by all ranks" in caplog.text
    assert all(end.startswith(f"{12 * (8 * 4 + 28)}.0 8 ") for _, end in ends)


def test_a_store_that_is_silent_once_a_checkpoint_proves_damaged_is_waited_for(
    group: Callable[..., list[Any]], store: Watched
) -> None:
    group(2, 4)
    group(2, 6)
    head = read_head(store, "default")
    assert head is not None
    flip(store, head.kept[0].key)
    store.calls.clear()

    def silent(verb: str, key: str) -> None:
        if verb == "get" and key.endswith("/head") and store.calls.count((verb, key)) == 1:
            raise Unavailable("not now")

    store.before = silent
    ends = group(2, 8)
    assert all(end.startswith(f"{12 * (8 * 4 + 28)}.0 8 ") for _, end in ends)


def test_all_ranks_stop_if_every_checkpoint_is_damaged(group: Callable[..., list[Any]], store: Watched) -> None:
    group(2, 4)
    for key in store.keys("runs/default/manifests/"):
        flip(store, key)
    assert [type(end) for end in group(2, 8)] == [NoWholeCheckpoint] * 2


def test_the_others_leave_when_a_rank_dies(group: Callable[..., list[Any]], store: Watched) -> None:
    def at(program: Program, _checkpointer: object, step: int) -> None:
        if program.rank == 2 and step == 7:
            raise ZeroDivisionError

    ends = group(3, 20, at=at, every=1)
    assert [getattr(end, "code", type(end)) for end in ends] == [75, 75, ZeroDivisionError]
    assert newest(store).step == 7
    assert [done[-1] for done, _ in group(3, 20)] == [19] * 3


def test_a_checkpoint_of_one_process_is_no_groups(group: Callable[..., list[Any]], store: Watched) -> None:
    group(1, 4)
    head = read_head(store, "default")
    assert head is not None
    manifest = newest(store)
    alone = msgspec.structs.replace(manifest, state={"dict": []})
    data = msgspec.json.encode(alone)
    with pytest.raises(StateMismatch, match="not saved by a process group"):
        layout_of(decode(data, "default"))


def test_a_checkpoint_of_a_group_is_no_single_processs(group: Callable[..., list[Any]], store: Watched) -> None:
    group(1, 4)
    with pytest.raises(StateMismatch, match="saved by a process group"):
        next(iter(Checkpointer({"weights": np.zeros((4, 3))}, store=store, notices=()).steps(9)))


def test_unchanged_chunks_are_not_written_again(group: Callable[..., list[Any]], store: Watched) -> None:
    def written() -> set[str]:
        return {key for verb, key in store.calls if verb == "create" and "/packs/" in key}

    group(2, 4)
    before = written()
    group(2, 4)
    assert written() == before
