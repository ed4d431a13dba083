"""Loaders resume at every batch: what comes after, and what the generators give after, is what would have come."""

from __future__ import annotations

import copy
import itertools
import random
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler
from torchdata.stateful_dataloader import StatefulDataLoader

from spotweld import Sampler
from spotweld.checkpoint.adapters.ahead import Watched
from spotweld.checkpoint.adapters.loaders import Resumable
from spotweld.checkpoint.rng import capture_rng, restore_rng
from spotweld.errors import StateMismatch, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata calls it


class Noisy(Dataset):
    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> tuple[int, float, float]:
        return index, random.random(), torch.rand(()).item()


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[torch.Tensor]:
        for index in range(10):
            yield torch.rand(()) + index


class Plain:
    """No loader at all, but something to iterate over."""

    def __iter__(self) -> Iterator[float]:
        return iter(torch.rand(4).tolist())


def own_generator() -> DataLoader:
    generator = torch.Generator().manual_seed(7)
    return DataLoader(range(10), batch_size=3, sampler=RandomSampler(range(10), generator=generator))


LOADERS: dict[str, Callable[[], Any]] = {
    "shuffled": lambda: DataLoader(Noisy(), batch_size=3, shuffle=True),
    "own generator": own_generator,
    "stream": lambda: DataLoader(Stream(), batch_size=3),
    "iterable": Plain,
    "sampler": lambda: DataLoader(Noisy(), batch_sampler=Sampler(10, 3, seed=1)),
    "stateful": lambda: StatefulDataLoader(Noisy(), batch_size=3, shuffle=True),
    "stateful stream": lambda: StatefulDataLoader(Stream(), batch_size=3),
}


def train(batches: Iterator[Any], steps: int) -> list[str]:
    """What a training sees, one that draws random numbers itself."""
    return [f"{next(batches)} {torch.rand(1).item()} {random.random()}" for _ in range(steps)]


def seed() -> None:
    torch.manual_seed(0)
    random.seed(0)


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("taken", range(10))
def test_resumes_at_every_batch(name: str, taken: int) -> None:
    seed()
    wanted = train(Resumable(LOADERS[name]()).batches(), 14)
    seed()
    loader = Resumable(LOADERS[name]())
    batches = loader.batches()
    train(batches, taken)
    state, rng = copy.deepcopy(loader.state_dict()), capture_rng()
    seed()
    fresh = Resumable(LOADERS[name]())
    fresh.load_state_dict(state)
    assert fresh.state_dict()["count"] == state["count"]  # a save before the first batch
    restore_rng(rng)
    assert train(fresh.batches(), 14 - taken) == wanted[taken:]


@pytest.mark.parametrize("name", ["shuffled", "stream"])
@pytest.mark.parametrize("taken", [1, 2, 3, 5, 6, 7])
def test_a_reader_that_takes_a_batch_ahead_resumes_at_every_batch(name: str, taken: int) -> None:
    def prefetch(batches: Iterator[Any]) -> Iterator[Any]:
        waiting = [next(batches)]

        def read() -> Iterator[Any]:
            for batch in batches:
                waiting.append(batch)
                yield waiting.pop(0)
            yield waiting.pop(0)

        return read()

    def epochs(loader: Resumable[Any]) -> Iterator[Any]:
        while True:
            yield from prefetch(iter(loader))

    seed()
    wanted = train(epochs(Resumable(LOADERS[name](), ahead=1)), 10)
    seed()
    loader = Resumable(LOADERS[name](), ahead=1)
    train(epochs(loader), taken)
    state, rng = copy.deepcopy(loader.state_dict()), capture_rng()
    fresh = Resumable(LOADERS[name](), ahead=1)
    fresh.load_state_dict(state)
    reader = prefetch(iter(fresh))
    restore_rng(rng)  # as a framework's adapter does when it has come to where it saved
    assert train(itertools.chain(reader, epochs(fresh)), 10 - taken) == wanted[taken:]


def test_an_epoch_that_is_left_is_over() -> None:
    for name, make in LOADERS.items():
        seed()
        loader = Resumable(make())
        train(iter(loader), 2)
        again = iter(loader)
        assert loader.epoch == 1
        state, rng = copy.deepcopy(loader.state_dict()), capture_rng()
        wanted = train(again, 2)
        fresh = Resumable(make())
        fresh.load_state_dict(state)
        restore_rng(rng)
        if name != "sampler":  # our sampler goes on where it was left, in every case
            assert train(iter(fresh), 2) == wanted, name


@pytest.mark.slow
@pytest.mark.parametrize("make", [DataLoader, partial(DataLoader, persistent_workers=True), StatefulDataLoader])
def test_workers_read_ahead_and_nothing_is_skipped(make: Any) -> None:  # noqa: ANN401
    def loader() -> Resumable[Any]:
        return Resumable(make(range(20), batch_size=3, shuffle=True, num_workers=2))

    seed()
    wanted = train(loader().batches(), 12)
    for taken in (2, 7, 9):
        seed()
        first = loader()
        train(first.batches(), taken)
        state, rng = copy.deepcopy(first.state_dict()), capture_rng()
        fresh = loader()
        fresh.load_state_dict(state)
        restore_rng(rng)
        assert train(fresh.batches(), 12 - taken) == wanted[taken:]


def test_augmentation_inside_workers_is_repeated_by_a_plain_loader() -> None:
    def loader() -> Resumable[Any]:
        return Resumable(DataLoader(Noisy(), batch_size=3, shuffle=True, num_workers=1))

    seed()
    wanted = train(loader().batches(), 4)
    seed()
    first = loader()
    train(first.batches(), 2)
    state, rng = copy.deepcopy(first.state_dict()), capture_rng()
    fresh = loader()
    fresh.load_state_dict(state)
    restore_rng(rng)
    assert train(fresh.batches(), 2) == wanted[2:]


def test_passes_on_what_it_wraps() -> None:
    loader = Resumable(DataLoader(range(10), batch_size=3))
    assert (len(loader), loader.batch_size) == (4, 3)
    with pytest.raises(AttributeError):
        _ = loader.nothing


def test_an_empty_loader_is_told() -> None:
    with pytest.raises(UsageError, match="no batch"):
        next(Resumable([]).batches())


def test_a_position_of_another_loader_is_refused() -> None:
    stateful = Resumable(StatefulDataLoader(range(10)))
    next(iter(stateful))
    with pytest.raises(StateMismatch):
        Resumable(DataLoader(range(10))).load_state_dict(stateful.state_dict())
    plain = Resumable(DataLoader(range(10)))
    train(iter(plain), 5)
    shorter = Resumable(DataLoader(range(3)))
    shorter.load_state_dict(plain.state_dict())
    with pytest.raises(StateMismatch, match="fewer batches"):
        next(iter(shorter))
    other = Resumable([1, 2, 3])
    other.load_state_dict(plain.state_dict())
    with pytest.raises(StateMismatch, match="other samplers"):
        next(iter(other))


def test_what_was_fetched_in_another_epoch_is_forgotten() -> None:
    watched = Watched([[0], [1], [2]], keep=3)
    list(watched)
    assert sorted(watched.kept()) == [0, 1, 2, 3]
    indices = iter(watched)
    next(indices)
    assert sorted(watched.kept()) == [0]
