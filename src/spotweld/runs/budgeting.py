"""Budgets at work: what they cover in a project's logs, and rounds of stops that are written down once.

A round and the wishes that it puts into the logs of runs are one transaction of the event log's file. So there is no
moment at which a kill could leave half a round, and of two processes that enforce at once one finds that the round
that it has decided upon is there already, and does nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import msgspec

from spotweld.costs.budgets import Candidate, Standing, choose, first_to_stop, period, standing
from spotweld.costs.burndown import Burndown, burndown
from spotweld.costs.ledger import ledger
from spotweld.costs.totals import total
from spotweld.project.nouns import Budget
from spotweld.runs.events import Ended, StopAsked, decode, encode
from spotweld.runs.history import usages
from spotweld.runs.log import EventLog
from spotweld.runs.pools.log import PoolLog
from spotweld.runs.pools.states import usages as waited
from spotweld.runs.states import fold
from spotweld.values.money import format_money
from spotweld.values.offers import CapacityType

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from spotweld.costs.focus import Row
    from spotweld.costs.gcpbudgets import BudgetMessage
    from spotweld.project.nouns import Job
    from spotweld.runs.pools.states import PoolState
    from spotweld.runs.states import RunState
    from spotweld.values.clocks import Clock
    from spotweld.values.money import Money

LOOK_EVERY = 10.0
"""Seconds between two looks of a controller at the project's budgets."""

_TABLES = (
    "CREATE TABLE IF NOT EXISTS budgets (name TEXT PRIMARY KEY, budget BLOB NOT NULL) STRICT",
    """CREATE TABLE IF NOT EXISTS rounds (
        budget TEXT NOT NULL, number INTEGER NOT NULL, time REAL NOT NULL, PRIMARY KEY (budget, number)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS messages (
        budget TEXT NOT NULL, id TEXT NOT NULL, time REAL NOT NULL, PRIMARY KEY (budget, id)
    ) STRICT, WITHOUT ROWID""",
)


class Round(msgspec.Struct, frozen=True):
    """Runs that were asked to stop together."""

    budget: str
    number: int
    runs: tuple[str, ...]


class BudgetLog(EventLog):
    """The event log of a project, with its budgets and their rounds beside it.

    Args:
        path: the event log's file.
        clock: stamps rounds and events.

    Raises:
        RunError: the file is not a log, or of a newer Spotweld.
    """

    tables: ClassVar[tuple[str, ...]] = _TABLES

    def keep(self, budgets: Iterable[Budget]) -> None:
        """Let these be the project's budgets from now on: controllers do not read the project file."""
        rows = [(budget.name, msgspec.json.encode(budget)) for budget in budgets]
        with self._transaction():
            self._db.execute("DELETE FROM budgets")
            self._db.executemany("INSERT INTO budgets VALUES (?, ?)", rows)

    def budgets(self) -> list[Budget]:
        """The project's budgets, by name."""
        with self._transaction():
            rows = self._db.execute("SELECT budget FROM budgets ORDER BY name").fetchall()
        return [msgspec.json.decode(data, type=Budget) for (data,) in rows]

    def last_round(self, budget: str) -> tuple[int, float]:
        """The number of the budget's last round, and when it was; 0 if there was none."""
        with self._transaction():
            row = self._db.execute(
                "SELECT number, time FROM rounds WHERE budget = ? ORDER BY number DESC LIMIT 1", (budget,)
            ).fetchone()
        return (0, 0.0) if row is None else row

    def rounds(self, budget: str) -> list[float]:
        """When the budget had its rounds, seconds since 1970, in their order."""
        with self._transaction():
            rows = self._db.execute("SELECT time FROM rounds WHERE budget = ? ORDER BY number", (budget,)).fetchall()
        return [at for (at,) in rows]

    def lengths(self) -> dict[str, int]:
        """The last sequence number of every run."""
        with self._transaction():
            return dict(self._db.execute("SELECT run, max(seq) FROM events GROUP BY run").fetchall())

    def going(self) -> dict[str, int]:
        """The last sequence number of every run that has not ended."""
        with self._transaction():
            # Of a group SQLite gives the row that has the maximum (https://sqlite.org/lang_select.html#bareagg).
            rows = self._db.execute("SELECT run, max(seq), event FROM events GROUP BY run").fetchall()
        return {run: seq for run, seq, event in rows if not isinstance(decode(event), Ended)}

    def knows(self, budget: str, message: str) -> bool:
        """Whether a message about the budget has been answered."""
        with self._transaction():
            row = self._db.execute("SELECT 1 FROM messages WHERE budget = ? AND id = ?", (budget, message)).fetchone()
        return row is not None

    def ask(self, budget: str, number: int, runs: Sequence[str], why: str, message: str = "") -> tuple[str, ...]:
        """Carry out a round: all of it is written, or nothing.

        Args:
            budget: whose.
            number: one more than the last round's that the decision was made after.
            runs: which to stop; one that has ended meanwhile, or is stopped by somebody else, is left out.
            why: for people.
            message: the id of the message that this round answers, which has no other; empty: there is none.

        Returns:
            The runs that were asked; none if somebody else had a round meanwhile, or has answered the message.
        """
        asked = []
        with self._transaction():
            (last,) = self._db.execute(
                "SELECT coalesce(max(number), 0) FROM rounds WHERE budget = ?", (budget,)
            ).fetchone()
            if last != number - 1:
                return ()
            if message:
                row = budget, message, self._clock.now()
                if not self._db.execute("INSERT OR IGNORE INTO messages VALUES (?, ?, ?)", row).rowcount:
                    return ()
            for run in runs:
                entries = self.entries(run)
                if _may_be_asked(fold(entries)):
                    self._insert(run, entries[-1].seq + 1, encode(StopAsked(budget, number, why)))
                    asked.append(run)
            if asked:
                self._db.execute("INSERT INTO rounds VALUES (?, ?, ?)", (budget, number, self._clock.now()))
        return tuple(asked)


