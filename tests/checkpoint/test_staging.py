import threading

import pytest

from spotweld.checkpoint.layout import BLOCK, CHUNK
from spotweld.checkpoint.staging import FEWEST, Staging
from spotweld.store.direct import is_aligned


@pytest.mark.parametrize(
    ("limit", "chunks", "buffers"),
    [(None, 5, 5), (0, 9, FEWEST), (5 * CHUNK, 9, 5), (5 * CHUNK + 1, 3, 3), (5 * CHUNK, 2, 2)],
)
def test_there_are_as_many_as_the_limit_allows(limit: int | None, chunks: int, buffers: int) -> None:
    staging = Staging(limit)
    staging.reserve(chunks)
    assert staging.buffers == buffers
    staging.reserve(chunks)
    staging.reserve(1)
    assert staging.buffers == buffers
    taken = [staging.take() for _ in range(buffers)]
    assert all(buffer.nbytes == CHUNK and is_aligned(buffer[:BLOCK]) for buffer in taken)
    for at, buffer in enumerate(taken):
        buffer[:] = bytes([at]) * CHUNK
    assert [buffer[0] for buffer in taken] == list(range(buffers))


def test_whoever_finds_none_waits_for_one_that_is_given_back() -> None:
    staging = Staging(0)
    staging.reserve(9)
    taken = [staging.take() for _ in range(FEWEST)]
    found: list[memoryview] = []
    waiting = threading.Thread(target=lambda: found.append(staging.take()))
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    staging.give_back(taken[1])
    waiting.join(10)
    assert found[0] is taken[1]
    assert staging.buffers == FEWEST


def test_it_grows_beside_the_training_and_wakes_whoever_waits() -> None:
    staging = Staging()
    staging.grow(20)
    taken = [staging.take() for _ in range(20)]
    assert len({id(buffer) for buffer in taken}) == staging.buffers == 20
    staging.grow(10)
    assert staging.buffers == 20
    staging.close()
    staging.close()
    assert not any(thread.name == "spotweld staging" for thread in threading.enumerate())


def test_closing_stops_the_growing() -> None:
    staging = Staging()
    began, go_on = threading.Event(), threading.Event()
    real = staging._add

    def slowly(wanted: int) -> bool:
        began.set()
        go_on.wait(10)
        return real(min(wanted, staging.buffers + 1))

    staging._add = slowly  # type: ignore[method-assign]
    staging.grow(50)
    began.wait(10)
    staging._stopped.set()
    go_on.set()
    staging.close()
    assert staging.buffers == 1
