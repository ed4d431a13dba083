"""What a save takes from the steps beside it: their pace compared with that of undisturbed steps.

For one save that is the number of steps that it ran beside times the difference of the two mean paces. Each mean leaves
out the longest tenth of its steps, so that an evaluation now and then counts for neither. Of several saves the median
counts.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from spotweld.checkpoint.cadence import median

if TYPE_CHECKING:
    from collections.abc import Iterable

_QUIET = 20
"""Undisturbed steps that are remembered: the latest, since a program's pace may change."""
_DISTURBED = 1000
"""Steps of one save that are remembered; a save may last for hours."""
_ENOUGH_STEPS, _ENOUGH_SAVES = 5, 3
"""Undisturbed steps, and saves compared with them, before anything is said."""


class Interference:
    """Told of every step and of every save; says what a save costs the steps beside it."""

    def __init__(self) -> None:
        self._quiet: deque[float] = deque(maxlen=_QUIET)
        self._beside: deque[float] = deque(maxlen=_DISTURBED)
        self._count = 0
        self._measured: deque[float] = deque(maxlen=5)

    @property
    def seconds(self) -> float | None:
        """Per save; None: too few have been measured."""
        return max(0.0, median(self._measured)) if len(self._measured) >= _ENOUGH_SAVES else None

    def step(self, seconds: float, *, disturbed: bool) -> None:
        """A step has taken so long; a save ran beside it, or beside a part of it."""
        if disturbed:
            self._beside.append(seconds)
            self._count += 1
        else:
            self._quiet.append(seconds)

    def saved(self, background: float) -> None:
        """The save that ran beside the latest disturbed steps has ended well; it ran for so many seconds."""
        if len(self._quiet) >= _ENOUGH_STEPS:
            extra = self._count * (_usual(self._beside) - _usual(self._quiet)) if self._count else 0.0
            # A save takes nothing from training while it does not run.
            self._measured.append(min(extra, background))
        self.forget()

    def forget(self) -> None:
        """That save failed: what it cost says nothing about one that does not."""
        self._beside.clear()
        self._count = 0


def _usual(paces: Iterable[float]) -> float:
    """Their mean without the longest tenth."""
    rising = sorted(paces)
    kept = rising[: len(rising) - len(rising) // 10]
    return sum(kept) / len(kept)
