"""What each attempt did, step by step, folded from what its process told; and from that, what was done in vain."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

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
    from collections.abc import Iterable, Mapping

    from spotweld.costs.focus import Row
    from spotweld.runs.states import Attempt, RunState


T = TypeVar("T")

MARKS = 50_000
"""Six megabytes an attempt."""


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


class History:
    """The progress of a run that tells about itself bit by bit, for as long as it likes: memory is bounded.

    An attempt keeps ``MARKS`` of its marks at most. Where there are more, the first of every 2, 4, 8, ... steps is
    kept: when a step was reached is known to within the ``MARKS / 4``-th part of the attempt.
    """

    def __init__(self) -> None:
        self._parts: dict[int, Progress] = {}

    def add(self, happenings: Iterable[object]) -> dict[int, Progress]:
        """What ``progress`` makes of all that has been added, these happenings the last."""
        totals = {number: one.total for number, one in self._parts.items() if one.total is not None}
        for number, later in _gathered(happenings, totals).items():
            former = self._parts.get(number)
            self._parts[number] = _thinned(later if former is None else _join(former, later))
        return _begun(self._parts)


def progress(happenings: Iterable[object]) -> dict[int, Progress]:
    """Each attempt's steps, from everything that was told."""
    return _begun(_gathered(happenings, {}))


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


def _begun(parts: Mapping[int, Progress]) -> dict[int, Progress]:
    """The attempts that came so far as to go on, in their order."""
    return {number: one for number, one in sorted(parts.items()) if one.last is not None}


def _gathered(  # noqa: C901, PLR0912 - one case for each kind
    happenings: Iterable[object], known: Mapping[int, int]
) -> dict[int, Progress]:
    """What was told, by attempt; ``known``: totals that had been told before."""
    numbers: set[int] = set()
    first: dict[int, tuple[int, float]] = {}
    marks: dict[int, list[tuple[int, float]]] = {}
    durable: dict[int, int] = {}
    nearby: dict[int, tuple[int, str]] = {}
    restored: dict[int, told.Restored] = {}
    totals = dict(known)
    plans: dict[int, Plan] = {}
    last_saves: dict[int, told.Emergency] = {}
    sizes: dict[int, int] = {}
    for happening in happenings:
        if not isinstance(happening, Told):
            continue
        number, event = happening.attempt, happening.event
        numbers.add(number)
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
            _rising(marks.get(number, [])),
            durable.get(number),
            nearby.get(number),
            restored.get(number),
            plans.get(number),
            totals.get(number),
            last_saves.get(number),
            sizes.get(number),
        )
        for number in numbers
    }


def _lost_seconds(attempt: Attempt, lost: dict[int, Loss], now: float) -> float:
    """The machine's clock may differ from the controller's: no more is lost than was paid for."""
    if attempt.number not in lost or attempt.started is None:
        return 0.0
    ended = attempt.ended if attempt.ended is not None else now
    return min(lost[attempt.number].seconds, max(0.0, ended - attempt.started))


def _rising(marks: Iterable[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    """One mark a step, the first time it was reached."""
    kept: list[tuple[int, float]] = []
    for step, t in sorted(marks):
        if not kept or step > kept[-1][0]:
            kept.append((step, t))
    return tuple(kept)


def _join(former: Progress, later: Progress) -> Progress:
    """Two parts of one attempt."""
    began = former if former.first is not None else later
    durable = [step for step in (former.durable, later.durable) if step is not None]
    return Progress(
        former.attempt,
        began.first,
        began.since,
        _rising(former.marks + later.marks),
        max(durable, default=None),
        _newer(former.nearby, later.nearby),
        former.restored or later.restored,
        _newer(former.cadence, later.cadence),
        _newer(former.total, later.total),
        _newer(former.last_save, later.last_save),
        _newer(former.size, later.size),
    )


def _thinned(attempt: Progress) -> Progress:
    marks = attempt.marks
    if len(marks) <= MARKS:
        return attempt
    # Powers of two: what an earlier thinning left is what this one would have kept.
    apart = 1
    while (marks[-1][0] - marks[0][0]) // apart > MARKS // 2:
        apart *= 2
    firsts = {step // apart: (step, t) for step, t in reversed(marks)}
    return replace(attempt, marks=tuple(sorted({*firsts.values(), marks[-1]})))


def _newer(former: T | None, later: T | None) -> T | None:
    return former if later is None else later
