"""Which checkpoints a run keeps: the newest few, and of the older ones every n-th."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def retain(numbers: Sequence[int], *, keep_last: int, keep_every: int) -> list[int]:
    """The places in ``numbers`` that are kept.

    Args:
        numbers: of the checkpoints, newest first: how many the run had published when each one was.
        keep_last: the newest so many are kept; at least one always is.
        keep_every: of the others those whose number is a multiple of this; 0: none.
    """
    last = max(1, keep_last)
    return [at for at, number in enumerate(numbers) if at < last or (keep_every > 0 and number % keep_every == 0)]
