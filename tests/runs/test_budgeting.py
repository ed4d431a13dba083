"""Rounds of stops: written once, by one of two who enforce at once, wherever one of them is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace
from tests.runs.pasts import Past
from tests.runs.samples import attempt_opened, opened
from tests.runs.world import RUN, Life, ManualClock, World

from spotweld.costs.budgets import standing
from spotweld.costs.gcpbudgets import BudgetMessage
from spotweld.costs.ledger import ledger
from spotweld.errors import BudgetSpent, IllegalTransition, UsageError
from spotweld.project.nouns import Budget, Job, Period
from spotweld.runs import budgeting
from spotweld.runs.budgeting import BudgetLog, Enforcer
from spotweld.runs.events import AttemptEnded, Cause, Ended, Entry, MachineStarted, Outcome, Reopened, StopAsked
from spotweld.runs.history import usages
from spotweld.runs.reopening import check_against, check_budget, check_stopped, find_stopped
from spotweld.runs.states import RunState, fold
from spotweld.values.money import Money

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from spotweld.costs.focus import Row
    from spotweld.costs.usage import Usage

SMALL = Budget("small", Money(Decimal("1.00")), stop=Decimal(1), at_most=2, every=60.0)
RUNS = {"low-1": 0, "low-2": 0, "low-3": 0, "mid": 1, "high": 2}
KILLED = """
import sys
from pathlib import Path
from spotweld.runs.budgeting import BudgetLog
from tests.runs.dying import die_after
log, left = BudgetLog(Path(sys.argv[1])), int(sys.argv[2])
die_after(log, left)
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


def test_what_is_over_is_priced_once_and_counts_as_all_of_its_rows_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The hour 48 is the beginning of a day, a week and a month.
    past = Past(tmp_path / "events.db", datetime(2026, 5, 30, tzinfo=UTC).timestamp())
    for run, (begin, end) in {"before": (1, 20), "across": (40, 50.5), "within": (49, 53.25), "none": (50, 50)}.items():
        past.attempt(run, begin, end, Cause.DONE)
        past.log.append(run, past.generations[run], Ended(Outcome.DONE, ""))
    past.attempt("on", 30, 51, Cause.PREEMPTED)
    past.attempt("on", 52, None, Cause.DONE)
    past.clock.elapsed = 54 * 3600.0
    budgets = [Budget(str(per), Money(Decimal(100)), per) for per in Period]
    log = BudgetLog(tmp_path / "events.db", past.clock)
    log.keep(budgets)
    one, now = enforcer(log, tmp_path, past.clock), past.clock.now()
    everything = ledger(usage for state in past.states() for usage in usages(state, {}, now))
    wanted = sorted((standing(budget, everything, now) for budget in budgets), key=lambda stands: stands.budget.name)
    assert len({stands.spent for stands in wanted}) == 2
    assert one.standings() == wanted

    priced: list[str] = []

    def listening(given: Iterable[Usage]) -> list[Row]:
        listed = list(given)
        priced.extend(usage.run for usage in listed)
        return ledger(listed)

    monkeypatch.setattr(budgeting, "ledger", listening)
    assert one.standings() == wanted
    assert set(priced) == {"on", "across"}


def test_how_a_budget_burnt_down_knows_its_rounds_and_its_own_runs_alone(tmp_path: Path) -> None:
    clock = ManualClock()
    log = project(tmp_path, clock)
    clock.sleep(3600)
    one = enforcer(log, tmp_path, clock)
    assert one.enforce() != []
    at = clock.now()
    clock.sleep(60)
    assert one.enforce() != []
    small, nobody = one.burndowns([SMALL, replace(SMALL, name="nobody", jobs=("nobody",))])
    assert small.stops == (at, at + 60)
    assert small.stands == one.standings()[0]
    assert small.points[-1] == (clock.now(), small.stands.spent.amount)
    assert (nobody.stops, nobody.points) == ((), ((clock.now(), 0),))


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


