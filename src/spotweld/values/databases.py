"""A file that several processes open, read and write at once, in SQLite: all of a change or nothing of it."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from spotweld.values.clocks import Clock, SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BUSY_SECONDS = 30.0
_RETRY_SECONDS = 0.01


def open_database(path: Path, synchronous: Literal["NORMAL", "FULL"], clock: Clock | None = None) -> sqlite3.Connection:
    """A connection that waits for its turn for half a minute, and does not keep readers from reading (a WAL).

    Args:
        path: the database; made, with its folder, when it does not exist.
        synchronous: FULL if a power loss may not take back a commit; NORMAL if it may.
        clock: what the waiting goes by.

    Raises:
        sqlite3.Error: as the database says; an ``OperationalError`` once it was in use for too long, or if the folder
            cannot be made.
    """
    clock = clock or SystemClock()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise sqlite3.OperationalError(f"unable to make {path.parent}: {error.strerror}") from error
    database = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
    try:
        _write_ahead(database, clock)
        database.execute(f"PRAGMA synchronous={synchronous}")
    except BaseException:
        database.close()
        raise
    return database


def _write_ahead(database: sqlite3.Connection, clock: Clock) -> None:
    """Have a new file keep a WAL.

    SQLite reads before it writes here, and who does that is not made to wait but turned away where another writes
    (https://sqlite.org/c3ref/busy_handler.html): two who open a new file at once.
    """
    until = clock.monotonic() + _BUSY_SECONDS
    while True:
        try:
            database.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or clock.monotonic() >= until:
                raise
            clock.sleep(_RETRY_SECONDS)
        else:
            return


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """What is written inside is committed at the end, or rolled back if that is not reached.

    Raises:
        sqlite3.Error: as the database says.
    """
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        # A commit that failed for want of space has been rolled back already.
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
