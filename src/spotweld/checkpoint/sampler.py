"""Which samples come next: a pure function of the seed and of how many batches were taken.

The permutation of epoch ``e`` is a Fisher-Yates shuffle driven by BLAKE3's extendable output, so that it is the same
on every machine, in every version of Python, and in any language: let ``x[0], x[1], ...`` be the 64-bit little-endian
words of ``BLAKE3("spotweld sampler 1 SEED e")`` (decimal numbers, one blank between), ``p = [0, 1, ..., n - 1]``; for
``i = n - 1`` down to 1 swap ``p[i]`` and ``p[(x[i] * (i + 1)) >> 64]``. (The high word of the product is Lemire's
multiply-shift, ACM TOMACS 29(1), 2019, without the rejection: a probability is off by at most n / 2**64.)
"""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING, Any, TypeVar

from blake3 import blake3

from spotweld.errors import StateMismatch, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

T = TypeVar("T")


def permutation(length: int, seed: int, epoch: int) -> Sequence[int]:
    """The order of ``length`` samples in an epoch, as the module's text defines it. About 0.3 s for a million."""
    words = array("Q", blake3(f"spotweld sampler 1 {seed} {epoch}".encode()).digest(length=8 * length))
    if sys.byteorder == "big":
        words.byteswap()
    order = array("Q", range(length))
    for at in range(length - 1, 0, -1):
        other = (words[at] * (at + 1)) >> 64
        order[at], order[other] = order[other], order[at]
    return order


class Sampler:
    """Hands out batches of sample indices and knows how far it is. Put it into the ``Checkpointer``'s state.

    Three ways to use it, each of which repeats and skips nothing after a resume:

    - ``sampler.next()`` gives the next batch's indices, over all epochs.
    - ``for batch in sampler`` gives the batches that the current epoch has left.
    - ``batches = sampler.batches(DataLoader(dataset, batch_sampler=sampler, num_workers=4))`` and ``next(batches)`` in
      the loop gives the loader's batches, over all epochs.

    With a ``DataLoader`` use the third way only. A loader's workers draw batches *ahead* of the loop, so the number of
    batches drawn is more than what was trained on, and a resume from it would skip some; ``batches`` counts what
    reaches the loop. It also keeps the loader from drawing from PyTorch's global generator, which a loader does
    whenever its iteration starts: after a resume in the middle of an epoch that would be once too often.

    Args:
        length: number of samples.
        batch_size: samples in a batch; the last batch of an epoch may have fewer.
        seed: of the order.
        shuffle: False: in order, in every epoch.
        drop_last: leave out an epoch's last batch if it is short.

    Raises:
        UsageError: an epoch would have no batch.
    """

    def __init__(
        self, length: int, batch_size: int, seed: int = 0, *, shuffle: bool = True, drop_last: bool = False
    ) -> None:
        self._settings: dict[str, int | bool] = {
            "length": length,
            "batch_size": batch_size,
            "seed": seed,
            "shuffle": shuffle,
            "drop_last": drop_last,
        }
        self._length, self._batch_size, self._seed, self._shuffle = length, batch_size, seed, shuffle
        self._per_epoch = 0
        if batch_size > 0:
            self._per_epoch = length // batch_size if drop_last else -(-length // batch_size)
        if self._per_epoch < 1:
            raise UsageError("The sampler has no batch", f"{length} samples in batches of {batch_size}")
        self._taken = 0
        self._ahead = False
        self._order: tuple[int, Sequence[int]] = (-1, ())

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self._per_epoch

    @property
    def taken(self) -> int:
        """Batches taken since the very start, over all epochs and attempts."""
        return self._taken

    @property
    def epoch(self) -> int:
        """The epoch of the next batch, from 0."""
        return self._taken // self._per_epoch

    @property
    def position(self) -> int:
        """Batches of that epoch already taken."""
        return self._taken % self._per_epoch

    def batch(self, number: int) -> list[int]:
        """The indices of a batch, counted from 0 over all epochs. Changes nothing."""
        epoch, position = divmod(number, self._per_epoch)
        if not self._shuffle:
            order: Sequence[int] = range(self._length)
        else:
            if self._order[0] != epoch:
                self._order = (epoch, permutation(self._length, self._seed, epoch))
            order = self._order[1]
        return list(order[position * self._batch_size : (position + 1) * self._batch_size])

    def next(self) -> list[int]:
        """Take the next batch's indices."""
        indices = self.batch(self._taken)
        self._taken += 1
        return indices

    def __iter__(self) -> Iterator[list[int]]:
        """The batches that the current epoch has left."""
        start = self._taken
        for number in range(start, (self.epoch + 1) * self._per_epoch):
            indices = self.batch(number)
            if not self._ahead:
                self._taken = number + 1
            yield indices

    def batches(self, loader: Iterable[T]) -> Iterator[T]:
        """What ``loader`` makes of the batches from here on, over all epochs without an end.

        Args:
            loader: a ``DataLoader`` (or anything iterable) that has this sampler as its ``batch_sampler``.
        """
        self._ahead = True
        while True:
            start = self._taken
            for batch in _quietly(loader):
                self._taken += 1
                yield batch
            if self._taken == start:
                raise UsageError("The loader gave no batch", "", "Make it with batch_sampler=sampler.")

    def state_dict(self) -> dict[str, Any]:
        """The position, and the settings that it is counted in."""
        return {**self._settings, "taken": self._taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved position.

        Raises:
            StateMismatch: it was counted with other settings.
        """
        for name, ours in self._settings.items():
            if state.get(name) != ours:
                raise StateMismatch(
                    "The sampler's settings changed", f"{name} was {state.get(name)!r} and is {ours!r} now"
                )
        self._taken = int(state["taken"])


def _quietly(loader: Iterable[T]) -> Iterator[T]:
    """Start the loader's iteration without a trace in PyTorch's global generator."""
    torch = sys.modules.get("torch")
    if torch is None:
        return iter(loader)
    before = torch.get_rng_state()
    iterator = iter(loader)
    torch.set_rng_state(before)
    return iterator
