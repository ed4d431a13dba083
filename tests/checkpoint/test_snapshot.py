"""Snapshots: what is copied, in which order, what need not be, and where every buffer ends."""

from __future__ import annotations

import os
import threading
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from spotweld.checkpoint import snapshot
from spotweld.checkpoint.layout import CHUNK
from spotweld.checkpoint.snapshot import Content, Filled, Snapshot, capture, describe
from spotweld.errors import CheckpointError, UnsupportedState
from spotweld.values.digests import checksum

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import HandClock
    from spotweld.values.digests import Digest

LARGE = 2**21
"""Bytes of a leaf with chunks of its own."""


class Pool:
    """In place of staging memory: dirty buffers, counted, and as many as it is told."""

    def __init__(self, most: int = 10**6) -> None:
        self.left = threading.Semaphore(most)
        self.out: dict[int, memoryview] = {}
        self.most_out = 0

    def take(self, size: int = CHUNK) -> memoryview:
        assert self.left.acquire(timeout=20)
        buffer = memoryview(bytearray(b"\xff" * size))
        self.out[id(buffer.obj)] = buffer
        self.most_out = max(self.most_out, len(self.out))
        return buffer

    def give_back(self, buffer: memoryview) -> None:
        del self.out[id(buffer.obj)]  # twice is an error
        self.left.release()


class Chunks:
    """A source of chunks that are filled with their own number."""

    def __init__(self, fails_at: int | None = None, error: BaseException | None = None) -> None:
        self.fails_at, self.error = fails_at, error
        self.copied: list[int] = []
        self.digests: dict[int, Digest] = {}
        self.asked: list[int] = []
        self.beside: Callable[[], object] = lambda: None

    def digest(self, number: int) -> Digest | None:
        self.asked.append(number)
        return self.digests.get(number)

    def is_plain(self, _number: int) -> bool:
        return False

    def copy(self, number: int, into: memoryview) -> Digest | None:
        self.beside()
        self.copied.append(number)
        if number == self.fails_at:
            assert self.error is not None
            raise self.error
        into[:] = bytes([number]) * into.nbytes
        return f"xxh3:{number}" if number % 2 else None  # type: ignore[return-value]


def made_of(source: Chunks, sizes: tuple[int, ...], pool: Pool, clock: HandClock) -> Snapshot:
    return Snapshot(Content(None, None, (), sizes), source, 1, pool, clock, clock.monotonic())  # type: ignore[arg-type]


def captured(state: dict[str, Any], pool: Pool, clock: HandClock) -> Snapshot:
    return capture(state, 7, pool, clock)  # type: ignore[arg-type]


def data_of(snapshot: Snapshot) -> list[bytes]:
    """Of all chunks, in the order of the layout; every buffer is given back."""
    found = {}
    for chunk in snapshot.chunks():
        found[chunk.number] = b"" if chunk.data is None else bytes(chunk.data)
        snapshot.release(chunk)
    return [found[number] for number in range(len(found))]


