"""The event log of runs. It is the truth about intentions; the store is the truth about finished work.

Each run has one writer, its controller. Anybody may append a request (``request_cancel``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotweld.errors import StaleWriter
from spotweld.runs.events import CancelRequested, Entry, Event, Opened, Reopened, decode, encode
from spotweld.runs.journal import Journal
from spotweld.runs.states import apply, fold

if TYPE_CHECKING:
    from spotweld.runs.states import RunState
    from spotweld.values.money import Money


class EventLog(Journal):
    """The log of all runs of a project.

    Args:
        path: the database file; made when it does not exist.
        clock: stamps the events.

    Raises:
        RunError: the file is not a log, or of a newer Spotweld.
    """

    def open_run(self, run: str, opened: Opened) -> bool:
        """Begin a run. False if a run of that name exists already; nothing is changed then."""
        with self._transaction():
            if not self._begin(run):
                return False
            self._insert(run, 1, encode(opened))
        return True

    def append(self, run: str, generation: int, event: Event) -> RunState:
        """Add an event as the run's controller; the state that follows.

        Raises:
            StaleWriter: another controller has taken over.
            IllegalTransition: the event does not fit the state; nothing is written.
        """
        with self._transaction():
            if self._generation(run) != generation:
                raise StaleWriter(f"another controller drives {run} now")
            entries = self.entries(run)
            entry = Entry(run, entries[-1].seq + 1, self._clock.now(), event)
            state = apply(fold(entries), entry)
            self._insert(run, entry.seq, encode(event), entry.time)
        return state

    def request_cancel(self, run: str) -> bool:
        """Ask the run to stop, whoever drives it. False if it has ended or was asked already."""
        with self._transaction():
            entries = self.entries(run)
            state = fold(entries)
            if state.outcome is not None or state.cancel_requested:
                return False
            self._insert(run, entries[-1].seq + 1, encode(CancelRequested()))
        return True

    def reopen(self, run: str, seq: int, budget: Money | None) -> bool:
        """Let a run that a budget has stopped go on; somebody has to drive it then.

        Args:
            run: which.
            seq: of the last event that the decision was made after.
            budget: its job's from now on; None: as it was.

        Returns:
            False if something has happened to the run since, such as that somebody else has reopened it.

        Raises:
            IllegalTransition: it has not been stopped by a budget; nothing is written.
        """
        event = Reopened(budget)
        with self._transaction():
            entries = self.entries(run)
            if entries[-1].seq != seq:
                return False
            entry = Entry(run, seq + 1, self._clock.now(), event)
            apply(fold(entries), entry)
            self._insert(run, entry.seq, encode(event), entry.time)
        return True

    def runs(self) -> list[str]:
        """All runs, the newest first."""
        return self._names()

    def entries(self, run: str, after: int = 0) -> list[Entry]:
        """The run's events with a sequence number above ``after``, in order.

        Raises:
            UsageError: there is no such run.
        """
        found = [Entry(run, seq, time, decode(event)) for seq, time, event in self._rows(run, after)]
        if not found and after == 0:
            raise self._missing(run)
        return found

    def state(self, run: str) -> RunState:
        """What is known of the run now."""
        return fold(self.entries(run))
