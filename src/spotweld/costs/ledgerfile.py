"""The ledger as a file, so that a report over many runs need not read all their logs again. A cache: it may be deleted.

A row is kept as a whole number of small rows of one *kind*: an hour of machine time is 10¹¹ times a 10⁻¹¹th of an hour
of the same machine type at the same price for the same run. Sums over a million rows are then sums of integers, which
SQLite is quick at, and the amounts are products of decimals: exact.
"""

from __future__ import annotations

import sqlite3
import zlib
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal, Inexact, localcontext
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from spotweld.costs.charges import EXACT, UNIT
from spotweld.costs.focus import COLUMNS, Row
from spotweld.errors import RunError, Unavailable
from spotweld.values.databases import open_database, transaction

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

EXTENTS = tuple(
    field.name
    for field in msgspec.structs.fields(Row)
    if field.type is Decimal and not field.name.endswith("_unit_price")
)
"""What adds up when stretches of time do."""
_SCHEMA = """
CREATE TABLE sources (
    id INTEGER PRIMARY KEY,
    project TEXT NOT NULL,
    run TEXT NOT NULL,
    seq INTEGER NOT NULL,
    time REAL NOT NULL,
    open INTEGER NOT NULL,
    UNIQUE (project, run)
) STRICT;
CREATE TABLE kinds (
    id INTEGER PRIMARY KEY,
    source INTEGER NOT NULL,
    kind BLOB NOT NULL
) STRICT;
CREATE INDEX kinds_of ON kinds (source);
CREATE TABLE rows (
    kind INTEGER NOT NULL,
    day INTEGER NOT NULL,
    number INTEGER NOT NULL,
    begin INTEGER NOT NULL,
    until INTEGER NOT NULL,
    count INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    resource TEXT NOT NULL,
    PRIMARY KEY (kind, day, number)
) STRICT, WITHOUT ROWID;
"""
# Another set of columns is another layout: a cache is made anew rather than converted.
_LAYOUT = zlib.crc32(" ".join((_SCHEMA, *COLUMNS)).encode()) >> 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICK = timedelta(microseconds=1)
_DAY = timedelta(days=1) // _TICK
_MOST = 2**62


class Mark(msgspec.Struct, frozen=True):
    """Up to which event of its log a run's rows go."""

    seq: int
    time: float
    """When that event was written. It tells a log from one that was begun anew under the same name."""
    open: bool
    """Whether a machine still ran: its rows grow though nothing is written."""