def state() -> dict[str, Any]:
    return {
        "x": {
            "large": np.arange(LARGE // 4, dtype="<i4"),
            "small": np.arange(7.0),
            "turned": np.arange(12.0).reshape(3, 4).T,
            "text": "no array",
            "bytes": b"abc",
        },
        "y": torch.arange(5, dtype=torch.bfloat16),
    }


def test_every_leaf_lies_where_its_record_says(clock: HandClock) -> None:
    pool = Pool()
    taken = captured(state(), pool, clock)
    taken.copy()
    chunks = data_of(taken)
    assert [len(chunk) for chunk in chunks] == list(taken.content.sizes)
    wanted = [leaf.size for leaf in describe(state()).leaves]
    assert taken.size == sum(wanted)
    whole = b"".join(chunks)
    starts = [sum(taken.content.sizes[:number]) for number in range(len(chunks))]
    places = [starts[leaf.chunk] + leaf.offset for leaf in taken.content.leaves]
    parts = [whole[at : at + leaf.size] for at, leaf in zip(places, taken.content.leaves, strict=True)]
    assert np.arange(LARGE // 4, dtype="<i4").tobytes() in parts
    assert np.arange(7.0).tobytes() in parts
    assert np.arange(12.0).reshape(3, 4).T.tobytes() in parts
    assert b"abc" in parts
    assert torch.arange(5, dtype=torch.bfloat16).view(torch.uint8).numpy().tobytes() in parts
    spans = sorted((at, at + leaf.size) for at, leaf in zip(places, taken.content.leaves, strict=True))
    for (_, end), (start, _) in pairwise(spans):
        assert end <= start
        assert not any(whole[end:start])  # whatever was in the buffers before
    assert not any(whole[spans[-1][1] :])
    assert pool.out == {}


def test_equal_states_make_equal_chunks(clock: HandClock) -> None:
    one, other = captured(state(), Pool(), clock), captured(state(), Pool(), clock)
    one.copy()
    other.copy()
    assert data_of(one) == data_of(other)
    assert one.content == other.content


def test_what_is_copied_does_not_change_any_more(clock: HandClock) -> None:
    changing = {"x": np.zeros(LARGE // 8)}
    taken = captured(changing, Pool(), clock)
    changing["x"] += 1  # nothing is copied yet
    taken.copy()
    changing["x"] += 1
    assert data_of(taken)[0][:LARGE] == np.ones(LARGE // 8).tobytes()


def test_chunks_come_in_order_with_the_digests_that_are_known(clock: HandClock) -> None:
    source, pool = Chunks(), Pool()
    taken = made_of(source, (10, 20, 30), pool, clock)
    taken.copy()
    found = list(taken.chunks())
    assert source.copied == [chunk.number for chunk in found] == [0, 1, 2]
    assert [chunk.digest for chunk in found] == [None, "xxh3:1", None]
    assert [bytes(chunk.data or b"") for chunk in found] == [b"\0" * 10, b"\1" * 20, b"\2" * 30]
    assert list(taken.chunks()) == []  # once each
    assert len(pool.out) == 3
    for chunk in found:
        taken.release(chunk)
    assert pool.out == {}
    taken.release(Filled(0, None, None))  # nothing was copied, nothing is given back


def test_several_threads_share_the_chunks(clock: HandClock) -> None:
    pool = Pool(3)
    taken = made_of(Chunks(), (100,) * 50, pool, clock)
    found: list[list[int]] = [[], [], []]

    def work(mine: list[int]) -> None:
        for chunk in taken.chunks():
            mine.append(chunk.number)
            taken.release(chunk)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in found]
    for thread in threads:
        thread.start()
    taken.copy()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert sorted(chain(*found)) == list(range(50))
    assert all(mine == sorted(mine) for mine in found)
    assert pool.out == {}


def test_chunks_that_are_as_they_were_are_not_copied(clock: HandClock) -> None:
    source, pool = Chunks(), Pool()
    source.digests = {0: "xxh3:a", 1: "xxh3:b", 3: "xxh3:d"}  # type: ignore[dict-item]
    taken = made_of(source, (10,) * 4, pool, clock)
    taken.copy({0: "xxh3:a", 1: "xxh3:other", 2: "xxh3:c"})  # type: ignore[dict-item]
    found = {chunk.number: chunk for chunk in taken.chunks()}
    assert [found[number].data is None for number in range(4)] == [True, False, False, False]
    assert found[0].digest == "xxh3:a"
    assert sorted(source.asked) == [0, 1, 2]  # what nobody expects to be the same is not looked at twice
    assert source.copied == [3, 1, 2]  # what surely has changed goes first, so that there is something to write
    assert len(pool.out) == 3


def test_a_live_array_is_compared_where_it_is(clock: HandClock) -> None:
    live = {"x": np.arange(LARGE // 8.0), "y": np.arange(LARGE // 8.0) + 1}
    first = captured(live, Pool(), clock)
    first.copy()
    digests = {chunk.number: checksum(chunk.data or b"") for chunk in first.chunks()}
    live["y"][-1] += 1
    again = captured(live, Pool(), clock)
    again.copy(digests)
    found = {chunk.number: chunk for chunk in again.chunks()}
    assert found[0].data is None
    assert found[0].digest == digests[0]
    assert found[1].data is not None
    assert checksum(found[1].data) != digests[1]


@pytest.fixture
def _four_copy_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(snapshot, "_LARGE", 1)


@pytest.mark.usefixtures("_four_copy_at_once")
def test_several_threads_copy_what_is_plain(clock: HandClock) -> None:
    live = {
        "plain": torch.arange(3 * CHUNK // 4, dtype=torch.int32),
        "turned": torch.arange(2 * CHUNK // 4, dtype=torch.int32).reshape(1024, -1).T,
        "array": np.arange(2 * CHUNK // 8.0),
        "apart": np.arange(2 * CHUNK // 8)[::2],
        "small": [torch.full((9,), at) for at in range(9)],
    }
    pool = Pool(4)  # each of the four holds one until somebody takes it
    taken = captured({"x": live}, pool, clock)
    copying = threading.Thread(target=taken.copy)
    copying.start()
    found: dict[int, bytes] = {}
    for chunk in taken.chunks():
        assert chunk.number not in found
        found[chunk.number] = bytes(chunk.data or b"")
        assert chunk.digest is None or chunk.digest == checksum(found[chunk.number])
        taken.release(chunk)
    copying.join(20)
    assert pool.out == {}
    whole = b"".join(found[number] for number in range(len(found)))
    rows = [live["plain"].numpy(), live["turned"].numpy(), live["array"], live["apart"]]
    assert whole.startswith(b"".join(np.ascontiguousarray(row).tobytes() for row in rows))


@pytest.mark.usefixtures("_four_copy_at_once")
@pytest.mark.parametrize("fails_at", [0, 7, 19])
def test_what_fails_in_one_of_several_threads_is_handed_over(clock: HandClock, fails_at: int) -> None:
    pool, source = Pool(), Chunks(fails_at, ValueError("gone"))
    source.is_plain = lambda number: number % 5 > 0  # type: ignore[method-assign]
    taken = made_of(source, (10,) * 20, pool, clock)
    taken.copy()
    with pytest.raises(ValueError, match="gone"):
        data_of(taken)
    taken.discard()
    assert len(source.copied) == len(set(source.copied))


def test_an_array_that_shrinks_meanwhile_is_not_read_beyond_its_end(clock: HandClock) -> None:
    live = {"x": torch.arange(LARGE // 4, dtype=torch.int32)}
    taken = captured(live, Pool(), clock)
    live["x"].resize_(100)
    taken.copy()
    with pytest.raises(ValueError, match="has 400 bytes left, and not 2097152"):
        data_of(taken)


def test_a_failure_while_copying_is_handed_over(clock: HandClock) -> None:
    error, pool = ValueError("gone"), Pool()
    source = Chunks(2, error)
    taken = made_of(source, (10,) * 5, pool, clock)
    taken.copy()  # not raised here: training goes on
    chunks = taken.chunks()
    for number in range(2):
        chunk = next(chunks)
        assert chunk.number == number
        taken.release(chunk)
    with pytest.raises(ValueError, match="gone") as caught:
        next(chunks)
    assert caught.value is error
    assert source.copied == [0, 1, 2]
    assert pool.out == {}
    with pytest.raises(ValueError, match="gone"):  # every thread hears of it
        next(taken.chunks())
    taken.discard()


def test_a_failure_while_comparing_is_handed_over(clock: HandClock) -> None:
    pool = Pool()
    source = Chunks()

    def fails(_: int) -> Digest | None:
        raise OSError("gone")

    source.digest = fails  # type: ignore[method-assign]
    taken = made_of(source, (10,), pool, clock)
    taken.copy({0: "xxh3:a"})  # type: ignore[dict-item]
    with pytest.raises(OSError, match="gone"):
        next(taken.chunks())
    assert pool.out == {}


def test_an_interrupt_while_copying_gives_the_buffer_back_and_ends_the_save(clock: HandClock) -> None:
    pool = Pool()
    taken = made_of(Chunks(0, KeyboardInterrupt()), (10,), pool, clock)
    with pytest.raises(KeyboardInterrupt):
        taken.copy()
    assert pool.out == {}
    assert not taken._handed.empty(), "whoever takes the chunks would wait for ever"
    with pytest.raises(CheckpointError, match="KeyboardInterrupt"):
        next(taken.chunks())


@pytest.mark.parametrize("fails_at", [None, 9])
def test_to_discard_lets_the_copy_come_to_its_end(clock: HandClock, fails_at: int | None) -> None:
    pool = Pool(2)
    taken = made_of(Chunks(fails_at, ValueError("gone")), (10,) * 20, pool, clock)
    copying = threading.Thread(target=taken.copy)
    copying.start()  # it waits for buffers that nobody gives back
    first = next(taken.chunks())
    taken.release(first)
    taken.discard()
    copying.join(20)
    assert not copying.is_alive()
    assert pool.out == {}
    assert pool.most_out <= 2
    taken.discard()  # nothing is left


def test_the_stall_is_what_held_up_whoever_copied(clock: HandClock) -> None:
    source = Chunks()
    taken = made_of(source, (10,) * 3, Pool(), clock)
    assert taken.began == clock.monotonic()
    clock.sleep(0.5)  # between the look and the copy
    source.beside = lambda: clock.sleep(1.0)
    assert taken.stall == 0.0
    taken.copy()
    assert taken.stall == 3.5
    clock.sleep(9.0)
    assert taken.stall == 3.5


def test_a_state_without_arrays_still_has_its_generators(clock: HandClock) -> None:
    taken = captured({"x": {"n": 1}}, Pool(), clock)
    taken.copy()
    assert sum(map(len, data_of(taken))) == sum(taken.content.sizes)
    assert taken.step == 7


def test_what_cannot_be_stored_is_said_before_anything_is_copied(clock: HandClock) -> None:
    pool = Pool()
    with pytest.raises(UnsupportedState, match=r"x\.bad cannot be saved"):
        captured({"x": {"good": np.zeros(9), "bad": 1j}}, pool, clock)
    assert pool.out == {}


def test_what_is_likely_to_be_the_same_may_have_gone(clock: HandClock) -> None:
    source = Chunks()
    source.digests = {0: checksum(b"a")}
    taken = made_of(source, (10,), Pool(), clock)
    taken.copy({0: checksum(b"a"), 5: checksum(b"b")})
    assert len(data_of(taken)) == 1