class Enforcer:
    """Looks at a project's budgets.

    It remembers the states of runs, and what those that are over have cost: to fold and price a long past anew would
    take as long as the time between two looks.

    Args:
        log: of the project.
        pools: the log of its pools; one that does not exist is none.
        clock: time.
    """

    def __init__(self, log: BudgetLog, pools: Path, clock: Clock) -> None:
        self._log = log
        self._pools = pools
        self._clock = clock
        self._known: dict[str, tuple[int, RunState]] = {}
        self._paid: dict[str, tuple[RunState, list[Money]]] = {}

    def standings(self) -> list[Standing]:
        """How every budget of the project stands now."""
        now = self._clock.now()
        states, pools = self._states(), self._pool_states()
        return [self._standing(budget, states, pools, now) for budget in self._log.budgets()]

    def burndowns(self, budgets: Iterable[Budget]) -> list[Burndown]:
        """How some budgets came to stand as they do now."""
        now = self._clock.now()
        states, pools = self._states(), self._pool_states()
        return [
            burndown(budget, _rows(budget, states, pools, now), self._log.rounds(budget.name), now)
            for budget in budgets
        ]

    def against(self, job: Job, budgets: Iterable[Budget]) -> list[Standing]:
        """Those of some budgets that are broken and cover a job: its runs would be stopped. None if it is protected."""
        covering = [] if job.protected else [budget for budget in budgets if _fits(budget, job.name, job.labels)]
        if not covering:
            return []
        now = self._clock.now()
        states, pools = self._states(), self._pool_states()
        found = [self._standing(budget, states, pools, now) for budget in covering]
        return [stands for stands in found if stands.broken]

    def enforce(self) -> list[Round]:
        """One round of each budget that is broken and whose last round is long enough ago; those that came about."""
        done = []
        for budget in self._log.budgets():
            if budget.stop is None:
                continue
            # Before the rest is read: whatever is decided on what is older loses against a round that is newer.
            number, at = self._log.last_round(budget.name)
            now = self._clock.now()
            # A clock that was set back must not put the next round off for as long.
            if number and abs(now - at) < budget.every:
                continue
            states = self._states()
            stands = self._standing(budget, states, self._pool_states(), now)
            may = [_candidate(state) for state in states if _covers(budget, state) and _may_be_asked(state)]
            runs = choose(stands, may)
            asked = self._log.ask(budget.name, number + 1, runs, spending(stands)) if runs else ()
            if asked:
                done.append(Round(budget.name, number + 1, asked))
        return done

    def answer(self, budget: Budget, message: BudgetMessage) -> Round | None:
        """One round of a budget that its cloud says is spent, however long ago the last was.

        Args:
            budget: the project's budget of that name.
            message: what the cloud says.

        Returns:
            The round; None: the message has been answered, the budget holds, or nothing is left to stop.
        """
        why = f"{message.cost} of {message.amount} {message.currency} are spent, says the cloud's budget {budget.name}"
        # Until it is answered: whoever loses a round to somebody else decides anew.
        while message.broken and not self._log.knows(budget.name, message.id):
            number, _ = self._log.last_round(budget.name)
            may = [_candidate(state) for state in self._states() if _covers(budget, state) and _may_be_asked(state)]
            asked = self._log.ask(budget.name, number + 1, first_to_stop(budget, may), why, message.id)
            if asked:
                return Round(budget.name, number + 1, asked)
        return None

    def project(self) -> str:
        """The project's name, as its newest run or its pools have it; empty: it has neither."""
        states = sorted(self._states(), key=lambda state: -state.opened)
        names = [state.project for state in states] or [pool.wanted.project for pool in self._pool_states()]
        return names[0] if names else ""

    def stopping(self) -> list[str]:
        """The runs that were asked to stop and have not ended: somebody has to drive them."""
        states = [self._state(run, length) for run, length in self._log.going().items()]
        return [state.run for state in states if state.stop_asked is not None and state.outcome is None]

    def _standing(self, budget: Budget, states: Iterable[RunState], pools: Iterable[PoolState], now: float) -> Standing:
        since, _ = period(budget.per, now)
        settled: list[Money] = []
        others = []
        for state in states:
            if _covers(budget, state):
                if _is_settled(state, since, now):
                    settled += self._price(state)
                else:
                    others.append(state)
        return standing(budget, _rows(budget, others, pools, now), now, settled)

    def _price(self, state: RunState) -> list[Money]:
        """What a run that is settled has cost, in each currency."""
        if state.run not in self._paid or self._paid[state.run][0] is not state:
            self._paid[state.run] = state, [one.billed for one in total(ledger(usages(state, {}, 0.0)))]
        return self._paid[state.run][1]

    def _states(self) -> list[RunState]:
        return [self._state(run, length) for run, length in self._log.lengths().items()]

    def _state(self, run: str, length: int) -> RunState:
        if run not in self._known or self._known[run][0] < length:
            self._known[run] = length, self._log.state(run)
        return self._known[run][1]

    def _pool_states(self) -> list[PoolState]:
        if not self._pools.exists():
            return []
        log = PoolLog(self._pools, self._clock)
        try:
            return [log.state(name) for name in log.pools()]
        finally:
            log.close()


