"""Rounds of stops: written once, by one of two who enforce at once, wherever one of them is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from decimal import Decimal
from typing import TYPE_CHECKING

from msgspec.structs import replace
from tests.runs.samples import attempt_opened, opened
from tests.runs.world import RUN, Life, ManualClock, World

from spotweld.costs.gcpbudgets import BudgetMessage
from spotweld.project.nouns import Budget
from spotweld.runs.budgeting import BudgetLog, Enforcer
from spotweld.runs.events import Cause, MachineStarted, Outcome, StopAsked
from spotweld.values.money import Money

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SMALL = Budget("small", Money(Decimal("1.00")), stop=Decimal(1), at_most=2, every=60.0)
RUNS = {"low-1": 0, "low-2": 0, "low-3": 0, "mid": 1, "high": 2}
KILLED = """
import os, signal, sys
from pathlib import Path
from spotweld.runs.budgeting import BudgetLog
log, left = BudgetLog(Path(sys.argv[1])), int(sys.argv[2])
def traced(statement):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
log._db.set_trace_callback(traced)
log.ask("small", 1, ["low-3", "low-2"], "why", "message")
"""


def project(folder: Path, clock: ManualClock, **fields: object) -> BudgetLog:
    """Five runs, each with a machine since the beginning, opened one second after the other."""
    log = BudgetLog(folder / "events.db", clock)
    log.keep([SMALL])
    for run, priority in RUNS.items():
        log.open_run(run, opened(priority=priority, **fields))
        generation = log.take_over(run)
        log.append(run, generation, attempt_opened(1))
        log.append(run, generation, MachineStarted(1, f"m-{run}", clock.now()))
        clock.sleep(1)
    return log


def enforcer(log: BudgetLog, folder: Path, clock: ManualClock) -> Enforcer:
    return Enforcer(log, folder / "pools.db", clock)


def asked(log: BudgetLog, runs: Sequence[str] = tuple(RUNS)) -> list[str]:
    return [run for run in runs for entry in log.entries(run) if isinstance(entry.event, StopAsked)]


def test_rounds_go_from_the_least_important_upwards(tmp_path: Path) -> None:
    clock = ManualClock()
    log = project(tmp_path, clock)
    one = enforcer(log, tmp_path, clock)
    assert one.enforce() == []
    clock.sleep(3600)
    assert [done.runs for done in one.enforce()] == [("low-3", "low-2")]
    assert one.enforce() == []
    clock.sleep(60)
    assert [(done.number, done.runs) for done in one.enforce()] == [(2, ("low-1", "mid"))]
    clock.sleep(60)
    assert [done.runs for done in enforcer(log, tmp_path, clock).enforce()] == [("high",)]
    clock.sleep(60)
    assert one.enforce() == []
    assert sorted(one.stopping()) == sorted(asked(log)) == sorted(RUNS)


def test_protected_runs_go_on(tmp_path: Path) -> None:
    clock = ManualClock()
    log = project(tmp_path, clock, protected=True)
    clock.sleep(3600)
    one = enforcer(log, tmp_path, clock)
    assert one.standings()[0].broken
    assert one.enforce() == []


def test_of_two_who_decided_the_same_one_has_the_round(tmp_path: Path) -> None:
    clock = ManualClock()
    log, other = project(tmp_path, clock), BudgetLog(tmp_path / "events.db", clock)
    assert log.ask("small", 1, ["low-3"], "why") == ("low-3",)
    assert other.ask("small", 1, ["low-2"], "why") == ()
    assert other.ask("small", 2, ["low-3"], "why") == ()
    assert asked(log) == ["low-3"]
    assert log.last_round("small")[0] == 1


def test_two_enforcers_in_turns_stop_as_many_as_one(tmp_path: Path) -> None:
    clock = ManualClock()
    log = project(tmp_path, clock)
    clock.sleep(3600)
    two = [enforcer(BudgetLog(tmp_path / "events.db", clock), tmp_path, clock) for _ in range(2)]
    assert [len(one.enforce()) for one in two] == [1, 0]
    assert len(asked(log)) == SMALL.at_most


def test_a_clock_that_was_set_back_does_not_put_rounds_off(tmp_path: Path) -> None:
    clock = ManualClock()
    log = project(tmp_path, clock)
    log.keep([replace(SMALL, amount=Money(Decimal("0.0001")))])
    clock.sleep(3600)
    assert enforcer(log, tmp_path, clock).enforce()
    clock.offset -= 1800
    assert enforcer(log, tmp_path, clock).enforce()


def test_a_kill_at_any_statement_leaves_a_whole_round_or_none(tmp_path: Path) -> None:
    found = set()
    for left in range(40):
        folder = tmp_path / str(left)
        log = project(folder, ManualClock())
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(folder / "events.db"), str(left)], env=os.environ, check=False
        )
        state = log.last_round("small")[0], tuple(asked(log))
        assert state in {(0, ()), (1, ("low-2", "low-3"))}
        assert log.knows("small", "message") == bool(state[0])
        found.add((done.returncode, state[0]))
        log.close()
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
    assert {(-signal.SIGKILL, 0), (0, 1)} <= found


def test_a_message_has_one_round_and_the_next_another(tmp_path: Path) -> None:
    clock = ManualClock()
    log = project(tmp_path, clock)
    one, other = (enforcer(BudgetLog(tmp_path / "events.db", clock), tmp_path, clock) for _ in range(2))
    first, second = (BudgetMessage(known, "small", Decimal(7), Decimal(7), "EUR") for known in "ab")
    found = one.answer(SMALL, first)
    assert found is not None
    assert (found.number, found.runs) == (1, ("low-3", "low-2"))
    assert other.answer(SMALL, first) is one.answer(SMALL, first) is None
    found = other.answer(SMALL, second)
    assert found is not None
    assert (found.number, found.runs) == (2, ("low-1", "mid"))
    assert one.answer(SMALL, replace(first, id="c", cost=Decimal("6.99"))) is None
    assert one.answer(SMALL, replace(first, id="d", cost=Decimal(0), amount=Decimal(0))) is None
    assert log.last_round("small")[0] == 2
    assert "7 of 7 EUR are spent" in str(log.state("mid").stop_asked)


def test_a_message_that_found_nothing_to_stop_is_answered(tmp_path: Path) -> None:
    clock = ManualClock()
    log = project(tmp_path, clock, protected=True)
    message = BudgetMessage("a", "small", Decimal(7), Decimal(7), "EUR")
    assert enforcer(log, tmp_path, clock).answer(SMALL, message) is None
    assert log.knows("small", "a")
    assert not log.knows("small", "b")


def test_a_round_that_lost_its_number_leaves_the_message_unanswered(tmp_path: Path) -> None:
    log = project(tmp_path, ManualClock())
    assert log.ask("small", 1, ["low-1"], "why") == ("low-1",)
    assert log.ask("small", 1, ["low-2"], "why", "a") == ()
    assert not log.knows("small", "a")
    assert log.ask("small", 2, ["low-2"], "why", "a") == ("low-2",)
    assert log.ask("small", 3, ["low-3"], "why", "a") == ()


def test_a_controller_stops_its_run_and_says_why(tmp_path: Path) -> None:
    world = World(tmp_path, [], [Life(ends=None)])
    log = BudgetLog(tmp_path / "events.db", world.clock)
    world.at.append((20.0, lambda: log.ask("small", 1, [RUN], "1.01 USD are spent")))
    state = world.drive()
    assert (state.outcome, state.why) == (Outcome.BUDGET, "1.01 USD are spent")
    assert [attempt.cause for attempt in world.attempts] == [Cause.BUDGET]
    assert Outcome.BUDGET.exit_status == 3
