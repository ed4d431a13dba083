"""Everything that happens in a run, as it happens: the controller's log and what the process tells, in one stream."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from spotweld.checkpoint.events import Event as ProcessEvent
from spotweld.checkpoint.events import parse_event
from spotweld.errors import StoreError
from spotweld.runs.events import AttemptOpened, Entry
from spotweld.runs.shipping import Reader

if TYPE_CHECKING:
    from spotweld.runs.log import EventLog
    from spotweld.store.objects import Objects


class Told(msgspec.Struct, frozen=True):
    """Something that the process of an attempt told."""

    attempt: int
    event: ProcessEvent

    @property
    def time(self) -> float:
        """Seconds since 1970 UTC by the machine's clock."""
        return self.event.t


Happening: TypeAlias = Entry | Told


class Follower:
    """Follows one run from its beginning.

    Args:
        run: its id.
        log: the event log.
        objects: the run's store.
    """

    def __init__(self, run: str, log: EventLog, objects: Objects) -> None:
        self._run = run
        self._log = log
        self._objects = objects
        self._seq = 0
        self._readers: dict[int, Reader] = {}

    def poll(self) -> list[Happening]:
        """What has happened since the last call, in the order of its time stamps.

        Raises:
            StoreError: the store failed; nothing is lost, the next call gives it.
        """
        # The log is read first: an attempt's segments are complete before its end is logged, so that whoever sees the
        # end has seen all that the process told.
        entries = self._log.entries(self._run, self._seq)
        for entry in entries:
            self._seq = entry.seq
            if isinstance(entry.event, AttemptOpened):
                number = entry.event.attempt
                self._readers[number] = Reader(self._objects, self._run, number, "events")
        happenings: list[Happening] = [*entries]
        for number, reader in self._readers.items():
            try:
                happenings += [Told(number, event) for event in _parse(reader.read())]
            except StoreError:
                if not happenings:
                    raise
        return sorted(happenings, key=lambda happening: happening.time)


def _parse(data: bytes) -> list[ProcessEvent]:
    events = []
    for line in data.splitlines():
        try:
            events.append(parse_event(line))
        except ValueError:
            logging.getLogger("spotweld").debug("not an event: %.200r", line)
    return events
