"""The relay by itself: which checkpoint it carries next, when it tries again, and how it ends."""

from __future__ import annotations

import errno
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from spotweld.checkpoint.publishing import Publisher
from spotweld.checkpoint.relaying import Load, Relay
from spotweld.checkpoint.snapshot import capture
from spotweld.checkpoint.staging import Staging
from spotweld.errors import Fenced, Unavailable
from spotweld.store.heads import read_head, take_over

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from conftest import HandClock, Watched

pytestmark = pytest.mark.usefixtures("no_thread_is_left")

RUN = "r"


class Way:
    """A tier with checkpoints in it, a store, and the relay between them."""

    def __init__(self, near: Watched, far: Watched, clock: HandClock, every: float = 0.0) -> None:
        self.near, self.far, self.clock = near, far, clock
        lead = take_over(far, RUN, 0)
        self.first = Publisher(near, RUN, take_over(near, RUN, 0, lead=lead.head), clock, keep_last=99, keep_every=0)
        self.relay = Relay(near, Publisher(far, RUN, lead, clock, keep_last=99, keep_every=0), clock, every=every)
        self.ended: list[Any] = []

    def load(self, step: int) -> Load:
        staging = Staging()
        taken = capture({"x": {"a": np.full(100_000, step)}}, step, staging, self.clock)
        staging.reserve(taken.content.sizes)
        taken.copy()
        kept = self.first.publish(taken)
        assert self.first.newest is not None
        return Load(kept, self.first.newest, self.clock.monotonic())

    def wait(self) -> None:
        self.relay.wait(20)
        assert not self.relay.busy
        self.ended += self.relay.collect()

    def steps(self) -> list[int]:
        head = read_head(self.far, RUN)
        return [kept.step for kept in head.kept] if head else []


class Gate:
    """Holds packs up on their way to the store."""

    def __init__(self, store: Watched) -> None:
        self.reached, self.open = threading.Semaphore(0), threading.Event()
        store.before = self._before

    def _before(self, verb: str, key: str) -> None:
        if verb == "create" and "/packs/" in key:
            self.reached.release()
            assert self.open.wait(20)


@pytest.fixture
def new_way(new_store: Callable[[], Watched], clock: HandClock) -> Callable[..., Way]:
    return lambda **more: Way(new_store(), new_store(), clock, **more)


def test_only_the_newest_waits_and_what_it_reads_is_named(new_way: Callable[..., Way]) -> None:
    way = new_way()
    gate = Gate(way.far)
    loads = [way.load(step) for step in range(1, 5)]
    way.relay.offer(loads[0])
    assert gate.reached.acquire(timeout=20)
    for load in loads[1:]:
        way.relay.offer(load)
        assert way.relay.reads == {loads[0].kept.key, load.kept.key}
    assert way.relay.carries == (loads[0].began, loads[0])
    gate.open.set()
    way.wait()
    assert way.steps() == [4, 1]
    assert [carried.load.kept.step for carried in way.ended] == [1, 4]
    assert way.relay.reads == frozenset()
    assert way.relay.carries is None


def test_they_start_some_time_apart_unless_there_is_a_hurry(new_way: Callable[..., Way]) -> None:
    way = new_way(every=3600.0)
    first, second, third = (way.load(step) for step in (1, 2, 3))
    way.relay.offer(first)
    while way.relay.carries is not None or not way.steps():
        way.relay.wait(0.01)
    way.relay.offer(second)
    way.relay.offer(third)
    way.relay.wait(0.1)
    assert (way.steps(), way.relay.busy) == ([1], True)
    way.relay.hurry()
    way.wait()
    assert way.steps() == [3, 1]


def test_a_hurry_may_be_over(new_way: Callable[..., Way]) -> None:
    way = new_way(every=3600.0)
    way.relay.hurry()
    for step in (1, 2):
        way.relay.offer(way.load(step))
        way.wait()
    way.relay.calm()
    way.relay.offer(way.load(3))
    way.relay.wait(0.1)
    assert (way.steps(), way.relay.busy) == ([2, 1], True)
    way.relay.hurry()
    way.wait()
    assert way.steps() == [3, 2, 1]


def test_one_that_failed_is_tried_again_after_longer_and_longer_pauses(
    new_way: Callable[..., Way], monkeypatch: pytest.MonkeyPatch
) -> None:
    way, failures, asked = new_way(), 40, list[int]()

    def pause(number: int) -> float:
        asked.append(number)
        return 0.001

    monkeypatch.setattr("spotweld.checkpoint.relaying.retry_after", pause)
    way.clock.monotonic = time.monotonic  # type: ignore[method-assign]

    def down(verb: str, key: str) -> None:
        if verb == "create" and "/packs/" in key and len(asked) < failures:
            raise Unavailable("down")

    way.far.before = down
    way.relay.offer(way.load(1))
    way.wait()
    assert asked == list(range(1, failures + 1))
    assert [carried.failures for carried in way.ended] == [*asked, 0]
    assert way.steps() == [1]
    assert way.relay._staging.idle