def test_who_is_to_stop_is_asked_of_no_run_that_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every controller asks before it rents anything, and a project has had thousands of runs after a while."""
    clock = ManualClock()
    log = project(tmp_path, clock)
    for run in RUNS:
        if run != "mid":
            generation = log.take_over(run)
            log.append(run, generation, AttemptEnded(1, Cause.DONE, "", clock.now()))
            log.append(run, generation, Ended(Outcome.DONE, ""))
    log.ask("small", 1, ["mid"], "why")
    one, looked, state = enforcer(log, tmp_path, clock), [], log.state

    def look(run: str) -> RunState:
        looked.append(run)
        return state(run)

    monkeypatch.setattr(log, "state", look)
    assert one.stopping() == one.stopping() == ["mid"]
    assert looked == ["mid"]


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


def usd(amount: str) -> Money:
    return Money(Decimal(amount))


def test_a_run_that_its_budget_stopped_ends_once_that_is_raised(tmp_path: Path) -> None:
    world = World(tmp_path, [], [Life(ends=None), Life(ends=5.0)], budget=usd("0.01"))
    stopped = world.drive()
    assert stopped.outcome is Outcome.BUDGET
    seq = world.log.entries(RUN)[-1].seq
    other = BudgetLog(tmp_path / "events.db", world.clock)
    world.clock.sleep(600)
    assert [log.reopen(RUN, seq, usd("0.05")) for log in (world.log, other)] == [True, False]
    state = world.drive()
    assert (state.outcome, state.job.budget) == (Outcome.DONE, usd("0.05"))
    assert [attempt.cause for attempt in state.attempts] == [Cause.BUDGET, Cause.DONE]
    assert state.attempts[0] == stopped.attempts[0]
    assert len(world.starts) == len({*world.starts}) == 2
    assert [type(entry.event) for entry in world.log.entries(RUN)].count(Reopened) == 1


def test_a_run_that_goes_on_may_be_stopped_by_a_later_round(tmp_path: Path) -> None:
    world = World(tmp_path, [], [Life(ends=None)])
    log = BudgetLog(tmp_path / "events.db", world.clock)
    world.at.append((20.0, lambda: log.ask("small", 1, [RUN], "1.01 USD are spent")))
    world.drive()
    one = Enforcer(log, tmp_path / "pools.db", world.clock)
    assert log.ask("small", 2, [RUN], "too late") == ()
    assert log.reopen(RUN, log.entries(RUN)[-1].seq, None)
    assert one.stopping() == []
    assert log.ask("small", 2, [RUN], "2.01 USD are spent") == (RUN,)
    assert one.stopping() == [RUN]
    assert world.drive().why == "2.01 USD are spent"


def test_what_no_budget_stopped_is_not_reopened(tmp_path: Path) -> None:
    world = World(tmp_path)
    with pytest.raises(IllegalTransition):
        world.log.reopen(RUN, 1, None)
    assert world.drive().outcome is Outcome.DONE
    seq = world.log.entries(RUN)[-1].seq
    with pytest.raises(IllegalTransition):
        world.log.reopen(RUN, seq, usd("9"))
    assert world.log.entries(RUN)[-1].seq == seq


def test_a_broken_budget_stands_against_the_jobs_that_it_covers(tmp_path: Path) -> None:
    clock = ManualClock()
    log = project(tmp_path, clock)
    one = enforcer(log, tmp_path, clock)
    job, wide = Job("job", "true"), replace(SMALL, amount=usd("9"))
    assert one.against(job, [SMALL]) == []
    clock.sleep(3600)
    (stands,) = one.against(job, [SMALL, wide, replace(SMALL, stop=None), replace(SMALL, jobs=("other",))])
    assert stands.budget == SMALL
    assert one.against(replace(job, protected=True), [SMALL]) == []
    assert one.against(replace(job, name="else"), [replace(SMALL, jobs=("job",))]) == []
    with pytest.raises(BudgetSpent, match=r"4\.50 USD of the 1\.00 USD of the budget small are spent") as error:
        check_against("it cannot be launched", [stands])
    assert error.value.exit_status == 3
    assert "raise the amount of the budget small" in error.value.todo
    assert "wait" not in error.value.todo
    check_against("it can be launched", [])


def test_a_budget_of_a_period_can_be_waited_for(tmp_path: Path) -> None:
    clock = ManualClock()
    log = project(tmp_path, clock)
    clock.sleep(3600)
    daily = replace(SMALL, per=Period.DAY)
    with pytest.raises(BudgetSpent) as error:
        check_against("no", enforcer(log, tmp_path, clock).against(Job("job", "true"), [daily]))
    assert "or wait until 1970-01-13T00:00:00.000Z" in error.value.todo
    clock.sleep(86400)
    assert enforcer(log, tmp_path, clock).against(Job("job", "true"), [replace(daily, amount=usd("500"))]) == []


def ended_run(job: str, outcome: Outcome | None, run: str = "r", **fields: object) -> RunState:
    events = [replace(opened(**fields), job=replace(opened(**fields).job, name=job))]
    events += [Ended(outcome, "")] if outcome is not None else []
    return fold([Entry(run, n + 1, float(n), event) for n, event in enumerate(events)])


def test_the_newest_run_of_the_job_that_a_budget_stopped_is_meant() -> None:
    states = [
        ended_run("a", None, "a4"),
        ended_run("b", Outcome.BUDGET, "b1"),
        ended_run("a", Outcome.DONE, "a3"),
        ended_run("a", Outcome.BUDGET, "a2"),
        ended_run("a", Outcome.BUDGET, "a1"),
    ]
    assert find_stopped(states, "a").run == "a2"
    check_stopped(states[1])
    with pytest.raises(UsageError, match="a3 has ended") as error:
        find_stopped([states[2]], "a")
    assert error.value.todo == "begin a new run with: spotweld launch a"
    with pytest.raises(UsageError, match="a4 goes on") as error:
        find_stopped(states[:1], "a")
    assert error.value.todo == "follow it with: spotweld watch a4"
    with pytest.raises(UsageError, match="it has no runs"):
        find_stopped(states, "c")
    with pytest.raises(UsageError, match="the run a3 was not stopped"):
        check_stopped(states[2])


@pytest.mark.parametrize(
    ("own", "amount", "spent", "said"),
    [
        ("1.00", "2.00", "1.50", None),
        ("1.00", "1.50", "1.50", "a budget of 1.50 USD: it has spent 1.50 USD"),
        ("1.00", None, "1.50", "a budget of 1.00 USD: it has spent 1.50 USD"),
        ("2.00", None, "1.50", None),
        (None, None, "1.50", None),
        (None, "1.00", "1.50", "a budget of 1.00 USD: it has spent 1.50 USD"),
        ("1.00", None, None, None),
    ],
)
def test_a_run_needs_money_left(own: str | None, amount: str | None, spent: str | None, said: str | None) -> None:
    state = ended_run("a", Outcome.BUDGET, budget=usd(own) if own else None)
    given = usd(amount) if amount else None, usd(spent) if spent else None
    if said is None:
        check_budget(state, *given)
        return
    with pytest.raises(UsageError, match=said):
        check_budget(state, *given)


def test_currencies_do_not_add_up() -> None:
    with pytest.raises(UsageError, match="currencies do not add up"):
        check_budget(ended_run("a", Outcome.BUDGET), Money(Decimal(9), "EUR"), usd("1"))
