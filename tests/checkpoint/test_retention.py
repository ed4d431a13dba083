from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spotweld.checkpoint.retention import retain


@given(st.integers(0, 60), st.integers(-2, 8), st.integers(0, 8))
def test_the_newest_and_every_nth_are_kept(count: int, last: int, every: int) -> None:
    numbers = list(range(count, 0, -1))
    kept = [numbers[at] for at in retain(numbers, keep_last=last, keep_every=every)]
    assert kept == sorted(set(kept), reverse=True)
    assert kept[: max(1, last)] == numbers[: max(1, last)]
    assert all(number % every == 0 for number in kept[max(1, last) :]) if every else len(kept) <= max(1, last)


@given(st.integers(1, 60), st.integers(1, 8), st.integers(0, 8))
def test_dropping_one_by_one_ends_as_dropping_at_once(count: int, last: int, every: int) -> None:
    numbers: list[int] = []
    for number in range(1, count + 1):
        numbers.insert(0, number)
        numbers = [numbers[at] for at in retain(numbers, keep_last=last, keep_every=every)]
    whole = list(range(count, 0, -1))
    assert numbers == [whole[at] for at in retain(whole, keep_last=last, keep_every=every)]
