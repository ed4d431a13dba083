"""Everything that happens in a run, as it happens: the controller's log and what the process tells, in one stream."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from spotweld.checkpoint.events import Event as ProcessEvent
from spotweld.checkpoint.events import parse_event
from spotweld.runs.events import AttemptEnded, AttemptOpened, Entry
from spotweld.runs.shipping import Reader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from spotweld.runs.log import EventLog
    from spotweld.runs.states import Attempt
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
        self._over: set[int] = set()
        self._pending: list[Happening] = []

    def poll(self) -> list[Happening]:
        """What has happened since the last call, in the order of its time stamps.

        The log's entries keep their own order, and so does what one process told, whatever the clocks did.

        Raises:
            StoreError: the store failed; nothing is lost, the next call gives it.
        """
        # The log is read first: an attempt's segments are complete before its end is logged, so that whoever sees the
        # end has seen all that the process told. For the same reason nothing is given while the store fails.
        for entry in self._log.entries(self._run, self._seq):
            self._seq = entry.seq
            self._pending.append(entry)
            if isinstance(entry.event, AttemptOpened):
                number = entry.event.attempt
                self._readers[number] = Reader(self._objects, self._run, number, "events")
            elif isinstance(entry.event, AttemptEnded):
                self._over.add(entry.event.attempt)
        for number, reader in list(self._readers.items()):
            over = number in self._over
            for data in reader.pieces():
                self._pending += [Told(number, event) for event in _parse(data)]
            if over:
                del self._readers[number]
        happenings, self._pending = _ordered(self._pending), []
        return happenings


class Output:
    """What a run's program wrote, attempt after attempt.

    Args:
        run: its id.
        objects: the run's store.
        only: the one attempt that is of interest; None: all.
    """

    def __init__(self, run: str, objects: Objects, only: int | None = None) -> None:
        self._run = run
        self._objects = objects
        self._only = only
        self._readers: dict[int, Reader] = {}
        self._read: set[int] = set()

    def read(self, attempts: Iterable[Attempt]) -> Iterator[tuple[int, bytes]]:
        """What has come since the last call: (attempt, a piece of its output).

        Args:
            attempts: the run's, from a state that was taken just before.

        Raises:
            StoreError: the store failed; the next call continues at the same place.
        """
        for attempt in attempts:
            if attempt.number in self._read or self._only not in {None, attempt.number}:
                continue
            reader = self._readers.setdefault(attempt.number, Reader(self._objects, self._run, attempt.number, "log"))
            for data in reader.pieces():
                yield attempt.number, data
            if not attempt.open:
                self._read.add(attempt.number)


def _ordered(happenings: list[Happening]) -> list[Happening]:
    latest: dict[int, float] = {}
    stamped = []
    for happening in happenings:
        stream = happening.attempt if isinstance(happening, Told) else 0
        latest[stream] = max(latest.get(stream, happening.time), happening.time)
        stamped.append((latest[stream], happening))
    return [happening for _, happening in sorted(stamped, key=lambda pair: pair[0])]


def _parse(data: bytes) -> list[ProcessEvent]:
    events = []
    for line in data.splitlines():
        try:
            events.append(parse_event(line))
        except ValueError:
            logging.getLogger("spotweld").debug("not an event: %.200r", line)
    return events
