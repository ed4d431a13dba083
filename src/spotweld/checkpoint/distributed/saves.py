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
        route: how checkpoints get to where they are durable.
        tell: where events go.
        clock: time.
        restored: the step that was restored; None: none was.
        memory: bytes that the copy of this rank's share may use; None: as many as it has.
    """

    _hopeless = (PeerLost,)
    _bearable = ()  # the others wait for this rank's share, until they lose it

    def __init__(
        self,
        crew: Crew,
        route: Route,
        tell: EventFile,
        clock: Clock,
        restored: int | None,
        memory: int | None,
    ) -> None:
        super().__init__({}, route, tell, clock, restored, memory)
        self._crew = crew
        self._ended = False

    def _capture(self, step: int) -> Snapshot:
        give(self._crew.group, Command.SAVE)
        return self._crew.snapshot(step, self._staging, self._clock)

    def prepare(self) -> None:
        give(self._crew.group, Command.PREPARE)
        self.ready()

    def end(self) -> None:
        super().end()
        self._ended = True

    def _give_up_tiers(self) -> bool:
        # After the end nobody listens any more.
        given_up = not self._ended and super()._give_up_tiers()
        if given_up:
            give(self._crew.group, Command.STRAIGHT)
        return given_up

    def ready(self) -> None:
        """What ``prepare`` does, where all ranks do it without a command."""
        self._crew.prepare(self._staging, self._clock)