class LedgerFile:
    """The rows of a project's runs and pools. Several processes may read and write at once.

    Args:
        path: the database; made when it does not exist, and emptied when its layout is another version's.

    Raises:
        RunError: the file is no database, or the disk has damaged it; any method may raise this and the next.
        Unavailable: it cannot be read or written now.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._answering():
            # What a power loss takes back is made again.
            self._db = open_database(path, "NORMAL")
            self._settle()

    def close(self) -> None:
        """Give the database back."""
        self._db.close()

    def replace(self, project: str, run: str, rows: Iterable[Row], mark: Mark) -> None:
        """Put these rows in the place of those that the run had, all or nothing."""
        with self._transaction():
            self._forget(project, run)
            source = self._db.execute(
                "INSERT INTO sources (project, run, seq, time, open) VALUES (?, ?, ?, ?, ?)",
                (project, run, mark.seq, mark.time, mark.open),
            ).lastrowid
            known: dict[bytes, int] = {}
            for number, row in enumerate(rows):
                count, kind = split(row)
                encoded = msgspec.json.encode(kind)
                if encoded not in known:
                    added = self._db.execute("INSERT INTO kinds (source, kind) VALUES (?, ?)", (source, encoded))
                    known[encoded] = added.lastrowid or 0
                begin, until = _ticks(row.charge_period_start), _ticks(row.charge_period_end)
                self._db.execute(
                    "INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (known[encoded], begin // _DAY, number, begin, until, count, row.attempt, row.resource_id),
                )

    def forget(self, sources: Collection[tuple[str, str]]) -> None:
        """Forget these runs, given as (project, run)."""
        if sources:
            with self._transaction():
                for project, run in sources:
                    self._forget(project, run)

    def marks(self) -> dict[tuple[str, str], Mark]:
        """How far each run's rows go, by (project, run)."""
        with self._answering():
            found = self._db.execute("SELECT project, run, seq, time, open FROM sources").fetchall()
        return {(project, run): Mark(seq, time, bool(still)) for project, run, seq, time, still in found}

    def kinds(self) -> dict[int, Row]:
        """Every kind by its number: a row for a count of one, without its times, attempt and machine."""
        decode = msgspec.json.Decoder(Row).decode
        with self._answering():
            return {number: decode(kind) for number, kind in self._db.execute("SELECT id, kind FROM kinds")}

    def counts(self, since: float | None, until: float | None, *, daily: bool) -> list[tuple[int, int, int]]:
        """How much there is of each kind, as (kind, day, count).

        Args:
            since: seconds since 1970; rows whose charge period began before do not count. None: all do.
            until: those that began then or later do not count either.
            daily: a sum for each day (UTC) on which a charge period began, days counted from 1970; otherwise one for
                each kind, and the day is 0.
        """
        # Both go along the primary key, so that nothing has to be sorted.
        whole, each = "SELECT kind, 0, SUM(count)", "SELECT kind, day, SUM(count)"
        between = "FROM rows WHERE begin >= ? AND begin < ? GROUP BY kind"
        query = f"{each} {between}, day" if daily else f"{whole} {between}"
        with self._answering():
            return self._db.execute(query, _bounds(since, until)).fetchall()

    def rows(self, kinds: dict[int, Row], since: float | None, until: float | None) -> Iterator[Row]:
        """The rows of these kinds as they were given, the oldest charge period first."""
        query = (
            "SELECT kind, begin, until, count, attempt, resource FROM rows WHERE begin >= ? AND begin < ?"
            " ORDER BY begin, kind, number"
        )
        with self._answering():
            for number, begin, end, count, attempt, resource in self._db.execute(query, _bounds(since, until)):
                if number in kinds:
                    yield replace(
                        whole(kinds[number], count),
                        charge_period_start=_EPOCH + begin * _TICK,
                        charge_period_end=_EPOCH + end * _TICK,
                        attempt=attempt,
                        resource_id=resource,
                    )

    @contextmanager
    def reading(self) -> Iterator[None]:
        """All that is read inside is of one moment, whatever others write."""
        with self._answering():
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                self._db.execute("ROLLBACK")

    def _settle(self) -> None:
        if self._layout() == _LAYOUT:
            return
        with self._transaction():
            # Somebody else may have made it, and filled it, while this one waited for its turn.
            if self._layout() == _LAYOUT:
                return
            for (table,) in self._db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
                self._db.execute(f"DROP TABLE {table}")
            for statement in _SCHEMA.split(";"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version={_LAYOUT}")

    def _layout(self) -> int:
        (layout,) = self._db.execute("PRAGMA user_version").fetchone()
        found: int = layout
        return found

    def _forget(self, project: str, run: str) -> None:
        row = self._db.execute("SELECT id FROM sources WHERE project = ? AND run = ?", (project, run)).fetchone()
        if row is not None:
            self._db.execute("DELETE FROM rows WHERE kind IN (SELECT id FROM kinds WHERE source = ?)", row)
            self._db.execute("DELETE FROM kinds WHERE source = ?", row)
            self._db.execute("DELETE FROM sources WHERE id = ?", row)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._answering(), transaction(self._db):
            yield

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            todo = "see that there is space on the disk and that the folder can be written, and try again"
            raise Unavailable("the ledger's file cannot be used now", str(error), todo) from error
        except sqlite3.DatabaseError as error:
            todo = "delete the file: it is made anew"
            raise RunError(f"{self._path} cannot be used as a ledger", str(error), todo) from error


def split(row: Row) -> tuple[int, Row]:
    """A row as a count and its kind, so that ``whole(kind, count)`` is the row but for its times, attempt and machine.

    Amounts that are no whole multiples of the count, or of which there is too much to count, are a kind of their own.
    """
    with localcontext(EXACT) as context:
        context.traps[Inexact] = True
        amounts = {field: getattr(row, field).normalize() for field in EXTENTS}
        units = row.pricing_quantity / UNIT
        count = int(units) if units == units.to_integral_value() and 0 < units < _MOST else 1
        try:
            amounts = {field: (amount / count).normalize() for field, amount in amounts.items()}
        except Inexact:
            count = 1
    nowhere = {"charge_period_start": _EPOCH, "charge_period_end": _EPOCH, "attempt": 0, "resource_id": ""}
    return count, replace(row, **nowhere, **amounts)


def whole(kind: Row, count: int) -> Row:
    """The row of that many of a kind."""
    with localcontext(EXACT):
        return replace(kind, **{field: getattr(kind, field) * count for field in EXTENTS})


def _ticks(moment: datetime) -> int:
    return (moment - _EPOCH) // _TICK


def _bounds(since: float | None, until: float | None) -> tuple[int, int]:
    ends = (since, -_MOST), (until, _MOST)
    begin, end = (none if at is None else round(at * 1_000_000) for at, none in ends)
    return begin, end
