import threading

import pytest

from spotweld.checkpoint.threads import beside


def test_the_work_is_shared_and_waited_for() -> None:
    todo, done = list(range(100)), list[int]()

    def work() -> None:
        while todo:
            done.append(todo.pop())

    with beside(work, 3, "spotweld test"):
        work()
    assert sorted(done) == list(range(100))
    assert not [one for one in threading.enumerate() if one.name == "spotweld test"]


@pytest.mark.parametrize("threads", [1, 3])
def test_a_failure_is_raised_when_all_have_ended(threads: int) -> None:
    ended = []

    def work() -> None:
        ended.append(1)
        raise ValueError("theirs")

    with pytest.raises(ValueError, match="theirs"), beside(work, threads, "spotweld test"):
        pass
    assert len(ended) == threads


def test_what_the_block_raises_comes_first() -> None:
    def work() -> None:
        raise ValueError("theirs")

    with pytest.raises(KeyError, match="ours"), beside(work, 2, "spotweld test"):
        raise KeyError("ours")
    with beside(work, 0, "spotweld test"):
        pass
