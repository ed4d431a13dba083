import sqlite3
from pathlib import Path

import pytest

from spotweld.values.databases import open_database, transaction


class Ticking:
    """A clock on which something happens after a few sleeps."""

    def __init__(self, *, then: int, happens: object = None) -> None:
        self.slept = 0.0
        self._left = then
        self._happens = happens

    def now(self) -> float:
        return self.slept

    monotonic = now

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self._left -= 1
        if self._left == 0 and callable(self._happens):
            self._happens()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder/some.db"


@pytest.fixture
def other(path: Path) -> sqlite3.Connection:
    """Somebody who is about to write the first table of a new file."""
    path.parent.mkdir()
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    database.execute("CREATE TABLE t (a INTEGER)")
    return database


def test_who_opens_a_new_file_waits_for_who_is_making_it(path: Path, other: sqlite3.Connection) -> None:
    database = open_database(path, "FULL", Ticking(then=3, happens=lambda: other.execute("COMMIT")))
    assert database.execute("SELECT count(*) FROM t").fetchone() == (0,)
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert database.execute("PRAGMA synchronous").fetchone() == (2,)


def test_it_is_given_up_after_half_a_minute(path: Path, other: sqlite3.Connection) -> None:
    clock = Ticking(then=0)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        open_database(path, "NORMAL", clock)
    assert clock.slept == pytest.approx(30.0)
    other.close()


def test_what_is_no_database_is_not_tried_again(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"hello" * 1000)
    clock = Ticking(then=0)
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        open_database(path, "NORMAL", clock)
    assert clock.slept == 0


def test_a_folder_that_cannot_be_made_is_the_database_s_own_error(path: Path) -> None:
    path.parent.write_text("a file stands where the folder should be")
    with pytest.raises(sqlite3.OperationalError, match=r"unable to make .*folder: File exists"):
        open_database(path, "NORMAL")


def test_all_of_a_change_or_nothing(path: Path) -> None:
    database = open_database(path, "NORMAL")
    with transaction(database):
        database.execute("CREATE TABLE t (a INTEGER UNIQUE)")
    with pytest.raises(sqlite3.IntegrityError), transaction(database):
        database.executemany("INSERT INTO t VALUES (?)", [(1,), (1,)])
    assert database.execute("SELECT count(*) FROM t").fetchone() == (0,)