def test_a_tier_that_cannot_be_read_costs_no_buffers(
    new_way: Callable[..., Way], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More failures than there are buffers."""
    monkeypatch.setattr("spotweld.checkpoint.relaying.retry_after", lambda _: 0.0)
    way, reads = new_way(), list[str]()

    def away(verb: str, key: str) -> None:
        if verb == "get" and "/packs/" in key:
            reads.append(key)
            if len(reads) <= 40:
                raise Unavailable("away")

    load = way.load(1)
    way.near.before = away
    way.relay.offer(load)
    way.wait()
    assert way.steps() == [1]
    assert way.ended[-2].failures == 40


@pytest.mark.parametrize("lacking", ["memory", "threads"])
def test_a_machine_that_has_nothing_left_for_it_is_told_and_tried_again(
    new_way: Callable[..., Way], monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    """Whatever fails, it goes on: nothing would ever be durable any more."""
    monkeypatch.setattr("spotweld.checkpoint.relaying.retry_after", lambda _: 0.0)
    way, refused = new_way(), list[str]()
    reserve, start = way.relay._staging.reserve, threading.Thread.start

    def no_memory(sizes: Sequence[int]) -> None:
        if not refused:
            refused.append(lacking)
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        reserve(sizes)

    def no_thread(thread: threading.Thread) -> None:
        if not refused and threading.current_thread() is not threading.main_thread():
            refused.append(lacking)
            raise RuntimeError("can't start new thread")
        start(thread)

    load = way.load(1)
    if lacking == "memory":
        monkeypatch.setattr(way.relay._staging, "reserve", no_memory)
    else:
        monkeypatch.setattr(threading.Thread, "start", no_thread)
    way.relay.offer(load)
    way.wait()
    assert [carried.failures for carried in way.ended] == [1, 0]
    assert way.steps() == [1]
    assert way.relay._staging.idle


def test_a_newer_one_takes_the_place_of_one_that_failed(
    new_way: Callable[..., Way], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spotweld.checkpoint.relaying.retry_after", lambda _: 3600.0)
    way = new_way()
    loads = [way.load(step) for step in (1, 2)]
    failed = threading.Event()

    def down(verb: str, key: str) -> None:
        if verb == "create" and "/packs/" in key and not failed.is_set():
            failed.set()
            raise Unavailable("down")

    way.far.before = down
    way.relay.offer(loads[0])
    while not (ended := way.relay.collect()):
        failed.wait(0.01)
    assert ended[0].failures == 1
    way.relay.offer(loads[1])
    assert way.relay.reads == {loads[1].kept.key}
    way.relay.hurry()
    way.wait()
    assert way.steps() == [2]


@pytest.mark.parametrize("hurried", [True, False])
def test_closing_ends_what_waits_and_lets_what_runs_come_to_its_end(new_way: Callable[..., Way], hurried: bool) -> None:
    way = new_way(every=3600.0)
    gate = Gate(way.far)
    first, second = way.load(1), way.load(2)
    way.relay.offer(first)
    assert gate.reached.acquire(timeout=20)
    way.relay.offer(second)
    if hurried:
        way.relay.hurry()
    way.relay.close()
    gate.open.set()
    way.wait()
    assert way.steps() == [1]


def test_closing_wakes_one_that_pauses(new_way: Callable[..., Way]) -> None:
    way = new_way(every=3600.0)
    first, second = way.load(1), way.load(2)
    way.relay.offer(first)
    while way.relay.carries is not None or not way.steps():
        way.relay.wait(0.01)
    way.relay.offer(second)
    way.relay.close()
    way.wait()
    assert way.steps() == [1]


def test_one_that_is_fenced_off_does_not_try_again(new_way: Callable[..., Way]) -> None:
    way = new_way()
    load = way.load(1)
    take_over(way.far, RUN, 0)
    way.relay.offer(load)
    way.wait()
    (carried,) = way.ended
    assert isinstance(carried.error, Fenced)
    assert way.steps() == []


def test_what_it_waited_for_is_no_part_of_what_the_carrying_took(new_way: Callable[..., Way], clock: HandClock) -> None:
    way = new_way()
    load = way.load(1)
    clock.sleep(100.0)

    def slow(verb: str, key: str) -> None:
        if verb == "create" and "/manifests/" in key:
            clock.sleep(7.0)

    way.far.before = slow
    way.relay.offer(load)
    way.wait()
    (carried,) = way.ended
    assert (carried.seconds, carried.carrying) == (107.0, 7.0)
    assert carried.written.size >= 800_000
    assert not carried.written.delta
    assert not carried.differences
