"""Batches that a loader has fetched before anybody trained on them.

What a dataset or a collator draws from the global generators when such a batch is made depends on how far the training
was at that moment, and the training draws from them too. A resume makes those batches again, so it has to set the
generators to what they were for each of them.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from spotweld.checkpoint.rng import capture_rng, restore_rng

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Watched:
    """Stands in for a loader's batch sampler, and keeps the generators' states of the latest fetches.

    A loader without workers asks its batch sampler for indices right before it makes the batch of them. (With workers
    the main process draws nothing for a batch, and only the order of an epoch may be drawn.)

    Args:
        indices: the batch sampler.
        keep: of how many fetches, the one that finds the epoch at its end not counted; -1: of none.
    """

    def __init__(self, indices: Iterable[Any], keep: int) -> None:
        self.watched = indices
        self.order: dict[str, Any] = {}
        """The generators' states when the order of the latest epoch was drawn."""
        self._same_order: dict[str, Any] = {}
        self._kept: deque[tuple[int, dict[str, Any]]] = deque(maxlen=keep + 1)
        self._again: dict[int, dict[str, Any]] = {}

    def __len__(self) -> int:
        return len(self.watched)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        if name == "watched":  # not there yet, while a copy is made
            raise AttributeError(name)
        return getattr(self.watched, name)

    def __iter__(self) -> Iterator[Any]:
        self._kept.clear()
        restore_rng(self._same_order)
        self.order, self._same_order = capture_rng(), {}
        number = 0
        iterator = iter(self.watched)
        while True:
            again = self._again.pop(number, None)
            if again is not None:
                restore_rng(again)
            self._kept.append((number, capture_rng()))
            try:
                indices = next(iterator)
            except StopIteration:
                self._again = {}
                return
            yield indices
            number += 1

    def kept(self) -> dict[int, dict[str, Any]]:
        """The generators' states before each of the latest fetches, by the number of its batch in the epoch."""
        return dict(self._kept)

    def repeat(self, kept: dict[int, dict[str, Any]], order: dict[str, Any]) -> None:
        """Draw the next iteration's order as it was drawn, and make those fetches as they were made."""
        self._again, self._same_order = dict(kept), order


def watch(loader: Any, keep: int) -> Watched | None:  # noqa: ANN401
    """Watch the fetches of a ``DataLoader``; None if it has no sampler."""
    # Accelerate wraps PyTorch's loader in its own.
    base = getattr(loader, "base_dataloader", loader)
    fields = getattr(base, "__dict__", {})
    name = "batch_sampler" if fields.get("batch_sampler") is not None else "sampler"
    if fields.get(name) is None:
        return None
    if not isinstance(fields[name], Watched):
        keep = -1 if fields.get("num_workers") else keep
        fields[name] = Watched(fields[name], keep)  # PyTorch refuses the assignment, as most samplers would be wrong
    watched: Watched = fields[name]
    return watched


def has_workers(loader: Any) -> bool:  # noqa: ANN401
    """Whether it is a ``DataLoader`` with ``persistent_workers`` that has started them."""
    base = getattr(loader, "base_dataloader", loader)
    return getattr(base, "persistent_workers", False) and base._iterator is not None  # noqa: SLF001


def start_workers(loader: Any) -> None:  # noqa: ANN401
    """Start them, which draws a seed for them. An epoch that begins later draws none, as it did at that time."""
    iter(getattr(loader, "base_dataloader", loader))
