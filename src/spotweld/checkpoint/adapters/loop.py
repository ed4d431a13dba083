"""A training loop that a framework owns, told to the engine from the framework's hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

    from spotweld.checkpoint.checkpointer import Checkpointer

UNLIMITED = 2**53
"""The total of a loop that says by itself when it is done."""


class Loop:
    """Drives a checkpointer's ``steps`` from outside: every step that a framework has finished is one ``next``.

    Args:
        checkpointer: whose ``steps`` nobody has called.
        total: steps of the whole run, or more if the framework may stop early.
    """

    def __init__(self, checkpointer: Checkpointer, total: int) -> None:
        self._checkpointer, self._total = checkpointer, total
        self._steps: Generator[int] = checkpointer.steps(total)  # type: ignore[assignment]

    def begin(self) -> None:
        """Restore, if there is something to restore.

        Raises:
            SystemExit, SpotweldError: as ``Checkpointer.steps`` does.
        """
        next(self._steps, None)

    def reach(self, step: int) -> None:
        """The framework is about to do another step, and ``step`` of them are finished. What is known is no news.

        Raises:
            SystemExit: with status 75: the machine will be taken, or a later attempt owns the run.
        """
        # The last step is `finish`'s: one that is followed by another was not the last, whatever the total says.
        if self._checkpointer.step < step < self._total:
            next(self._steps, None)

    def finish(self, step: int) -> None:
        """No step follows: make the state after ``step`` of them durable, be that all that there were or fewer.

        Raises:
            SystemExit: as ``reach`` does.
        """
        self._checkpointer.finish(min(step, self._total))
        next(self._steps, None)
        self.close()

    def close(self) -> None:
        """Leave the loop where it is; nothing more is saved. A second call does nothing."""
        self._steps.close()
