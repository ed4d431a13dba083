"""``spotweld status``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click
import msgspec

from spotweld.checkpoint.explaining import explain
from spotweld.cli.output import print_json, print_table, say
from spotweld.cli.parts import Known, known_run, open_log, run_argument
from spotweld.cli.session import json_option, open_project
from spotweld.errors import StoreError
from spotweld.report.words import CAUSES, last_save, origin
from spotweld.runs.accounts import spent
from spotweld.runs.drive import is_driven
from spotweld.runs.events import Cause
from spotweld.runs.following import Follower
from spotweld.runs.history import losses, progress
from spotweld.runs.reopening import going_on
from spotweld.values.durations import format_duration
from spotweld.values.money import format_money

if TYPE_CHECKING:
    from spotweld.runs.history import Progress
    from spotweld.runs.states import RunState


@click.command
@run_argument
@json_option
def command(name: str | None, *, as_json: bool) -> None:
    """List this project's runs; with a run's name, everything about that one.

    \b
    With --json: a list of runs, newest first, each {run, job, state, why,
    attempts, interruptions, machine, zone, cost, cost_is, opened, ended,
    deadline}.
    With a run's name that object alone, and in it "driven" (whether a
    controller is at work), "placements", each {attempt, zone,
    capacity_type, hourly, why, machine, started, ended, cause, detail,
    from_step, from_tier, from_why, to_step, durable_step, last_save,
    steps_lost}, where durable_step is the newest in the run's store, from_tier
    empty for that store, and last_save what was decided when the machine was
    about to go: full, delta or none; and "cadence" of the latest attempt that told it: {attempt,
    why, interval, steps, rule, stall, interference, measured, durable,
    hazard, age, risky, max_lost_work, kept}. Times are seconds since 1970
    UTC; null: none, or not known.
    """
    if name is not None:
        _one(known_run(name), as_json=as_json)
        return
    project, _ = open_project()
    log = open_log(project)
    states = [log.state(run) for run in log.runs()]
    if as_json:
        print_json([_summary(state) for state in states])
    elif not states:
        say("this project has no runs yet; begin one with: spotweld launch")
    else:
        columns = ("RUN", "JOB", "STATE", "ATTEMPTS", "INTERRUPTIONS", "COST", "AGE")
        print_table(columns, [_row(_summary(state)) for state in states], right=(3, 4, 5, 6))


def _summary(state: RunState) -> dict[str, Any]:
    now = time.time()
    current = state.current
    return {
        "run": state.run,
        "job": state.job.name,
        "state": state.phase,
        "why": state.why or (state.waiting.why if state.waiting else ""),
        "attempts": len(state.attempts),
        "interruptions": sum(1 for a in state.attempts if a.cause is not None and a.cause.interruption),
        "machine": current.machine if current else None,
        "zone": current.offer.zone if current else None,
        "cost": spent(state, now),
        "cost_is": "estimate",
        "opened": state.opened,
        "ended": state.ended,
        "deadline": state.deadline,
    }


def _row(summary: dict[str, Any]) -> list[str]:
    cost = summary["cost"]
    return [
        summary["run"],
        summary["job"],
        summary["state"],
        str(summary["attempts"]),
        str(summary["interruptions"]),
        format_money(cost) if cost is not None else "-",
        format_duration(time.time() - summary["opened"]),
    ]


def _cadence(history: dict[int, Progress]) -> dict[str, Any] | None:
    told = [(number, attempt.cadence) for number, attempt in history.items() if attempt.cadence is not None]
    if not told:
        return None
    number, plan = told[-1]
    return {"attempt": number, "why": explain(plan)} | msgspec.structs.asdict(plan)


def _steps(attempt: Progress | None) -> dict[str, Any]:
    restored = attempt.restored if attempt is not None else None
    return {
        "from_step": attempt.first if attempt is not None else None,
        "from_tier": restored.tier if restored is not None else None,
        "from_why": restored.why if restored is not None else None,
        "to_step": attempt.last if attempt is not None else None,
        "durable_step": attempt.safe if attempt is not None else None,
        "last_save": attempt.last_save.decision if attempt is not None and attempt.last_save is not None else None,
    }


def _checkpoint_lines(attempt: Progress) -> list[tuple[str, str]]:
    """Where the state came from and where it is now, if fast tiers have to do with it; how it was saved at the end."""
    lines = []
    if attempt.restored is not None and (told := origin(attempt.restored)):
        lines.append(("resumed", f"step {attempt.restored.step}{told}"))
    if attempt.nearby is not None:
        step, tier = attempt.nearby
        safe = "nothing is durable yet" if attempt.safe is None else f"step {attempt.safe} is durable"
        on = "" if step == attempt.safe else f"; step {step} is in {tier}, and goes with the machine"
        lines.append(("checkpoint", f"{safe}{on}"))
    if attempt.last_save is not None:
        lines.append(("last save", last_save(attempt.last_save)))
    return lines


def _why_lines(state: RunState, summary: dict[str, Any]) -> list[tuple[str, str]]:
    lines = [("why", summary["why"]), ("go on with", going_on(state))]
    return [(label, line) for label, line in lines if line]


def _deadline_lines(state: RunState) -> list[tuple[str, str]]:
    """How long a run with a deadline may still take, and the reasons of the latest decision in full."""
    if state.deadline is None:
        return []
    until = state.deadline - (state.ended if state.ended is not None else time.time())
    lines = [("deadline", f"in {format_duration(until)}" if until >= 0 else f"missed by {format_duration(-until)}")]
    if state.ended is not None:
        lines = [("deadline", f"met with {format_duration(until)} to spare" if until >= 0 else lines[0][1])]
    elif state.attempts:
        lines.append(("decided", state.attempts[-1].why))
    return lines


def _short(why: str) -> str:
    """Without what a placer gives as its reasons; ``--json`` has them."""
    return why.partition(";")[0]


def _one(known: Known, *, as_json: bool) -> None:
    state = known.state
    try:
        history = progress(Follower(known.run, known.log, known.objects()).poll())
    except StoreError as error:
        say(f"{error}; how far the program is cannot be told")
        history = {}
    lost = losses(history)
    attempts: list[dict[str, Any]] = [
        {
            "attempt": attempt.number,
            "zone": attempt.offer.zone,
            "capacity_type": attempt.offer.capacity_type,
            "hourly": attempt.offer.hourly,
            "why": attempt.why,
            "machine": attempt.machine,
            "started": attempt.started,
            "ended": attempt.ended,
            "cause": attempt.cause,
            "detail": attempt.detail,
            **_steps(history.get(attempt.number)),
            "steps_lost": lost[attempt.number].steps if attempt.number in lost else 0,
        }
        for attempt in state.attempts
    ]
    driven = state.outcome is not None or is_driven(known.project.state, known.run)
    if as_json:
        print_json(_summary(state) | {"driven": driven, "placements": attempts, "cadence": _cadence(history)})
        return
    summary = _summary(state)
    for label, value in zip(
        ("run", "job", "state", "attempts", "interruptions", "cost", "age"), _row(summary), strict=True
    ):
        click.echo(f"{label:<14}{value}")
    lines = _why_lines(state, summary) + (_checkpoint_lines(history[max(history)]) if history else [])
    for label, line in lines:
        click.echo(f"{label:<14}{line}")
    plan = history[state.current.number].cadence if state.current and state.current.number in history else None
    if plan is not None:
        click.echo(f"{'cadence':<14}{explain(plan)}")
    for label, line in _deadline_lines(state):
        click.echo(f"{label:<14}{line}")
    if attempts:
        click.echo()
        columns = ("#", "WHERE", "STEPS", "LOST", "ENDED", "WHY")
        rows = [
            [
                str(a["attempt"]),
                f"{a['zone']} {a['capacity_type']}",
                f"{a['from_step']} to {a['to_step']}" if a["from_step"] is not None else "-",
                str(a["steps_lost"]),
                CAUSES[Cause(str(a["cause"]))] if a["cause"] else "-",
                _short(str(a["detail"] or a["why"])),
            ]
            for a in attempts
        ]
        print_table(columns, rows, right=(0, 3))
    if not driven:
        say(f"no controller is at work; start one with: spotweld watch {known.run}")
