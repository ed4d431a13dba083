from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from spotweld.checkpoint.sampler import Sampler, permutation
from spotweld.errors import StateMismatch, UsageError

GOLDEN = {(0, 0): [6, 3, 0, 2, 1, 8, 4, 5, 9, 7], (7, 3): [2, 0, 4, 8, 1, 7, 6, 3, 9, 5]}
settings = st.tuples(st.integers(1, 60), st.integers(1, 20), st.integers(), st.booleans())


def test_the_order_is_the_documented_one() -> None:
    assert list(permutation(10, 0, 0)) == GOLDEN[0, 0]
    assert list(permutation(10, 7, 3)) == GOLDEN[7, 3]


@given(st.integers(0, 300), st.integers(), st.integers(0, 10**6))
def test_an_order_is_a_permutation(length: int, seed: int, epoch: int) -> None:
    assert sorted(permutation(length, seed, epoch)) == list(range(length))


def test_orders_are_spread_evenly() -> None:
    counts = Counter(tuple(permutation(4, 1, epoch)) for epoch in range(24 * 200))
    assert len(counts) == 24
    chi2 = sum((count - 200) ** 2 / 200 for count in counts.values())
    assert chi2 < 49.7  # 99.9 % of chi-square with 23 degrees of freedom


@given(settings, st.booleans(), st.integers(0, 30), st.integers(0, 30))
def test_a_resumed_sampler_goes_on_with_the_very_next_batch(
    given: tuple[int, int, int, bool], drop_last: bool, before: int, after: int
) -> None:
    length, size, seed, shuffle = given
    if drop_last:
        length = max(length, size)
    whole = Sampler(length, size, seed, shuffle=shuffle, drop_last=drop_last)
    batches = [whole.next() for _ in range(before + after)]
    first = Sampler(length, size, seed, shuffle=shuffle, drop_last=drop_last)
    for _ in range(before):
        first.next()
    second = Sampler(length, size, seed, shuffle=shuffle, drop_last=drop_last)
    second.load_state_dict(first.state_dict())
    assert [second.next() for _ in range(after)] == batches[before:]
    assert (second.epoch, second.position) == divmod(before + after, len(second))


@given(settings)
def test_an_epoch_has_every_sample_once(given: tuple[int, int, int, bool]) -> None:
    length, size, seed, shuffle = given
    sampler = Sampler(length, size, seed, shuffle=shuffle)
    for epoch in range(3):
        assert sampler.epoch == epoch
        seen = [index for batch in sampler for index in batch]
        assert sorted(seen) == list(range(length))
        assert shuffle or seen == list(range(length))


def test_iterating_goes_on_in_the_middle_of_an_epoch() -> None:
    sampler = Sampler(10, 3)
    sampler.next()
    assert [len(batch) for batch in sampler] == [3, 3, 1]
    assert sampler.epoch == 1
    for _ in sampler:
        break
    assert (sampler.epoch, sampler.position) == (1, 1)


def test_short_last_batches_can_be_dropped() -> None:
    assert [len(batch) for batch in Sampler(10, 3, drop_last=True)] == [3, 3, 3]


@pytest.mark.parametrize(("length", "size", "drop_last"), [(0, 1, False), (5, 0, False), (5, -1, False), (3, 4, True)])
def test_an_epoch_without_a_batch_is_refused(length: int, size: int, drop_last: bool) -> None:
    with pytest.raises(UsageError):
        Sampler(length, size, drop_last=drop_last)


def test_a_position_counted_otherwise_is_a_mismatch() -> None:
    with pytest.raises(StateMismatch, match="batch_size was 3 and is 4"):
        Sampler(10, 4).load_state_dict(Sampler(10, 3).state_dict())


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_that_draws_ahead_repeats_and_skips_nothing(workers: int) -> None:
    data = TensorDataset(torch.arange(20))

    def run(sampler: Sampler, count: int) -> list[list[int]]:
        loader = DataLoader(data, batch_sampler=sampler, num_workers=workers, prefetch_factor=4 if workers else None)
        batches = sampler.batches(loader)
        return [next(batches)[0].tolist() for _ in range(count)]

    plain = Sampler(20, 3, 5)
    wanted = [plain.next() for _ in range(18)]
    first = Sampler(20, 3, 5)
    got = run(first, 9)
    assert first.taken == 9
    second = Sampler(20, 3, 5)
    second.load_state_dict(first.state_dict())
    assert got + run(second, 9) == wanted


def test_a_loader_leaves_the_global_generator_alone() -> None:
    sampler = Sampler(6, 2)
    before = torch.get_rng_state()
    batches = sampler.batches(DataLoader(TensorDataset(torch.arange(6)), batch_sampler=sampler))
    for _ in range(7):
        next(batches)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_loader_without_the_sampler_is_noticed() -> None:
    sampler = Sampler(6, 2)
    with pytest.raises(UsageError, match="no batch"):
        next(sampler.batches([]))
