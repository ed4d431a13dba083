"""What each attempt did, step by step, folded from what its process told; and from that, what was done in vain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from spotweld.checkpoint import events as told
from spotweld.checkpoint.cadence import Plan
from spotweld.costs.ledger import ledger
from spotweld.costs.moves import Move, moved
from spotweld.costs.reconciling import Difference, difference
from spotweld.costs.usage import Usage
from spotweld.providers.provider import MachineEnd
from spotweld.runs.following import Told

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spotweld.costs.focus import Row
    from spotweld.runs.states import Attempt, RunState


class Progress(msgspec.Struct, frozen=True):
    """The steps of one attempt."""

    attempt: int
    first: int | None = None
    """The step from which it went on; 0: from the beginning; None: it never came so far."""
    since: float | None = None
    """When that was."""
    marks: tuple[tuple[int, float], ...] = ()
    """(steps finished, when), rising."""
    durable: int | None = None
    """The newest step that it published in the run's store: what the loss of the machine leaves."""
    nearby: tuple[int, str] | None = None
    """The newest step that is in a fast tier of the machine, and the tier's URL; None: it saved in none."""
    restored: told.Restored | None = None
    """Where it went on; None: from the beginning, or it never came so far."""
    cadence: Plan | None = None
    """How often it saved, and why, when it told so last."""
    total: int | None = None
    """Steps of the whole run, as the program told; None: it did not."""
    last_save: told.Emergency | None = None
    """What it did when its machine was about to go; None: nothing was to be done yet."""
    size: int | None = None
    """Bytes of its state, when it saved last; None: it never did."""

    @property
    def last(self) -> int | None:
        """The furthest step that it is known to have finished."""
        return self.marks[-1][0] if self.marks else self.first

    @property
    def safe(self) -> int | None:
        """The newest step that is known to be in the run's store; None: none is."""
        if self.durable is not None or self.restored is None:
            return self.durable
        return self.restored.published if self.restored.tier else self.restored.step


class Loss(msgspec.Struct, frozen=True):
    """What of an attempt's work had to be done again."""

    steps: int
    seconds: float


def progress(happenings: Iterable[object]) -> dict[int, Progress]:  # noqa: C901, PLR0912 - one case for each kind
    """Each attempt's steps, from everything that was told."""
    first: dict[int, tuple[int, float]] = {}
    marks: dict[int, list[tuple[int, float]]] = {}
    durable: dict[int, int] = {}
    nearby: dict[int, tuple[int, str]] = {}
    restored: dict[int, told.Restored] = {}
    totals: dict[int, int] = {}
    plans: dict[int, Plan] = {}
    last_saves: dict[int, told.Emergency] = {}
    sizes: dict[int, int] = {}
    for happening in happenings:
        if not isinstance(happening, Told):
            continue
        number, event = happening.attempt, happening.event
        if isinstance(event, told.Saved):
            sizes[number] = event.size
        match event:
            case told.Start():
                totals[number] = event.total
            case told.Restored():
                first.setdefault(number, (event.step, event.t))
                restored.setdefault(number, event)
            case told.Fresh():
                first.setdefault(number, (0, event.t))
            case told.Step() | told.Finished():
                marks.setdefault(number, []).append((event.step, event.t))
            case told.Metrics():
                # Logged in the middle of a step, or after the last one.
                step = min(event.step + 1, totals.get(number, event.step + 1))
                marks.setdefault(number, []).append((step, event.t))
            case told.Saved(tier=tier) if tier:
                nearby[number] = event.step, tier
            case told.Saved() | told.Carried(published=True):
                durable[number] = max(event.step, durable.get(number, 0))
            case told.Cadence():
                plans[number] = event.plan
            case told.Emergency():
                last_saves[number] = event
            case _:
                pass
    return {
        number: Progress(
            number,
            first[number][0] if number in first else None,
            first[number][1] if number in first else None,
            tuple(_rising(marks.get(number, []))),
            durable.get(number),
            nearby.get(number),
            restored.get(number),
            plans.get(number),
            totals.get(number),
            last_saves.get(number),
            sizes.get(number),
        )
        for number in sorted(first.keys() | marks.keys())
    }


