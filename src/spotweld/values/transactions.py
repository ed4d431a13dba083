"""All of it or nothing, in SQLite."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator


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
