from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from spotweld import Checkpointer, open_checkpoint
from spotweld.errors import StateMismatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Watched

MAKE: dict[str, Callable[[int], Any]] = {
    "python": random.Random,
    "numpy": np.random.default_rng,
    "bits": lambda seed: np.random.Generator(np.random.Philox(seed)),
    "legacy": np.random.RandomState,
    "torch": lambda seed: torch.Generator().manual_seed(seed),
}


def draw(generator: Any) -> list[float]:  # noqa: ANN401
    if isinstance(generator, torch.Generator):
        return torch.rand(3, generator=generator).tolist()
    if isinstance(generator, random.Random):
        return [generator.random(), generator.gauss(0, 1), generator.getrandbits(70)]
    return [float(generator.normal()) for _ in range(3)]


@pytest.mark.parametrize("kind", MAKE)
def test_a_generator_goes_on_where_it_was(store: Watched, kind: str) -> None:
    def drawn(store: Watched, steps: int) -> list[Any]:
        generator, log = MAKE[kind](1), [[0.0]]
        checkpointer = Checkpointer({"generator": generator, "log": log}, store=store, every=1, notices=())
        log.extend(draw(generator) for _ in checkpointer.steps(steps))
        return log

    drawn(store, 3)
    generator = MAKE[kind](1)
    assert drawn(store, 6)[1:] == [draw(generator) for _ in range(6)]
    other = MAKE[kind](2)
    open_checkpoint(store).load_into({"generator": other}, only="generator")
    assert draw(other) == draw(generator)


def test_a_bit_generator_is_one_too(store: Watched) -> None:
    bits = np.random.PCG64(1)
    for _ in Checkpointer({"bits": bits}, store=store, every=1, notices=()).steps(1):
        bits.random_raw()
    other = np.random.PCG64(2)
    open_checkpoint(store).load_into({"bits": other})
    assert other.random_raw() == bits.random_raw()


@pytest.mark.parametrize(("then", "now"), [("numpy", "bits"), ("python", "torch"), ("torch", "numpy")])
def test_another_sort_is_a_mismatch(store: Watched, then: str, now: str) -> None:
    for _ in Checkpointer({"generator": MAKE[then](1)}, store=store, every=1, notices=()).steps(1):
        pass
    with pytest.raises(StateMismatch, match="generator does not accept its saved state"):
        list(Checkpointer({"generator": MAKE[now](1)}, store=store, notices=()).steps(2))
