"""Random number generators of the program's own, which PyTorch, NumPy and Python give no ``state_dict``."""

from __future__ import annotations

import random
import sys
from typing import TYPE_CHECKING, Any

from spotweld.checkpoint.rng import pack_words, unpack_words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def with_generators(state: Mapping[str, object]) -> dict[str, object]:
    """The parts of a state; a generator among them as what can be saved and restored."""
    return {name: _part(part) for name, part in state.items()}


class Generator:
    """A generator with the two methods that a part of a state has.

    Args:
        take: gives its state.
        put: makes it what such a state says.
    """

    def __init__(self, take: Callable[[], Any], put: Callable[[Any], object]) -> None:
        self.state_dict, self.load_state_dict = take, put


def _part(part: object) -> object:
    if isinstance(part, random.Random):
        return _of_python(part)
    numpy, torch = sys.modules.get("numpy.random"), sys.modules.get("torch")
    if numpy is not None and isinstance(part, numpy.RandomState):
        return Generator(lambda: part.get_state(legacy=False), part.set_state)
    if numpy is not None and isinstance(part, (numpy.Generator, numpy.BitGenerator)):
        bits = part if isinstance(part, numpy.BitGenerator) else part.bit_generator
        return Generator(lambda: bits.state, lambda state: setattr(bits, "state", state))
    if torch is not None and isinstance(part, torch.Generator):
        return Generator(lambda: {"state": part.get_state()}, lambda state: part.set_state(state["state"]))
    return part


def _of_python(generator: random.Random) -> Generator:
    def take() -> dict[str, Any]:
        version, words, spare = generator.getstate()
        return {"version": version, "words": pack_words(words), "spare": spare}

    def put(state: dict[str, Any]) -> None:
        generator.setstate((state["version"], unpack_words(state["words"]), state["spare"]))

    return Generator(take, put)
