"""Alerts at work: each threshold is noted once, and each receiver is told of it at least once, in practice once.

A note, with the alert as it will be sent, is one transaction of the event log's file, before anything is sent. A
delivery is claimed for a while, sent, and marked. A kill between sending and the mark lets the claim expire, and the
alert goes out again with the same id, by which a receiver can tell that it has it. A claim and the wait after a failure
are the same thing, a moment before which nobody tries.
"""

from __future__ import annotations

import os
import secrets
import threading
from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar

import msgspec

from spotweld.costs.alerts import Alert, alert, reached
from spotweld.project.nouns import Receiver
from spotweld.runs.budgeting import BudgetLog
from spotweld.runs.sending import send

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from spotweld.costs.budgets import Standing
    from spotweld.runs.budgeting import Enforcer
    from spotweld.values.clocks import Clock

CLAIM = 300.0
"""Seconds that a delivery is left to whoever claimed it: far longer than one takes."""
LEAST_WAIT = 30.0
MOST_WAIT = 3600.0
"""Seconds after a failure; doubled from the least to the most."""

_TABLES = (
    """CREATE TABLE IF NOT EXISTS alerts (
        id TEXT PRIMARY KEY, budget TEXT NOT NULL, period TEXT NOT NULL, threshold TEXT NOT NULL, time REAL NOT NULL,
        alert BLOB NOT NULL, UNIQUE (budget, period, threshold)
    ) STRICT""",
    """CREATE TABLE IF NOT EXISTS tellings (
        alert TEXT NOT NULL, receiver TEXT NOT NULL, tries INTEGER NOT NULL, not_before REAL NOT NULL, told REAL,
        PRIMARY KEY (alert, receiver)
    ) STRICT, WITHOUT ROWID""",
)


class Claim(msgspec.Struct, frozen=True):
    """A delivery that is ours for a while."""

    alert: Alert
    noted: float
    """When the threshold was seen to be reached, seconds since 1970 UTC."""
    receiver: Receiver
    tries: int
    """This one counted."""


class Telling(msgspec.Struct, frozen=True):
    """What became of one delivery."""

    budget: str
    receiver: str
    threshold: Decimal | None = None
    """None: nothing was tried, or it was a test."""
    trouble: str = ""
    """Why it did not arrive; empty: it did."""

    def __str__(self) -> str:
        what = self.budget if self.threshold is None else f"{self.budget} at {self.threshold:.0%}"
        return f"{what}: {self.receiver} " + (f"was not told: {self.trouble}" if self.trouble else "was told")


class AlertLog(BudgetLog):
    """The event log of a project, with its alerts and their deliveries beside it.

    Args:
        path: the event log's file.
        clock: stamps everything.

    Raises:
        RunError: the file is not a log, or of a newer Spotweld.
    """

    tables: ClassVar[tuple[str, ...]] = (*BudgetLog.tables, *_TABLES)

    def note(self, standings: Iterable[Standing], project: str) -> None:
        """Write down the thresholds that are reached, and who is to be told: all of it, or nothing."""
        with self._transaction():
            found = self._db.execute("SELECT budget, period, threshold, id FROM alerts").fetchall()
            known = {(budget, name, Decimal(share)): one for budget, name, share, one in found}
            for stands in standings:
                for threshold in reached(stands, known):
                    self._note(alert(stands, threshold, secrets.token_hex(16), project))

    def _note(self, one: Alert) -> None:
        row = one.id, one.budget, one.period, str(one.threshold), self._clock.now(), msgspec.json.encode(one)
        self._db.execute("INSERT INTO alerts VALUES (?, ?, ?, ?, ?, ?)", row)

    def due(self) -> list[tuple[Alert, float, Receiver, int]]:
        """The deliveries that may be tried now: (alert, when it was noted, receiver, tries so far), the oldest first.

        Receivers are those that the budgets have now.
        """
        now = self._clock.now()
        budgets = {budget.name: budget for budget in self.budgets()}
        with self._transaction():
            alerts = self._db.execute("SELECT alert, time FROM alerts ORDER BY time, threshold").fetchall()
            rows = self._db.execute("SELECT alert, receiver, tries, not_before, told FROM tellings").fetchall()
        known = {(one, receiver): rest for one, receiver, *rest in rows}
        found = []
        for data, time in alerts:
            one = msgspec.json.decode(data, type=Alert)
            for receiver in budgets[one.budget].notify if one.budget in budgets else ():
                tries, not_before, told = known.get((one.id, str(receiver)), (0, 0.0, None))
                if told is None and _may_try(not_before, now):
                    found.append((one, time, receiver, tries))
        return found

    def claim(self, one: Alert, noted: float, receiver: Receiver) -> Claim | None:
        """Take a delivery, unless somebody has it, it waits, or it is done."""
        now = self._clock.now()
        with self._transaction():
            key = one.id, str(receiver)
            self._db.execute("INSERT OR IGNORE INTO tellings VALUES (?, ?, 0, 0, NULL)", key)
            tries, not_before, told = self._db.execute(
                "SELECT tries, not_before, told FROM tellings WHERE alert = ? AND receiver = ?", key
            ).fetchone()
            if told is not None or not _may_try(not_before, now):
                return None
            self._db.execute(
                "UPDATE tellings SET tries = ?, not_before = ? WHERE alert = ? AND receiver = ?",
                (tries + 1, now + CLAIM, *key),
            )
        return Claim(one, noted, receiver, tries + 1)

    def told(self, claim: Claim) -> None:
        """Mark a delivery as done: nobody tries it again."""
        with self._transaction():
            self._db.execute(
                "UPDATE tellings SET told = ? WHERE alert = ? AND receiver = ?",
                (self._clock.now(), claim.alert.id, str(claim.receiver)),
            )

    def failed(self, claim: Claim) -> None:
        """Give a delivery back, to be tried again after a while; in vain if the claim has gone to somebody else."""
        wait = min(MOST_WAIT, LEAST_WAIT * 2 ** min(claim.tries - 1, 16))
        with self._transaction():
            self._db.execute(
                "UPDATE tellings SET not_before = ? WHERE alert = ? AND receiver = ? AND tries = ? AND told IS NULL",
                (self._clock.now() + wait, claim.alert.id, str(claim.receiver), claim.tries),
            )


