"""Whatever becomes of a state between saves, and wherever it is resumed: every checkpoint that is kept comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.checkpoint.test_round_trips import RUN, Engine, bits

from spotweld.checkpoint.encoding import encoder_for
from spotweld.checkpoint.layout import CHUNK, SMALL
from spotweld.checkpoint.publishing import Publisher
from spotweld.checkpoint.restoring import find_newest
from spotweld.project.nouns import Compress
from spotweld.store.heads import take_over

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import HandClock, Watched

Action: TypeAlias = tuple[str, str, str, int, int]
"""What is done, to which tensor, with which other one, a number of bytes, and a seed."""
NAMES = ["a", "b", "c", "d"]
SIZES = [0, 4, 5000, 2**16, SMALL - 4, SMALL, SMALL + 4, CHUNK, CHUNK + 4, CHUNK + SMALL - 4]
DTYPES = [torch.float32, torch.bfloat16, torch.int32, torch.uint8]
WORK = ["make", "make", "make", "train", "train", "train", "touch", "touch", "halve", "share", "move", "drop"]
actions = st.tuples(
    st.sampled_from([*WORK, "save", "save", "save", "save", "resume"]),
    st.sampled_from(NAMES),
    st.sampled_from(NAMES),
    st.sampled_from(SIZES),
    st.integers(0, 1000),
)


def work(state: dict[str, torch.Tensor], kind: str, name: str, other: str, size: int, seed: int) -> None:
    """Something that a program does to its state."""
    chance = torch.Generator().manual_seed(seed)
    if kind == "make":
        dtype = DTYPES[seed % len(DTYPES)]
        state[name] = torch.randn(size // dtype.itemsize, generator=chance).to(dtype)
    elif name in state:
        one = state[name]
        match kind:
            case "train":
                one += (torch.randn(one.shape, generator=chance) / 1000).to(one.dtype)
            case "touch" if one.numel():
                one[seed * 7919 % one.numel()] += 1
            case "halve":
                state[name] = one[: one.numel() // 2]
            case "share":
                state[other] = one[one.numel() // 3 :]
            case "move":
                state[other] = state.pop(name)
            case "drop":
                del state[name]


class Life(Engine):
    """Remembers what was saved."""

    def __init__(
        self, new_store: Callable[[], Watched], clock: HandClock, compress: str, keep: tuple[int, int]
    ) -> None:
        super().__init__(new_store, clock, compress)
        self.compress, self.keep, self.attempt = Compress(compress), keep, 0
        self.saved: dict[int, Any] = {}
        self.resume()

    def resume(self) -> None:
        """Go on in another process."""
        self.attempt += 1
        self.head = take_over(self.store, RUN, self.attempt)
        found = find_newest(self.store, RUN, self.head.head.kept)
        self.publisher = Publisher(
            self.store,
            RUN,
            self.head,
            self.clock,
            keep_last=self.keep[0],
            keep_every=self.keep[1],
            whole=found.manifest if found else None,
            encoder=encoder_for(self.compress, self.store),
        )

    def check(self) -> None:
        """Everything that the head names is as it was saved."""
        kept = self.head.head.kept
        assert [one.step for one in kept[:1]] == [self.step][: len(self.saved)]
        for one in kept:
            found = find_newest(self.store, RUN, [one])
            assert found is not None
            assert bits(found.state) == self.saved[one.step]


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    st.sampled_from(["none", "bytes"]),
    st.sampled_from([(1, 0), (2, 0), (3, 0), (1, 2)]),
    st.lists(actions, min_size=10, max_size=40),
)
def test_every_checkpoint_that_is_kept_comes_back(
    new_store: Callable[[], Watched],
    new_clock: type[HandClock],
    compress: str,
    keep: tuple[int, int],
    done: list[Action],
) -> None:
    life, state = Life(new_store, new_clock(), compress, keep), dict[str, torch.Tensor]()
    for kind, name, other, size, seed in [*done, ("save", "", "", 0, 0)]:
        if kind == "save":
            life.saved[life.step + 1] = bits({"x": state})
            life.save({"x": state})
            life.check()
        elif kind == "resume":
            life.resume()
            life.check()
        else:
            work(state, kind, name, other, size, seed)
