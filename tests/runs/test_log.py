import sqlite3
from pathlib import Path

import pytest
from tests.runs.samples import OFFER, attempt_opened, opened

from spotweld.errors import IllegalTransition, RunError, StaleWriter, Unavailable, UsageError
from spotweld.runs.events import AttemptOpened, Ended, MachineStarted, Outcome, Waiting
from spotweld.runs.log import EventLog


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return EventLog(tmp_path / "events.db")


def test_a_run_is_opened_once(log: EventLog) -> None:
    assert log.open_run("r", opened())
    assert not log.open_run("r", opened(command="something else"))
    assert log.state("r").job.command == opened().job.command


def test_entries_come_back_as_they_were_written(log: EventLog) -> None:
    log.open_run("r", opened())
    generation = log.take_over("r")
    events = [attempt_opened(1), MachineStarted(1, "m-1", 12.5)]
    for event in events:
        log.append("r", generation, event)
    assert [entry.event for entry in log.entries("r")] == [opened(), *events]
    assert [entry.seq for entry in log.entries("r")] == [1, 2, 3]
    assert [entry.seq for entry in log.entries("r", after=2)] == [3]


def test_an_older_controller_is_refused_and_writes_nothing(log: EventLog) -> None:
    log.open_run("r", opened())
    zombie = log.take_over("r")
    successor = log.take_over("r")
    with pytest.raises(StaleWriter):
        log.append("r", zombie, attempt_opened(1))
    state = log.append("r", successor, Waiting(1.0, "no capacity"))
    assert state.attempts == ()


def test_an_event_that_does_not_fit_is_refused_and_not_written(log: EventLog) -> None:
    log.open_run("r", opened())
    generation = log.take_over("r")
    with pytest.raises(IllegalTransition):
        log.append("r", generation, MachineStarted(1, "m", 0.0))
    assert len(log.entries("r")) == 1


def test_a_request_to_cancel_counts_once_and_not_after_the_end(log: EventLog) -> None:
    log.open_run("r", opened())
    assert log.request_cancel("r")
    assert not log.request_cancel("r")
    log.append("r", log.take_over("r"), Ended(Outcome.CANCELLED, "by hand"))
    assert not log.request_cancel("r")


def test_runs_do_not_see_each_other(log: EventLog) -> None:
    for run in ("a", "b"):
        log.open_run(run, opened())
    log.append("a", log.take_over("a"), AttemptOpened(1, OFFER, OFFER.hourly, "token", "why"))
    assert log.state("b").attempts == ()
    assert set(log.runs()) == {"a", "b"}


def test_unknown_runs_are_usage_errors(log: EventLog) -> None:
    with pytest.raises(UsageError):
        log.entries("nobody")
    with pytest.raises(UsageError):
        log.take_over("nobody")


def test_what_is_not_a_log_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    path.write_bytes(b"not a database, but long enough to be taken for one" * 100)
    with pytest.raises(RunError):
        EventLog(path)


def test_a_log_that_is_damaged_inside_is_named(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    log = EventLog(path)
    log.open_run("r", opened())
    log.close()
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))
    damaged = EventLog(path)
    for use in (damaged.runs, lambda: damaged.entries("r"), lambda: damaged.open_run("s", opened())):
        with pytest.raises(RunError, match="cannot be used as an event log") as caught:
            use()
        assert str(path) in caught.value.what
        assert caught.value.todo


def test_a_newer_layout_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    EventLog(path).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(RunError, match="newer"):
        EventLog(path)


def test_commits_are_synchronous(log: EventLog) -> None:
    assert log._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert log._db.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_full_disk_is_said_and_the_log_goes_on_once_there_is_space(log: EventLog) -> None:
    log.open_run("r", opened())
    generation = log.take_over("r")
    (pages,) = log._db.execute("PRAGMA page_count").fetchone()
    log._db.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(Unavailable, match="full"):
        log.append("r", generation, Waiting(1.0, "x" * 100_000))
    assert len(log.entries("r")) == 1
    log._db.execute("PRAGMA max_page_count=100000")
    log.append("r", generation, Waiting(1.0, "x" * 100_000))
    assert len(log.entries("r")) == 2