def note(log: AlertLog, enforcer: Enforcer) -> None:
    """Write down which thresholds are reached now."""
    if any(budget.alerts for budget in log.budgets()):
        log.note(enforcer.standings(), enforcer.project())


def tell(log: AlertLog, environ: Mapping[str, str] = os.environ) -> list[Telling]:
    """Make every delivery that is due, each once; what became of them.

    A receiver that fails is not tried again in the same call. Whoever lacks a receiver's variable claims nothing, so
    that somebody who has it is not kept waiting.
    """
    found = []
    down: set[str] = set()
    for one, noted, receiver, _ in log.due():
        name = str(receiver)
        if name in down:
            continue
        if not environ.get(receiver.variable):
            down.add(name)
            found.append(Telling(one.budget, name, None, f"{receiver.variable} is not set here"))
        elif (claim := log.claim(one, noted, receiver)) is not None:
            trouble = send(receiver, one, noted, environ)
            if trouble:
                log.failed(claim)
                down.add(name)
            else:
                log.told(claim)
            found.append(Telling(one.budget, name, one.threshold, trouble))
    return found


def send_test(stands: Standing, project: str, at: float, environ: Mapping[str, str] = os.environ) -> list[Telling]:
    """Send a test to each receiver of a budget, which leaves no mark; what became of it.

    Args:
        stands: the budget now.
        project: whose it is.
        at: now, seconds since 1970 UTC.
        environ: has the receivers' URLs.
    """
    budget = stands.budget
    one = alert(stands, min(budget.alerts, default=Decimal(1)), secrets.token_hex(16), project, test=True)
    return [Telling(budget.name, str(receiver), None, send(receiver, one, at, environ)) for receiver in budget.notify]


class Teller:
    """Tells in a thread of its own, so that a receiver that is slow holds nobody up.

    Args:
        path: the event log's file.
        clock: time.
        complain: gets a line about each delivery, and about trouble when it is new.
    """

    def __init__(self, path: Path, clock: Clock, complain: Callable[[str], None]) -> None:
        self._path = path
        self._clock = clock
        self._complain = complain
        self._thread: threading.Thread | None = None
        self._troubles: set[str] = set()

    def wake(self) -> None:
        """Begin to tell, unless that goes on."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._tell, daemon=True)
            self._thread.start()

    def wait(self, seconds: float) -> None:
        """Let it come to an end, at most so long."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _tell(self) -> None:
        try:
            log = AlertLog(self._path, self._clock)
            try:
                found = tell(log)
            finally:
                log.close()
            lines = [str(one) for one in found]
            troubles = {str(one) for one in found if one.trouble}
        except Exception as error:  # noqa: BLE001 - a thread has nobody to raise to
            lines = [f"alerts cannot be told: {error}"]
            troubles = set(lines)
        for line in lines:
            if line not in self._troubles:
                self._complain(line)
        self._troubles = troubles


def _may_try(not_before: float, now: float) -> bool:
    # A clock that was set back must not put a delivery off for longer than it would have waited.
    return not_before <= now or not_before > now + max(CLAIM, MOST_WAIT)
