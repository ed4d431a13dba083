"""An append-only log of several things in one SQLite file, with one writer for each of them.

It is opened with ``synchronous=FULL``: with NORMAL a power loss takes back commits that were reported done
(https://sqlite.org/pragma.html#pragma_synchronous).

Two writers that believe to be in charge of the same thing are told apart by a *generation*: each one that starts raises
it, and an append under an older generation is refused in the same transaction.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from spotweld.errors import RunError, Unavailable, UsageError
from spotweld.values.clocks import Clock, SystemClock
from spotweld.values.databases import open_database, transaction

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


class Journal:
    """The file.

    Args:
        path: the database file; made when it does not exist.
        clock: stamps the events.

    Raises:
        RunError: the file is not a log, or of a newer Spotweld.
    """

    noun = "run"
    todo = "`spotweld status` lists the runs of this project"
    tables: ClassVar[tuple[str, ...]] = ()
    """What else a kind of log keeps in the file, as statements that do nothing where it is there."""

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._path = path
        try:
            self._db = open_database(path, "FULL", self._clock)
            (layout,) = self._db.execute("PRAGMA user_version").fetchone()
            if layout == 0:
                self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version={_LAYOUT}; COMMIT;")
        except sqlite3.OperationalError as error:
            raise _unavailable(error) from error
        except sqlite3.DatabaseError as error:
            raise self._unusable(error) from error
        if layout > _LAYOUT:
            raise RunError(f"{path} was written by a newer Spotweld", f"layout {layout}", "upgrade Spotweld")
        if self.tables:
            with self._transaction():
                for table in self.tables:
                    self._db.execute(table)

    def close(self) -> None:
        """Give the database back."""
        self._db.close()

    def take_over(self, name: str) -> int:
        """Become the writer: the generation under which to append. Earlier ones are refused."""
        with self._transaction():
            self._db.execute("UPDATE runs SET generation = generation + 1 WHERE run = ?", (name,))
            return self._generation(name)

    def _names(self) -> list[str]:
        """All things that have a log, the newest first."""
        with self._answering():
            return [name for (name,) in self._db.execute("SELECT run FROM runs ORDER BY created DESC, run")]

    def _rows(self, name: str, after: int) -> list[tuple[int, float, bytes]]:
        """(sequence number, time, event) of those above ``after``, in order."""
        with self._answering():
            return self._db.execute(
                "SELECT seq, time, event FROM events WHERE run = ? AND seq > ? ORDER BY seq", (name, after)
            ).fetchall()

    def _begin(self, name: str) -> bool:
        """Make the log, inside a transaction; False if there is one."""
        if self._db.execute("SELECT 1 FROM runs WHERE run = ?", (name,)).fetchone():
            return False
        self._db.execute("INSERT INTO runs VALUES (?, ?, 0)", (name, self._clock.now()))
        return True

    def _insert(self, name: str, seq: int, event: bytes, time: float | None = None) -> None:
        row = (name, seq, self._clock.now() if time is None else time, event)
        self._db.execute("INSERT INTO events VALUES (?, ?, ?, ?)", row)

    def _generation(self, name: str) -> int:
        row = self._db.execute("SELECT generation FROM runs WHERE run = ?", (name,)).fetchone()
        if row is None:
            raise self._missing(name)
        generation: int = row[0]
        return generation

    def _missing(self, name: str) -> UsageError:
        return UsageError(f"there is no {self.noun} {name!r}", "", self.todo)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._answering(), transaction(self._db):
            yield

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise _unavailable(error) from error
        except sqlite3.DatabaseError as error:
            # Others, such as a broken constraint, are faults of ours; what Python's module raises itself has no code.
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
                raise
            raise self._unusable(error) from error

    def _unusable(self, error: sqlite3.DatabaseError) -> RunError:
        what = f"{self._path} cannot be used as an event log"
        return RunError(what, str(error), "move the file away, or restore it")


def _unavailable(error: sqlite3.OperationalError) -> Unavailable:
    """A full disk, a missing permission, a lock that is held too long: nothing is wrong with the log itself."""
    todo = "see that there is space on the disk and that the folder can be written, and try again"
    return Unavailable("the event log cannot be used now", str(error), todo)
