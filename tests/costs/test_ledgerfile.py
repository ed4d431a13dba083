"""The ledger's file gives back what it was given, whatever happens to those who write it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from msgspec.structs import replace
from tests.costs.test_ledger import START, usage, usages

import spotweld.costs.ledgerfile as tested
from spotweld.costs.ledger import ledger
from spotweld.costs.ledgerfile import EXTENTS, LedgerFile, Mark, split, whole
from spotweld.costs.totals import total
from spotweld.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from spotweld.costs.focus import Row
    from spotweld.costs.usage import Usage

MARK = Mark(3, 5.0, open=False)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[LedgerFile]:
    opened = LedgerFile(tmp_path / "ledger.db")
    yield opened
    opened.close()


def all_rows(file: LedgerFile) -> list[Row]:
    return list(file.rows(file.kinds(), None, None))


def ordered(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row.charge_period_start, row.attempt, row.lost))


@given(usages)
def test_a_row_is_a_count_of_its_kind_exactly(one: Usage) -> None:
    for row in ledger([one]):
        count, kind = split(row)
        again = whole(kind, count)
        assert {name: getattr(again, name) for name in EXTENTS} == {name: getattr(row, name) for name in EXTENTS}
        assert total([replace(again, estimated=row.estimated)]) == total([row])


def test_an_amount_that_is_no_whole_multiple_stays_exact() -> None:
    (row,) = ledger([usage(seconds=0.36, price="0")])
    odd = replace(row, billed_cost=Decimal("0.1234567890123456789012345678901"))
    count, kind = split(odd)
    assert whole(kind, count).billed_cost == odd.billed_cost


def test_machines_of_a_run_at_one_price_are_of_one_kind(file: LedgerFile) -> None:
    rows = ledger([usage(attempt=number, seconds=100.0 * number) for number in range(1, 9)])
    file.replace("digits", "r1", rows, MARK)
    assert len(file.kinds()) == 1
    ((_, _, count),) = file.counts(None, None, daily=False)
    assert Decimal(count) * Decimal("1e-11") == sum(row.pricing_quantity for row in rows)


def test_the_same_rows_come_back_and_a_second_time_changes_nothing(file: LedgerFile) -> None:
    rows = ledger([usage(attempt=1, lost=600), usage(attempt=2, closed=False), usage(attempt=3, currency="EUR")])
    for _ in range(2):
        file.replace("digits", "r1", rows, MARK)
        assert ordered(all_rows(file)) == ordered(rows)
        assert file.marks() == {("digits", "r1"): MARK}
    file.replace("digits", "r1", rows[:1], MARK)
    assert all_rows(file) == rows[:1]


def test_runs_do_not_touch_each_other_and_one_can_be_forgotten(file: LedgerFile) -> None:
    for run in ("r1", "r2", "r3"):
        file.replace("digits", run, ledger([usage(run=run)]), MARK)
    file.replace("digits", "r2", [], MARK)
    assert {row.run for row in all_rows(file)} == {"r1", "r3"}
    file.forget({("digits", "r1"), ("digits", "never there")})
    assert {row.run for row in all_rows(file)} == {"r3"}
    assert set(file.marks()) == {("digits", "r3"), ("digits", "r2")}
    assert len(file.kinds()) == 1


@pytest.mark.parametrize("since", [-1, 0, 1, None])
@pytest.mark.parametrize("until", [-1, 0, 1, None])
def test_a_charge_period_counts_where_it_begins(file: LedgerFile, since: int | None, until: int | None) -> None:
    moments = [seconds if seconds is None else START + seconds for seconds in (since, until)]
    file.replace("digits", "r1", ledger([usage()]), MARK)
    held = since in {None, -1, 0} and until in {None, 1}
    assert len(list(file.rows(file.kinds(), *moments))) == held
    assert len(file.counts(*moments, daily=True)) == held


def test_days_begin_at_midnight_utc(file: LedgerFile) -> None:
    (row,) = ledger([usage()])
    midnight = row.charge_period_start.replace(hour=0, minute=0, second=0)
    tick = timedelta(microseconds=1)
    rows = [
        replace(row, charge_period_start=at) for at in (midnight - tick, midnight, midnight + 24 * 3600 * 10**6 * tick)
    ]
    file.replace("digits", "r1", rows, MARK)
    days = [day for _, day, _ in file.counts(None, None, daily=True)]
    today = int(midnight.timestamp() // 86400)
    assert days == [today - 1, today, today + 1]


def test_another_layout_is_made_anew_and_no_database_is_told(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    file = LedgerFile(path)
    file.replace("digits", "r1", ledger([usage()]), MARK)
    file.close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=7")
    db.close()
    file = LedgerFile(path)
    assert file.marks() == {}
    file.replace("digits", "r1", ledger([usage()]), MARK)
    file.close()
    path.write_text("no database at all, and long enough to be taken for one" * 20)
    with pytest.raises(RunError, match="cannot be used as a ledger"):
        LedgerFile(path)


def test_a_file_that_the_disk_has_damaged_is_told(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    file = LedgerFile(path)
    file.replace("digits", "r1", ledger([usage(attempt=number) for number in range(1, 60)]), MARK)
    file.close()
    page = 4096
    content = path.read_bytes()
    # The first pages hold the schema: with them the file opens as ever.
    path.write_bytes(content[: 3 * page] + b"\xaa" * (len(content) - 3 * page))
    file = LedgerFile(path)
    for use in (lambda: all_rows(file), lambda: file.replace("digits", "r1", [], MARK)):
        with pytest.raises(RunError, match="cannot be used as a ledger") as refused:
            use()
        assert refused.value.todo == "delete the file: it is made anew"
    file.close()


def test_who_waits_to_make_the_file_keeps_what_others_wrote_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, rows, real = tmp_path / "ledger.db", ledger([usage()]), tested.transaction

    @contextmanager
    def waiting(database: sqlite3.Connection) -> Iterator[None]:
        monkeypatch.setattr(tested, "transaction", real)
        other = LedgerFile(path)
        other.replace("digits", "r1", rows, MARK)
        other.close()
        with real(database):
            yield

    monkeypatch.setattr(tested, "transaction", waiting)
    file = LedgerFile(path)
    assert all_rows(file) == rows
    file.close()


WRITER = """
import sys
from pathlib import Path
from tests.costs.test_ledger import usage
from spotweld.costs.ledger import ledger
from spotweld.costs.ledgerfile import LedgerFile, Mark
file = LedgerFile(Path(sys.argv[1]))
turn = 0
while True:
    turn += 1
    rows = ledger([usage(attempt=number, seconds=36.0 * turn) for number in range(1, 40)])
    file.replace("digits", "r1", rows, Mark(turn, float(turn), open=True))
    print(turn, flush=True)
"""


@pytest.mark.slow
def test_a_writer_that_is_killed_leaves_one_whole_state(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    seen = 0
    for turns in range(1, 13):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert writer.stdout is not None
        for _ in range(turns):
            told = int(writer.stdout.readline())
        # It is somewhere in the next transaction now.
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        file = LedgerFile(path)
        (mark,) = file.marks().values()
        rows = all_rows(file)
        file.close()
        assert mark.seq >= told
        assert len(rows) == 39
        assert {row.consumed_quantity for row in rows} == {Decimal(36 * mark.seq)}
        seen += mark.seq
    assert seen > 12


@pytest.mark.slow
def test_two_writers_at_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    bounded = WRITER.replace("while True", "while turn < 30")
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", bounded, str(path)],
            stdout=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for _ in range(2)
    ]
    assert [writer.wait() for writer in writers] == [0, 0]
    file = LedgerFile(path)
    assert len(all_rows(file)) == 39
    assert len(file.kinds()) == 1
    file.close()