def _covers(budget: Budget, state: RunState) -> bool:
    return _fits(budget, state.job.name, state.job.labels)


def _fits(budget: Budget, job: str, labels: dict[str, str]) -> bool:
    return (not budget.jobs or job in budget.jobs) and budget.labels.items() <= labels.items()


def _may_be_asked(state: RunState) -> bool:
    return state.outcome is None and state.stop_asked is None and not state.cancel_requested


def _is_settled(state: RunState, since: float | None, now: float) -> bool:
    """Whether a run is over, and all of its machines' time lies between two moments: its cost changes no more."""
    return state.outcome is not None and all(
        one.closed and (since is None or since <= one.started) and max(one.started, one.ended) <= now
        for one in usages(state, {}, now)
    )


def _rows(budget: Budget, states: Iterable[RunState], pools: Iterable[PoolState], now: float) -> list[Row]:
    since, _ = period(budget.per, now)
    used = [usage for state in states if _covers(budget, state) for usage in usages(state, {}, now)]
    idle = [
        usage
        for pool in pools
        if _fits(budget, pool.wanted.pool.job, pool.wanted.labels)
        for usage in waited(pool, now)
    ]
    # What was over before the period began is none of its rows.
    return ledger(one for one in (*used, *idle) if since is None or since <= max(one.started, one.ended))


def _candidate(state: RunState) -> Candidate:
    attempt, job = state.current, state.job
    spot = attempt is None or attempt.offer.capacity_type is CapacityType.SPOT
    return Candidate(state.run, state.opened, job.priority, job.protected, spot)


def spending(stands: Standing) -> str:
    """What of a budget is spent, in words."""
    budget = stands.budget
    per = f" of this {budget.per}" if stands.since is not None else ""
    spent, amount = format_money(stands.spent), format_money(budget.amount)
    return f"{spent} of the {amount} of the budget {budget.name}{per} are spent"
