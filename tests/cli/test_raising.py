"""``spotweld launch --raise-budget``, and launches that a budget of the project stands against."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from tests.runs.killing import PROGRAM
from tests.runs.samples import attempt_opened

from spotweld.costs.ledgerfile import LedgerFile
from spotweld.project.reading import load_project
from spotweld.providers.opening import open_provider
from spotweld.providers.provider import MachineState
from spotweld.runs.accounts import spent
from spotweld.runs.comparing import compare, final_state, metrics
from spotweld.runs.drive import log_path
from spotweld.runs.events import AttemptEnded, Cause, Ended, MachineStarted, Opened, Outcome, Reopened
from spotweld.runs.following import Follower
from spotweld.runs.ledgers import bring_up_to_date, ledger_path
from spotweld.runs.log import EventLog
from spotweld.store.heads import read_head
from spotweld.store.opening import open_store
from spotweld.values.money import Money

if TYPE_CHECKING:
    from tests.cli.conftest import Here

    from spotweld.costs.focus import Row

HOUR = 3600.0


def ledger_rows(here: Here, run: str) -> list[Row]:
    """What the ledger's file has of a run, brought up to date."""
    with closing(LedgerFile(ledger_path(here.state))) as file:
        assert bring_up_to_date(file, here.state, time.time()) == []
        with file.reading():
            return [row for row in file.rows(file.kinds(), None, None) if row.run == run]


def past(here: Here, run: str, job: str, outcome: Outcome = Outcome.BUDGET) -> None:
    """A run that had a machine for an hour of today: 0.90 USD."""
    project = load_project(here.folder / "spotweld.yaml")
    log = EventLog(log_path(here.state))
    log.open_run(
        run, Opened(project.name, project.jobs[job], project.store, "sources/0.json", project.local, project.placement)
    )
    generation = log.take_over(run)
    started = log.entries(run)[0].time
    log.append(run, generation, attempt_opened(1))
    log.append(run, generation, MachineStarted(1, "m", started))
    log.append(run, generation, AttemptEnded(1, Cause.BUDGET, "spent", started + HOUR))
    log.append(run, generation, Ended(outcome, "spent"))
    log.close()


def budgeted(here: Here, line: str) -> None:
    file = here.folder / "spotweld.yaml"
    file.write_text(file.read_text().replace("placement:", f"budgets: {{{line}}}\nplacement:"))


def test_a_budget_s_stop_says_how_to_go_on(small: Here) -> None:
    go_on = "spotweld launch dear --raise-budget AMOUNT"
    first = small.call("launch", "dear", "--name", "it", "-y", "--progress", "quiet")
    assert first.exit_code == 3
    for words in (("launch", "dear", "--name", "it"), ("watch", "it"), ("status", "it")):
        assert go_on in small.call(*words).output, words
    assert go_on in first.stderr
    again = small.call("launch", "dear", "--raise-budget", "0.0003", "-y", "--progress", "quiet")
    assert again.exit_code == 3, again.output
    assert "run       it (job dear of small)" in again.stderr
    state = small.run("it")
    assert [attempt.cause for attempt in state.attempts] == [Cause.BUDGET, Cause.BUDGET]
    assert state.job.budget == Money(Decimal("0.0003"))
    told = small.call("watch", "it").stderr
    assert "the run goes on: its budget is 0.0003000 USD now" in told
    assert told.count("run ended: stopped by budget") == 2


def test_too_little_money_is_said_with_both_figures(small: Here) -> None:
    past(small, "it", "dear")
    for words, figure in ((("0.50",), "0.5000"), (("0.9 USD",), "0.9000"), ((), "0.0001000")):
        result = small.call("launch", "dear", "-y", "--raise-budget", *words)
        assert result.exit_code == 2, result.output
        assert f"a budget of {figure} USD" in result.stderr
        assert "it has spent 0.9000 USD" in result.stderr
    assert "currencies do not add up" in small.call("launch", "dear", "-y", "--raise-budget", "9 EUR").stderr
    assert small.run("it").outcome is Outcome.BUDGET


def test_words_that_make_no_sense_are_refused(small: Here) -> None:
    past(small, "it", "dear")
    past(small, "done", "train", Outcome.DONE)
    for words, said in (
        (("dear", "--raise-budget", "much"), "not an amount of money"),
        (("train", "--raise-budget", "9"), "no run of the job train was stopped by a budget"),
        (("train", "--name", "done", "--raise-budget", "9"), "the run done was not stopped by a budget"),
        (("train", "--name", "doen", "--raise-budget", "9"), "did you mean done?"),
        (("say", "--raise-budget", "9"), "begin one with: spotweld launch say"),
        (("dear", "--raise-budget", "9", "--env", "A=1"), "nothing but its budget can be changed"),
        (("dear", "--raise-budget", "9", "--store", "file:/nowhere"), "nothing but its budget can be changed"),
        (("dear", "--raise-budget", "9"), "say yes beforehand with -y"),
    ):
        result = small.call("launch", *words)
        assert result.exit_code == 2, result.output
        assert said in result.stderr, words
    assert small.run("it").outcome is Outcome.BUDGET


