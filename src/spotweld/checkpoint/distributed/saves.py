"""All saves of a group's attempt, as rank 0 keeps account of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotweld.checkpoint import events
from spotweld.checkpoint.distributed.commands import Command, give
from spotweld.checkpoint.distributed.group import PeerLost
from spotweld.checkpoint.saves import Saves

if TYPE_CHECKING:
    from spotweld.checkpoint.distributed.crew import Crew
    from spotweld.checkpoint.events import EventFile
    from spotweld.checkpoint.routes import Route
    from spotweld.values.clocks import Clock


class GroupSaves(Saves):
    """``Saves`` whose every save is one of all ranks.

    Args:
        crew: the ranks.
        route: straight to the store.
        tell: where events go.
        clock: time.
        restored: the step that was restored; None: none was.
    """

    def __init__(self, crew: Crew, route: Route, tell: EventFile, clock: Clock, restored: int | None) -> None:
        super().__init__({}, route, tell, clock, restored)
        self._crew = crew

    def begin(self, step: int, reason: str, *, urgent: bool = False) -> bool:
        if self._saver.busy or (self._clock.monotonic() < self._retry_at and not urgent):
            return False
        self.settle()
        give(self._crew.group, Command.SAVE)
        try:
            snapshot = self._crew.snapshot(step, self._staging, self._clock)
            self._staging.grow(snapshot.content.sizes)
        except PeerLost:
            raise
        except Exception as error:
            if reason == "final":
                raise
            self._fail(step, error)
            return False
        self._former_mark, self.mark = self.mark, (step, snapshot.began)
        self._tell.write(events.Saving(self._clock.now(), step, reason))
        self._saver.start(snapshot, reason)
        return True

    def prepare(self) -> None:
        give(self._crew.group, Command.PREPARE)
        self.ready()

    def ready(self) -> None:
        """What ``prepare`` does, where all ranks do it without a command."""
        self._crew.prepare(self._staging, self._clock)
