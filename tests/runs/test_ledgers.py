"""The ledger's file follows the logs."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from tests.runs.pasts import Past
from tests.runs.telling import ship, training

import spotweld.runs.ledgers as tested
from spotweld.costs.ledgerfile import LedgerFile
from spotweld.errors import SpotweldError, Unavailable, UsageError
from spotweld.runs.events import Cause, Ended, Outcome
from spotweld.runs.ledgers import bring_up_to_date, ledger_path
from spotweld.store.opening import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from spotweld.costs.focus import Row


class Books:
    """A project's past, and its ledger."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.past = Past(state / "events.db")
        self.file = LedgerFile(ledger_path(state))

    def renew(self, at: float) -> list[str]:
        return bring_up_to_date(self.file, self.state, self.past.at(at))

    def rows(self) -> list[Row]:
        return list(self.file.rows(self.file.kinds(), None, None))

    def spent(self) -> Decimal:
        return sum((row.billed_cost for row in self.rows()), Decimal(0))


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    made = Books(tmp_path)
    yield made
    made.past.log.close()
    made.file.close()


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs whose stores are read, as it happens."""
    seen: list[str] = []

    class Follower(tested.Follower):
        def __init__(self, run: str, *more: object) -> None:
            seen.append(run)
            super().__init__(run, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(tested, "Follower", Follower)
    return seen


def test_a_project_without_a_log_has_an_empty_ledger(tmp_path: Path) -> None:
    file = LedgerFile(ledger_path(tmp_path))
    assert bring_up_to_date(file, tmp_path, 0.0) == []
    assert file.marks() == {}
    file.close()
    assert not (tmp_path / "events.db").exists()


def test_what_still_runs_counts_until_now_and_what_has_ended_is_not_read_again(books: Books, read: list[str]) -> None:
    books.past.attempt("over", 0, 2, Cause.PREEMPTED, price="1")
    books.past.attempt("on", 0, None, Cause.DONE, price="1")
    assert books.renew(at=3) == []
    assert books.spent() == 5
    assert {row.estimated for row in books.rows()} == {False, True}
    assert sorted(read) == ["on", "over"]
    books.renew(at=4)
    assert books.spent() == 6
    assert read[2:] == ["on"]


def test_a_log_that_grew_is_read_again(books: Books, read: list[str]) -> None:
    books.past.attempt("r", 0, 2, Cause.PREEMPTED, price="1")
    books.renew(at=3)
    books.past.attempt("r", 3, 4, Cause.DONE, price="1")
    books.renew(at=9)
    books.past.log.append("r", books.past.generations["r"], Ended(Outcome.DONE, ""))
    books.renew(at=9)
    books.renew(at=10)
    assert read == ["r"] * 3
    assert books.spent() == 3


def test_a_log_that_was_begun_anew_is_told_from_the_old_one(books: Books) -> None:
    books.past.attempt("r", 0, 2, Cause.DONE, price="1")
    books.past.attempt("gone", 0, 2, Cause.DONE, price="1")
    books.renew(at=3)
    books.past.log.close()
    for path in books.state.glob("events.db*"):
        path.unlink()
    books.past = Past(books.state / "events.db", books.past.begin + 1000)
    books.past.attempt("r", 0, 7, Cause.DONE, price="1")
    books.renew(at=8)
    assert {row.run for row in books.rows()} == {"r"}
    assert books.spent() == 7


def test_a_run_that_another_report_has_just_read_is_not_forgotten(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tested.Follower

    def slow(run: str, *more: object) -> tested.Follower:
        monkeypatch.setattr(tested, "Follower", real)
        books.past.attempt("new", 1, 3, Cause.DONE, price="1")
        other = LedgerFile(ledger_path(books.state))
        assert bring_up_to_date(other, books.state, books.past.at(4)) == []
        other.close()
        return real(run, *more)  # type: ignore[arg-type]

    books.past.attempt("r", 0, 2, Cause.DONE, price="1")
    monkeypatch.setattr(tested, "Follower", slow)
    books.renew(at=4)
    assert {row.run for row in books.rows()} == {"r", "new"}


def test_the_file_can_be_made_anew(books: Books) -> None:
    books.past.attempt("r", 0, 2, Cause.DONE)
    books.renew(at=3)
    rows = books.rows()
    books.file.close()
    ledger_path(books.state).unlink()
    books.file = LedgerFile(ledger_path(books.state))
    books.renew(at=3)
    assert books.rows() == rows


@pytest.mark.parametrize("error", [Unavailable, UsageError])
def test_a_run_whose_store_does_not_answer_keeps_its_rows_and_is_told(
    books: Books, monkeypatch: pytest.MonkeyPatch, error: type[SpotweldError]
) -> None:
    books.past.attempt("r", 0, None, Cause.DONE, price="1")
    books.renew(at=2)
    books.past.attempt("new", 2, None, Cause.DONE, price="1")

    def down(url: str, *, verify: bool) -> None:
        raise error(f"{url} cannot be opened {verify}", "", "")

    with monkeypatch.context() as patch:
        patch.setattr(tested, "open_store", down)
        notes = books.renew(at=3)
    assert books.spent() == 2
    assert sorted(note.partition(":")[0] for note in notes) == [
        "the store of new does not answer, so it is not counted",
        "the store of r does not answer, so its figures are old",
    ]
    assert books.renew(at=4) == []
    assert books.spent() == 6


def test_what_a_later_attempt_did_again_is_lost_though_the_log_says_nothing_of_it(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = open_store("memory:", verify=False)
    monkeypatch.setattr(tested, "open_store", lambda url, *, verify: objects)  # noqa: ARG005 - open_store's
    books.past.attempt("r", 0, 1, Cause.PREEMPTED, price="1")
    ship(objects, "r", 1, training(books.past.at(0), 0, 66))
    books.past.attempt("r", 1, None, Cause.DONE, price="1")
    books.renew(at=2)
    assert sum(row.work_lost for row in books.rows()) == 0
    ship(objects, "r", 2, training(books.past.at(1), 60, 80))
    books.renew(at=2)
    assert float(sum(row.work_lost for row in books.rows())) == pytest.approx(6.0)
    assert books.spent() == 2