def test_a_broken_budget_of_the_project_stands_against_new_runs(small: Here) -> None:
    past(small, "it", "say")
    budgeted(small, "most: {amount: 0.5 USD, stop: 80%, per: total}, loose: {amount: 0.1 USD}")
    assert small.call("plan", "say").exit_code == 3
    result = small.call("launch", "say", "--name", "new", "-y")
    assert result.exit_code == 3, result.output
    assert "error SW5003" in result.stderr
    assert "0.9000 USD of the 0.5000 USD of the budget most are spent" in result.stderr
    assert "raise the amount of the budget most" in result.stderr
    assert "loose" not in result.stderr
    assert [run["run"] for run in json.loads(small.call("status", "--json").stdout)] == ["it"]
    assert open_provider(small.state, small.local).machines({}) == []
    file = small.folder / "spotweld.yaml"
    file.write_text(file.read_text().replace("say: {", "say: {protected: true, "))
    assert small.call("launch", "say", "--name", "new", "-y").exit_code == 0


def test_a_run_that_a_budget_of_the_project_stopped_goes_on_when_that_is_raised(small: Here) -> None:
    assert small.call("launch", "train", "--name", "it", "-y", "--detach", "--env", "NAP=0.2").exit_code == 0
    small.wait_for("it", lambda state: state.phase == "running")
    budgeted(small, "most: {amount: 0.0000001 USD, stop: 100%}")
    assert small.call("budget", "enforce").exit_code == 0
    small.wait_for("it", lambda state: state.outcome is Outcome.BUDGET)
    refused = small.call("launch", "train", "-y", "--raise-budget")
    assert refused.exit_code == 3, refused.output
    assert "the run it cannot go on" in refused.stderr
    file = small.folder / "spotweld.yaml"
    file.write_text(file.read_text().replace("0.0000001 USD", "5 USD"))
    result = small.call("launch", "train", "-y", "--raise-budget")
    assert result.exit_code == 0, result.output
    state = small.run("it")
    assert (state.outcome, state.job.budget) == (Outcome.DONE, None)


@pytest.mark.slow
def test_a_raised_run_ends_with_the_bits_of_an_undisturbed_one_whoever_is_killed(small: Here) -> None:
    nap = "time.sleep(float(os.environ['NAP']) if os.environ['SPOTWELD_ATTEMPT'] == '1' else 0.1)"
    (small.folder / "train.py").write_text("import os\n" + PROGRAM.replace("time.sleep(0.02)", nap))
    file = small.folder / "spotweld.yaml"
    line = "  %s: {command: python train.py, checkpoint: {every: 8 steps}, env: {NAP: '%s'}%s}\n"
    jobs = line % ("calm", "0", "") + line % ("paid", "0.3", ", budget: 0.003 USD")
    file.write_text(file.read_text().replace("placement:", jobs + "placement:"))
    assert small.call("launch", "calm", "--name", "calm", "-y", "--progress", "quiet").exit_code == 0
    assert small.call("launch", "paid", "--name", "paid", "-y", "--progress", "quiet").exit_code == 3
    first = small.run("paid").attempts
    head = read_head(open_store(small.run("paid").store, verify=False), "paid")
    assert head is not None
    assert {row.attempt for row in ledger_rows(small, "paid")} == {1}
    raised = [small.start("launch", "paid", "--raise-budget", "1 USD", "-y", "--detach") for _ in range(2)]
    ends = [process.communicate(timeout=60) for process in raised]
    (controller,) = small.controllers()
    os.kill(controller, signal.SIGKILL)
    assert 0 in [process.returncode for process in raised], ends
    assert "Traceback" not in str(ends)
    assert small.call("watch", "paid").exit_code == 0
    log, objects = EventLog(log_path(small.state)), open_store(small.run("paid").store, verify=False)
    kinds = [type(entry.event) for entry in log.entries("paid")]
    assert (kinds.count(Reopened), kinds.count(Ended)) == (1, 2)
    state = small.run("paid")
    assert state.outcome is Outcome.DONE
    assert state.attempts[: len(first)] == first
    curves = [metrics(Follower(run, log, objects).poll()) for run in ("paid", "calm")]
    difference = compare((final_state(objects, "paid"), final_state(objects, "calm")), (curves[0], curves[1]))
    assert (difference.state, difference.metrics) == ((), ())
    machines = open_provider(small.state, small.local).machines({"run": "paid"})
    assert all(machine.state is MachineState.ENDED for machine in machines)
    assert sorted(machine.id for machine in machines) == sorted(a.machine for a in state.attempts if a.machine)
    log.close()
    rows = ledger_rows(small, "paid")
    assert {row.attempt: row.resource_id for row in rows} == {a.number: a.machine for a in state.attempts}
    assert Money(sum((row.billed_cost for row in rows), Decimal(0))) == spent(state, time.time())
