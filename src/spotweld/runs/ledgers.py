"""The ledger's file of a project, brought up to date from the logs of its runs and pools."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from spotweld.costs.holdings import held
from spotweld.costs.ledger import ledger
from spotweld.costs.ledgerfile import Mark
from spotweld.errors import StoreError, UsageError
from spotweld.runs.drive import log_path
from spotweld.runs.events import Entry
from spotweld.runs.following import Follower
from spotweld.runs.history import progress, rows_of, usages
from spotweld.runs.log import EventLog
from spotweld.runs.pools import states as pools
from spotweld.runs.pools.drive import pools_path
from spotweld.runs.pools.log import PoolLog
from spotweld.runs.states import fold
from spotweld.runs.weighing import Weighed, WeightLog
from spotweld.store.opening import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from spotweld.costs.focus import Row
    from spotweld.costs.ledgerfile import LedgerFile
    from spotweld.runs.pools.events import PoolEntry


class _Read(NamedTuple):
    project: str
    rows: list[Row]
    open: bool
    """Whether something still grows."""
    last: Entry | PoolEntry | Weighed


class _Source(NamedTuple):
    run: str
    """As its rows call it."""
    entries: Callable[[int], Sequence[Entry | PoolEntry | Weighed]]
    """The events above a sequence number."""
    read: Callable[[], _Read]


def ledger_path(state: Path) -> Path:
    """The ledger's file of a project whose state folder this is."""
    return state / "ledger.db"


def bring_up_to_date(file: LedgerFile, state: Path, now: float) -> list[str]:
    """Read the logs that have grown, and those of what still costs, until ``now``.

    How much of a run's work was lost stands in its store. While that does not answer, the run keeps the rows it had.

    Args:
        file: the ledger.
        state: the project's state folder.
        now: seconds since 1970 UTC.

    Returns:
        Notes for people: what could not be read.
    """
    marks = file.marks()
    known = {run: (project, mark) for (project, run), mark in marks.items()}
    notes: list[str] = []
    found: set[tuple[str, str]] = set()
    logs: list[EventLog | PoolLog] = []
    try:
        for source in _sources(state, now, logs):
            project, mark = known.get(source.run, ("", None))
            if mark is None or _is_stale(source, mark):
                try:
                    project, rows, is_open, last = source.read()
                # Where the variables that a store needs are not set, nothing can even be asked of it.
                except (StoreError, UsageError) as error:
                    what = "its figures are old" if mark is not None else "it is not counted"
                    notes.append(f"the store of {source.run} does not answer, so {what}: {error}")
                else:
                    file.replace(project, source.run, rows, Mark(last.seq, last.time, is_open))
            found.add((project, source.run))
    finally:
        for log in logs:
            log.close()
    # What somebody else has added meanwhile was begun after the logs were listed, and stays.
    file.forget(marks.keys() - found)
    return notes


def _sources(state: Path, now: float, logs: list[EventLog | PoolLog]) -> list[_Source]:
    """All that has a log; whoever calls closes ``logs``."""
    found = []
    if log_path(state).exists():
        runs = EventLog(log_path(state))
        logs.append(runs)
        found += [_Source(run, partial(runs.entries, run), partial(_run, runs, run, now)) for run in runs.runs()]
    if pools_path(state).exists():
        kept = PoolLog(pools_path(state))
        logs.append(kept)
        found += [
            _Source(f"pool {name}", partial(kept.entries, name), partial(_pool, kept, name, now))
            for name in kept.pools()
        ]
    if log_path(state).exists():
        weights = WeightLog(log_path(state))
        logs.append(weights)
        found += [_month(weights, begin, end, now) for begin, end in _months(weights, now)]
    return found


def _months(log: WeightLog, now: float) -> Iterator[tuple[float, float]]:
    """The calendar months (UTC) since something was weighed first: each is a source, so that old ones are settled."""
    first = min((one.time for one in log.weighings()), default=math.inf)
    if first >= now:
        return
    begin = datetime.fromtimestamp(first, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    while begin.timestamp() < now:
        end = (begin + timedelta(days=32)).replace(day=1)
        yield begin.timestamp(), end.timestamp()
        begin = end


def _month(log: WeightLog, begin: float, end: float, now: float) -> _Source:
    def read() -> _Read:
        weighed = log.weighings(until=end)
        rows = held((one.weighing for one in weighed), begin, end, now)
        return _Read(weighed[-1].weighing.project, rows, now < end, weighed[-1])

    name = f"what lay in stores, {datetime.fromtimestamp(begin, UTC):%Y-%m}"
    return _Source(name, partial(log.weighings, until=end), read)


def _is_stale(source: _Source, mark: Mark) -> bool:
    tail = () if mark.open else source.entries(mark.seq - 1)
    return [(entry.seq, entry.time) for entry in tail] != [(mark.seq, mark.time)]


def _run(log: EventLog, run: str, now: float) -> _Read:
    happenings = Follower(run, log, open_store(log.state(run).store, verify=False)).poll()
    # The state is of the moment of the happenings: the log may have grown since its store was looked up.
    entries = [happening for happening in happenings if isinstance(happening, Entry)]
    state = fold(entries)
    is_open = any(not usage.closed for usage in usages(state, {}, now))
    return _Read(state.project, rows_of(state, progress(happenings), now), is_open, entries[-1])


def _pool(log: PoolLog, name: str, now: float) -> _Read:
    entries = log.entries(name)
    state = pools.fold(entries)
    used = pools.usages(state, now)
    return _Read(state.wanted.project, ledger(used), any(not usage.closed for usage in used), entries[-1])