def losses(history: dict[int, Progress]) -> dict[int, Loss]:
    """What was done in vain: every step beyond the earliest point from which a later attempt went on."""
    found: dict[int, Loss] = {}
    resumed: int | None = None
    for number in sorted(history, reverse=True):
        attempt = history[number]
        if resumed is not None and attempt.first is not None and attempt.last is not None:
            kept_until = max(resumed, attempt.first)
            steps = max(0, attempt.last - kept_until)
            if steps:
                began = max((t for step, t in attempt.marks if step <= kept_until), default=attempt.since or 0.0)
                found[number] = Loss(steps, max(0.0, attempt.marks[-1][1] - began))
        if attempt.first is not None:
            resumed = attempt.first if resumed is None else min(resumed, attempt.first)
    return found


def usages(state: RunState, lost: dict[int, Loss], now: float) -> list[Usage]:
    """The run's machine time, as the ledger takes it.

    Args:
        state: the run.
        lost: what ``losses`` found.
        now: the end of what still runs.
    """
    return [
        Usage(
            project=state.project,
            run=state.run,
            attempt=attempt.number,
            machine=attempt.machine or "",
            offer=attempt.offer,
            on_demand_hourly=attempt.on_demand_hourly,
            started=attempt.started,
            ended=attempt.ended if attempt.ended is not None else max(now, attempt.started),
            closed=attempt.ended is not None,
            lost_seconds=_lost_seconds(attempt, lost, now),
            labels=state.job.labels,
            prices=attempt.prices,
            taken=attempt.end is MachineEnd.INTERRUPTED,
            settled=attempt.end is not None,
            whole=attempt.drawn is None,
        )
        for attempt in state.attempts
        if attempt.started is not None
    ]


def moves(state: RunState, history: dict[int, Progress]) -> list[Move]:
    """Where the run's state went on in another region than it had been saved in; none if no price of that is known.

    What moved is counted as all of the state: how small it is in the store nobody tells.
    """
    found: list[Move] = []
    price, last, size = state.placement.egress_price, None, 0
    for attempt in state.attempts:
        told_of = history.get(attempt.number)
        if price is None or told_of is None:
            continue
        back, here = told_of.restored, attempt.offer
        if back is not None and not back.tier and last is not None and last.region != here.region:
            names = last.provider, last.region, here.region
            found.append(Move(state.project, state.run, attempt.number, back.t, size, price, *names, state.job.labels))
        if told_of.size is not None:
            last, size = here, told_of.size
    return found


def rows_of(state: RunState, history: dict[int, Progress], now: float) -> list[Row]:
    """All that the ledger has of the run itself, until ``now``; what lies in the store is weighed elsewhere."""
    return [*ledger(usages(state, losses(history), now)), *moved(moves(state, history))]


def differences(state: RunState) -> list[Difference]:
    """Where the provider's record of the run's machines was not what had been logged."""
    logged = {attempt.number: attempt.logged for attempt in state.attempts if attempt.logged is not None}
    return [
        difference(replace(theirs, started=ours[0], ended=ours[1], taken=False, settled=False), theirs)
        for theirs in usages(state, {}, 0.0)
        if (ours := logged.get(theirs.attempt)) is not None
    ]


def _lost_seconds(attempt: Attempt, lost: dict[int, Loss], now: float) -> float:
    """The machine's clock may differ from the controller's: no more is lost than was paid for."""
    if attempt.number not in lost or attempt.started is None:
        return 0.0
    ended = attempt.ended if attempt.ended is not None else now
    return min(lost[attempt.number].seconds, max(0.0, ended - attempt.started))


def _rising(marks: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """One mark a step, the first time it was reached."""
    kept: list[tuple[int, float]] = []
    for step, t in sorted(marks):
        if not kept or step > kept[-1][0]:
            kept.append((step, t))
    return kept
