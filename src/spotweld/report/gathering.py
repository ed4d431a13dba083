"""From a run's log and what its processes told to its story."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from spotweld.checkpoint import events as told
from spotweld.preemption.notices import Kind
from spotweld.report.story import Attempt, Carry, Checkpoint, Comparison, Decision, Outcome, State, Story, curve
from spotweld.report.words import figure, origin, sighted
from spotweld.runs import events as logged
from spotweld.runs.following import Told
from spotweld.runs.history import Loss, Progress, differences, losses, progress, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from spotweld.preemption.notices import Notice
    from spotweld.report.story import Curve
    from spotweld.runs import states
    from spotweld.runs.following import Happening

_STATES = {
    logged.Outcome.DONE: State.DONE,
    logged.Outcome.LATE: State.LATE,
    logged.Outcome.CANCELLED: State.CANCELLED,
    logged.Outcome.BUDGET: State.BUDGET,
}


def gather(
    state: states.RunState, happenings: Sequence[Happening], now: float, undisturbed: Comparison | None = None
) -> Story:
    """The story of a run.

    Args:
        state: the run.
        happenings: all that happened, from ``runs.following``.
        now: when it is told, seconds since 1970 UTC.
        undisturbed: how it compares with a run that nobody disturbed; None: not compared.
    """
    process = [happening for happening in happenings if isinstance(happening, Told)]
    history = progress(process)
    lost = losses(history)
    notices = _notices(process)
    curves = _curves(process)
    return Story(
        run=state.run,
        job=state.job.name,
        project=state.project,
        state=_state(state),
        told=now,
        opened=state.opened,
        closed=state.ended,
        total_steps=next((event.total for _, event in _events(process) if isinstance(event, told.Start)), None),
        labels=state.job.labels,
        results={one.name: figure(one.points[-1].value) for one in curves if len({p.step for p in one.points}) == 1},
        attempts=tuple(
            _attempt(attempt, history.get(attempt.number), lost.get(attempt.number), notices.get(attempt.number))
            for attempt in state.attempts
        ),
        decisions=tuple(_decisions(happenings)),
        checkpoints=_checkpoints(process, {attempt.number for attempt in state.attempts if not attempt.open}),
        curves=tuple(one for one in curves if len({p.step for p in one.points}) > 1),
        rows=tuple(rows_of(state, history, now)),
        differences=tuple(differences(state)),
        undisturbed=undisturbed,
    )


def _decisions(happenings: Iterable[Happening]) -> Iterable[Decision]:
    for entry in happenings:
        match None if isinstance(entry, Told) else entry.event:
            case logged.AttemptOpened(offer=offer, why=why):
                yield Decision(entry.time, f"rent {offer.place}", why)
            case logged.AttemptEnded(attempt=number, cause=logged.Cause.MOVED, detail=why):
                yield Decision(entry.time, f"give up #{number}", why)
            case logged.Waiting(why=why):
                yield Decision(entry.time, "wait", why)
            case logged.Reopened(budget=budget):
                yield Decision(entry.time, "go on", "" if budget is None else f"the budget is {budget} now")
            case logged.Sighted(up=up) if up:
                yield Decision(entry.time, sighted(up))


def _state(state: states.RunState) -> State:
    if state.outcome is not None:
        return _STATES.get(state.outcome, State.FAILED)
    return State.RUNNING if state.current is not None else State.WAITING


def _attempt(attempt: states.Attempt, steps: Progress | None, lost: Loss | None, notice: Notice | None) -> Attempt:
    noticed = notice.received if notice is not None else None
    return Attempt(
        number=attempt.number,
        zone=attempt.offer.zone,
        machine_type=attempt.offer.machine_type,
        capacity_type=attempt.offer.capacity_type,
        hourly=attempt.offer.hourly,
        started=attempt.opened if attempt.started is None else attempt.started,
        booted=attempt.running,
        running_since=steps.since if steps else None,
        ended=attempt.ended,
        cause=attempt.cause,
        # The reasons of a move are among the decisions.
        detail=attempt.detail.partition(";")[0] if attempt.cause is logged.Cause.MOVED else attempt.detail,
        first_step=steps.first if steps else None,
        last_step=steps.last if steps else None,
        durable_step=steps.safe if steps else None,
        origin=origin(steps.restored).strip() if steps and steps.restored else "",
        steps_lost=lost.steps if lost else 0,
        seconds_lost=lost.seconds if lost else 0.0,
        noticed=noticed,
        notice_lead=max(0.0, notice.deadline - notice.received) if notice and notice.deadline is not None else None,
    )


def _events(process: Iterable[Told]) -> Iterable[tuple[int, told.Event]]:
    return ((happening.attempt, happening.event) for happening in process)


def _notices(process: Iterable[Told]) -> dict[int, Notice]:
    """The first notice of each attempt that said the machine would go."""
    found: dict[int, Notice] = {}
    for number, event in _events(process):
        if isinstance(event, told.Noticed) and event.notice.kind is Kind.TERMINATE:
            found.setdefault(number, event.notice)
    return found


def _checkpoints(  # noqa: C901 - one case for each kind
    process: Iterable[Told], over: set[int]
) -> tuple[Checkpoint, ...]:
    """Every save, and what became of it. A save that began in an attempt that is over and never ended was cut off."""
    # One process has one save under way at a time; a failure names the step at which it was noticed.
    begun: dict[int, told.Saving] = {}
    saves: list[Checkpoint] = []
    newest: dict[int, int] = {}

    def add(save: Checkpoint) -> None:
        newest[save.step] = len(saves)
        saves.append(save)

    def change(step: int, made: Callable[[Checkpoint], Checkpoint]) -> None:
        # The newest save of that step is the one that is meant.
        if step in newest:
            saves[newest[step]] = made(saves[newest[step]])

    for number, event in _events(process):
        match event:
            case told.Saving():
                begun[number] = event
            case told.Saved():
                begun.pop(number, None)
                figures = event.stall, event.seconds, event.size
                add(Checkpoint(event.step, event.t, number, event.reason, *figures, tier=event.tier))
            case told.Carried():
                change(event.step, partial(_carried, event))
            case told.SaveFailed():
                began = begun.pop(number, None)
                seconds = max(0.0, event.t - began.t) if began else 0.0
                reason = began.reason if began else "cadence"
                step = began.step if began else event.step
                add(Checkpoint(step, event.t, number, reason, 0.0, seconds, 0, Outcome.FAILED, event.why))
            case told.Restored():
                for damage in event.damaged:
                    change(damage.step, partial(_damaged, damage, event.step))
            case _:
                pass
    cut = [
        Checkpoint(event.step, event.t, number, event.reason, 0.0, 0.0, 0, Outcome.CUT)
        for number, event in begun.items()
        if number in over
    ]
    return tuple(sorted([*saves, *cut], key=lambda save: save.time))


def _carried(event: told.Carried, save: Checkpoint) -> Checkpoint:
    return replace(save, carried=(*save.carried, Carry(event.store, event.seconds, event.published)))


def _damaged(damage: told.Damage, restored: int, save: Checkpoint) -> Checkpoint:
    """A checkpoint of which another copy was whole has lost nothing."""
    outcome = Outcome.SAVED if damage.step == restored else Outcome.DAMAGED
    return replace(save, outcome=outcome, detail=damage.why)


def _curves(process: Iterable[Told]) -> list[Curve]:
    samples: dict[str, list[tuple[int, int, float]]] = {}
    for number, event in _events(process):
        if isinstance(event, told.Metrics):
            for name, value in event.values.items():
                samples.setdefault(name, []).append((event.step, number, float("nan") if value is None else value))
    return [curve(name, points) for name, points in samples.items()]
