"""A training loop that a framework owns, told to the engine from the framework's hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spotweld.checkpoint.checkpointer import Checkpointer
from spotweld.errors import StateMismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

UNLIMITED = 2**53
"""The total of a loop that says by itself when it is done."""


class Part:
    """A part of a state that functions take and give back.

    Args:
        take: its values now.
        give: makes them what they were.
    """

    def __init__(self, take: Callable[[], dict[str, Any]], give: Callable[[dict[str, Any]], None]) -> None:
        self._take, self._give = take, give

    def state_dict(self) -> dict[str, Any]:
        """What is there now."""
        return self._take()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become what was there then."""
        self._give(state)


def checkpointer_for(
    shared: Mapping[str, object], own: Part, options: Mapping[str, Any], *, group: bool
) -> Checkpointer:
    """What keeps a framework's training.

    Args:
        shared: what all processes have alike, or share. It is given back first.
        own: what each has for itself.
        options: of ``Checkpointer``.
        group: it is trained by a process group.

    Raises:
        UsageError: an option makes no sense.
    """
    if not group:
        return Checkpointer({**shared, "training": own}, **options)
    from spotweld.checkpoint.distributed import DistributedCheckpointer  # noqa: PLC0415 - most have one process

    return DistributedCheckpointer(shared, per_rank={"training": own}, **options)


def check_processes(then: int, now: int) -> None:
    """See that as many processes go on as had saved: frameworks count steps and batches by them.

    Raises:
        StateMismatch: they are others.
    """
    if then != now:
        why = f"{then} of them saved the checkpoint, and {now} restore it"
        raise StateMismatch("The number of processes has changed", why, f"Start {then}, or use another run name.")


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
