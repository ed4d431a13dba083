import errno
import threading
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotweld.checkpoint import staging as module
from spotweld.checkpoint.layout import BLOCK, CHUNK
from spotweld.checkpoint.staging import FEWEST, Staging
from spotweld.store.direct import is_aligned

SIZES = st.lists(st.integers(1, CHUNK // BLOCK).map(lambda blocks: blocks * BLOCK), max_size=12)


def take_all(staging: Staging, sizes: list[int]) -> list[memoryview]:
    return [staging.take(size) for size in sizes]


def give_all(staging: Staging, taken: list[memoryview]) -> None:
    for buffer in taken:
        staging.give_back(buffer)


@given(st.lists(SIZES, min_size=1, max_size=3))
def test_without_a_limit_the_memory_is_what_the_newest_state_takes(states: list[list[int]]) -> None:
    staging = Staging()
    for sizes in states:
        staging.reserve(sizes)
        taken = take_all(staging, sizes)
        for at, buffer in enumerate(taken):
            assert is_aligned(buffer)
            buffer[:] = bytes([at]) * buffer.nbytes
        assert [bytes(buffer) for buffer in taken] == [bytes([at]) * size for at, size in enumerate(sizes)]
        assert sum(many * size for size, many in staging._made.items()) == sum(sizes)
        give_all(staging, taken)
    assert staging.at_once is None


@pytest.mark.parametrize(
    ("limit", "chunks", "most"), [(0, 9, FEWEST), (5 * CHUNK, 9, 5), (5 * CHUNK + 1, 3, 3), (5 * CHUNK, 2, 2)]
)
def test_there_are_as_many_as_the_limit_allows(limit: int, chunks: int, most: int) -> None:
    staging = Staging(limit)
    for many in (chunks, chunks, 1):
        staging.reserve([BLOCK] * many)
        assert staging.at_once == most
        assert staging._made == Counter({CHUNK: most})
    assert all(buffer.nbytes == CHUNK and is_aligned(buffer) for buffer in take_all(staging, [BLOCK] * most))


@pytest.mark.parametrize("limit", [None, 0])
def test_whoever_finds_none_waits_for_one_that_is_given_back(limit: int | None) -> None:
    staging = Staging(limit)
    staging.reserve([CHUNK] * FEWEST)
    taken = take_all(staging, [CHUNK] * FEWEST)
    found: list[memoryview] = []
    waiting = threading.Thread(target=lambda: found.append(staging.take(CHUNK)))
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    staging.give_back(taken[1])
    waiting.join(10)
    assert found[0] is taken[1]


def test_it_grows_beside_the_training_and_wakes_whoever_waits() -> None:
    staging = Staging()
    sizes = [CHUNK] * 17 + [BLOCK] * 3
    staging.grow(sizes)
    taken = take_all(staging, sizes)
    assert len({id(buffer) for buffer in taken}) == 20
    give_all(staging, taken)
    staging.grow(sizes)
    assert take_all(staging, [BLOCK]) == [taken[17]]
    staging.close()
    staging.close()
    assert not any(thread.name == "spotweld staging" for thread in threading.enumerate())


def test_closing_stops_the_growing() -> None:
    staging = Staging()
    began, go_on, made = threading.Event(), threading.Event(), []

    def slowly() -> bool:
        began.set()
        made.append(go_on.wait(10))
        return True

    staging._add = slowly  # type: ignore[method-assign]
    staging.grow([CHUNK])
    began.wait(10)
    staging._stopped.set()
    go_on.set()
    staging.close()
    assert made == [True]


def test_no_memory_fails_the_save_and_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    staging = Staging()
    with monkeypatch.context() as patch:
        patch.setattr(module.mmap, "mmap", _refuse)
        staging.grow([CHUNK])
        with pytest.raises(OSError, match="memory"):
            staging.take(CHUNK)
    staging.grow([CHUNK])
    assert staging.take(CHUNK).nbytes == CHUNK
    staging.close()


def _refuse(*_: object) -> None:
    raise OSError(errno.ENOMEM, "Cannot allocate memory")


def test_where_there_is_too_little_memory_what_there_is_is_the_limit(caplog: pytest.LogCaptureFixture) -> None:
    staging = Staging(room=lambda: 5 * CHUNK + 1)
    staging.reserve([CHUNK] * 5)
    assert staging.at_once is None
    staging.reserve([BLOCK, *[CHUNK] * 12])
    assert staging.at_once == 10, "of which it has five already"
    assert staging._made == Counter({CHUNK: 10})
    staging.reserve([CHUNK] * 3)
    assert staging.at_once == 10, "what was short once will be again"
    (record,) = caplog.records
    assert "the copy of a state of 50.3 MB gets 41.9 MB, so a save holds the training up" in record.message


@pytest.mark.parametrize("room", [0, 2 * CHUNK])
def test_with_next_to_no_memory_there_are_as_few_buffers_as_can_be(room: int) -> None:
    staging = Staging(room=lambda: room)
    staging.grow([CHUNK] * 9)
    taken = take_all(staging, [CHUNK] * FEWEST)
    assert staging.at_once == FEWEST
    give_all(staging, taken)
    staging.close()
    assert staging._made == Counter({CHUNK: FEWEST})


def test_a_small_state_gets_its_memory_even_if_there_is_none() -> None:
    staging = Staging(room=lambda: 0)
    staging.reserve([BLOCK] * 9)
    assert staging.at_once is None


def test_a_limit_that_was_given_is_kept_to_whatever_there_is() -> None:
    staging = Staging(4 * CHUNK, room=lambda: pytest.fail("nobody asked"))
    staging.reserve([CHUNK] * 9)
    assert staging.at_once == 4
