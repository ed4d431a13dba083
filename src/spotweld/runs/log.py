"""The event log: SQLite, append-only, one writer per run.

``journal_mode=WAL`` with ``synchronous=FULL``: with NORMAL a power loss takes back commits that were reported done
(https://sqlite.org/pragma.html#pragma_synchronous). The log is the truth about intentions; the store is the truth about
finished work.

Two controllers that believe to drive the same run are told apart by a *generation*: each one that starts raises it, and
an append under an older generation is refused in the same transaction. Anybody may append a request (``request``).
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from spotweld.errors import RunError, StaleWriter, Unavailable, UsageError
from spotweld.runs.events import CancelRequested, Entry, Event, Opened, decode, encode
from spotweld.runs.states import RunState, apply, fold
from spotweld.values.clocks import Clock, SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    run TEXT PRIMARY KEY,
    created REAL NOT NULL,
    generation INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS events (
    run TEXT NOT NULL REFERENCES runs(run),
    seq INTEGER NOT NULL,
    time REAL NOT NULL,
    event BLOB NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;
"""
_LAYOUT = 1
_BUSY_SECONDS = 30.0


class EventLog:
    """The log of all runs of a project.

    Args:
        path: the database file; made when it does not exist.
        clock: stamps the events.

    Raises:
        RunError: the file is not a log, or of a newer Spotweld.
    """

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            (layout,) = self._db.execute("PRAGMA user_version").fetchone()
            if layout == 0:
                self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version={_LAYOUT}; COMMIT;")
        except sqlite3.OperationalError as error:
            raise _unavailable(error) from error
        except sqlite3.DatabaseError as error:
            raise RunError(
                f"{path} cannot be used as an event log", str(error), "move the file away, or restore it"
            ) from error
        if layout > _LAYOUT:
            raise RunError(f"{path} was written by a newer Spotweld", f"layout {layout}", "upgrade Spotweld")

    def close(self) -> None:
        """Give the database back."""
        self._db.close()

    def open_run(self, run: str, opened: Opened) -> bool:
        """Begin a run. False if a run of that name exists already; nothing is changed then."""
        with self._transaction():
            taken = self._db.execute("SELECT 1 FROM runs WHERE run = ?", (run,)).fetchone()
            if taken:
                return False
            self._db.execute("INSERT INTO runs VALUES (?, ?, 0)", (run, self._clock.now()))
            self._insert(run, 1, opened)
        return True

    def take_over(self, run: str) -> int:
        """Become the run's controller: the generation under which to ``append``. Earlier ones are refused."""
        with self._transaction():
            self._db.execute("UPDATE runs SET generation = generation + 1 WHERE run = ?", (run,))
            return self._generation(run)

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
            self._insert(run, entry.seq, event, entry.time)
        return state

    def request_cancel(self, run: str) -> bool:
        """Ask the run to stop, whoever drives it. False if it has ended or was asked already."""
        with self._transaction():
            entries = self.entries(run)
            state = fold(entries)
            if state.outcome is not None or state.cancel_requested:
                return False
            self._insert(run, entries[-1].seq + 1, CancelRequested())
        return True

    def runs(self) -> list[str]:
        """All runs, the newest first."""
        with _answering():
            return [run for (run,) in self._db.execute("SELECT run FROM runs ORDER BY created DESC, run")]

    def entries(self, run: str, after: int = 0) -> list[Entry]:
        """The run's events with a sequence number above ``after``, in order.

        Raises:
            UsageError: there is no such run.
        """
        with _answering():
            rows = self._db.execute(
                "SELECT seq, time, event FROM events WHERE run = ? AND seq > ? ORDER BY seq", (run, after)
            ).fetchall()
        found = [Entry(run, seq, time, decode(event)) for seq, time, event in rows]
        if not found and after == 0:
            raise UsageError(f"there is no run {run!r}", "", "`spotweld status` lists the runs of this project")
        return found

    def state(self, run: str) -> RunState:
        """What is known of the run now."""
        return fold(self.entries(run))

    def _insert(self, run: str, seq: int, event: Event, time: float | None = None) -> None:
        row = (run, seq, self._clock.now() if time is None else time, encode(event))
        self._db.execute("INSERT INTO events VALUES (?, ?, ?, ?)", row)

    def _generation(self, run: str) -> int:
        row = self._db.execute("SELECT generation FROM runs WHERE run = ?", (run,)).fetchone()
        if row is None:
            raise UsageError(f"there is no run {run!r}", "", "`spotweld status` lists the runs of this project")
        generation: int = row[0]
        return generation

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _answering():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                # A commit that failed for want of space has been rolled back already.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise _unavailable(error) from error


def _unavailable(error: sqlite3.OperationalError) -> Unavailable:
    """A full disk, a missing permission, a lock that is held too long: nothing is wrong with the log itself."""
    todo = "see that there is space on the disk and that the folder can be written, and try again"
    return Unavailable("the event log cannot be used now", str(error), todo)
