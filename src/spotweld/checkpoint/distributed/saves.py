"""All saves of a group's attempt, as rank 0 keeps account of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotweld.checkpoint.distributed.commands import Command, give
from spotweld.checkpoint.distributed.group import PeerLost
from spotweld.checkpoint.saves import Saves

if TYPE_CHECKING:
    from spotweld.checkpoint.distributed.crew import Crew
    from spotweld.checkpoint.events import EventFile
    from spotweld.checkpoint.routes import Route
    from spotweld.checkpoint.snapshot import Snapshot
    from spotweld.values.clocks import Clock


class GroupSaves(Saves):
    """``Saves`` whose every save is one of all ranks.

    Args:
        crew: the ranks.
        route: straight to the store.
        tell: where events go.
        clock: time.
        restored: the step that was restored; None: none was.
        memory: bytes that the copy of this rank's share may use; None: as many as it has.
    """

    _hopeless = (PeerLost,)

    def __init__(
        self, crew: Crew, route: Route, tell: EventFile, clock: Clock, restored: int | None, memory: int | None
    ) -> None:
        super().__init__({}, route, tell, clock, restored, memory)
        self._crew = crew

    def _capture(self, step: int) -> Snapshot:
        give(self._crew.group, Command.SAVE)
        return self._crew.snapshot(step, self._staging, self._clock)

    def prepare(self) -> None:
        give(self._crew.group, Command.PREPARE)
        self.ready()

    def ready(self) -> None:
        """What ``prepare`` does, where all ranks do it without a command."""
        self._crew.prepare(self._staging, self._clock)
