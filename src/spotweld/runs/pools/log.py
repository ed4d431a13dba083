"""The log of a project's pools. Each pool has one writer, its keeper; anybody may say that a pool is wanted, or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotweld.errors import StaleWriter
from spotweld.runs.journal import Journal
from spotweld.runs.pools.events import DownWanted, PoolEntry, PoolEvent, Wanted, decode, encode
from spotweld.runs.pools.states import apply, fold

if TYPE_CHECKING:
    from spotweld.runs.pools.states import PoolState


class PoolLog(Journal):
    """The log of all pools of a project.

    Args:
        path: the database file; made when it does not exist.
        clock: stamps the events.

    Raises:
        RunError: the file is not a log, or of a newer Spotweld.
    """

    noun = "pool"
    todo = "`spotweld pool ls` lists those that were ever up"

    def want(self, wanted: Wanted) -> bool:
        """Say that a pool is to be kept so. False if it is already."""
        name = wanted.pool.name
        with self._transaction():
            if self._begin(name):
                self._insert(name, 1, encode(wanted))
                return True
            state = fold(self.entries(name))
            if state.wanted == wanted and not state.going_down:
                return False
            self._insert(name, state.seq + 1, encode(wanted))
        return True

    def request_down(self, name: str) -> bool:
        """Ask for the pool to be emptied. False if it is going down already, or is down."""
        with self._transaction():
            state = fold(self.entries(name))
            if state.going_down:
                return False
            self._insert(name, state.seq + 1, encode(DownWanted()))
        return True

    def append(self, name: str, generation: int, state: PoolState, event: PoolEvent) -> PoolState:
        """Add an event as the pool's keeper; the state that follows.

        Args:
            name: the pool's.
            generation: from ``take_over``.
            state: what the keeper knows; what others have appended since is read first.
            event: what is to be added.

        Raises:
            StaleWriter: another keeper has taken over.
            IllegalTransition: the event does not fit the state; nothing is written.
        """
        with self._transaction():
            if self._generation(name) != generation:
                raise StaleWriter(f"another process keeps the pool {name} now")
            state = self.advance(name, state)
            entry = PoolEntry(name, state.seq + 1, self._clock.now(), event)
            state = apply(state, entry)
            self._insert(name, entry.seq, encode(event), entry.time)
        return state

    def advance(self, name: str, state: PoolState) -> PoolState:
        """The state after what was appended since."""
        for entry in self.entries(name, state.seq):
            state = apply(state, entry)
        return state

    def pools(self) -> list[str]:
        """All pools that were ever up, by name."""
        return sorted(self._names())

    def entries(self, name: str, after: int = 0) -> list[PoolEntry]:
        """The pool's events with a sequence number above ``after``, in order.

        Raises:
            UsageError: there is no such pool.
        """
        found = [PoolEntry(name, seq, time, decode(event)) for seq, time, event in self._rows(name, after)]
        if not found and after == 0:
            raise self._missing(name)
        return found

    def state(self, name: str) -> PoolState:
        """What is known of the pool now."""
        return fold(self.entries(name))
