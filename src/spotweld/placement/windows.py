"""What the rest of a job will cost if the days to come are like the days that were: dynamic programming over prices.

The prices to come are expected to be the mean of the last days at the same time of day, as far back as a week, each
day raised or lowered as the last one was dearer or cheaper. For those the cheapest plan is known: which hours to run
in, where, and which to let pass, with a changeover at each start. So the worth of an hour of work is known as well, and
a machine is worth holding while it costs no more than that. (To plan for each of those days apart, and take the mean of
what that costs, would count on luck: such a plan knows the day's chance lows beforehand.)

Spot can be started in a zone when it could be had at that time of the day, each day being one way in which the next may
go. How long it is kept, prices do not say: it is lost at the rate at which the past lost it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from typing import TypeAlias

    from spotweld.placement.market import Floats, Ints, Market
    from spotweld.placement.seeing import Task

    Costs: TypeAlias = npt.NDArray[np.float32]

DAY = 86_400.0
DAYS = 7
"""At most so many days of the past count."""
STEPS = 120
"""Steps until the deadline, at most; else a step is a tick."""
SHORTFALL = 30.0
"""What a step of slack that is missing costs, in steps of on-demand: so much that no plan makes use of it."""


@dataclass(frozen=True, eq=False)
class Days:
    """The next day, tick by tick, in Z zones; it may go in K ways. After it, the same day comes again."""

    spot: Costs
    """(D, Z): prices that are expected, per machine and hour."""
    up: npt.NDArray[np.bool_]
    """(K, D, Z): whether the gang could be had."""
    lost: Floats
    """(Z,): the share of spot gangs that are lost within a tick."""


def days_of(past: Market, gang: int) -> Days | None:
    """The days to come, as a past says. The first tick of them follows its last one.

    Args:
        past: what was seen.
        gang: machines at once.

    Returns:
        None, if the past is shorter than a day.
    """
    begins, each = _begins(past)
    if not begins:
        return None
    up = past.up(gang)
    prices = np.stack([past.spot[begin : begin + each] for begin in begins])
    mean = prices.mean(axis=1, keepdims=True)
    level = np.divide(mean[:1], mean, out=np.ones_like(mean), where=mean > 0)
    held = np.maximum(up[:-1].sum(axis=0), 1)
    return Days(
        spot=(prices * level).mean(axis=0).astype(np.float32),
        up=np.stack([up[begin : begin + each] for begin in begins]),
        lost=(up[:-1] & ~up[1:]).sum(axis=0) / held,
    )


def rhythm(past: Market) -> float:
    """How much of a machine's price the time of day foretells: a standard deviation, as a share of the mean price.

    A day is foretold by the mean of the others. What was not foretold is taken off, so that chance gives 0.

    Args:
        past: what was seen; less than two days have no rhythm.
    """
    begins, each = _begins(past)
    if len(begins) < 2:
        return 0.0
    # (K, D): the cheapest zone's, each day by its own mean.
    days = np.stack([past.spot[begin : begin + each].min(axis=1) for begin in begins])
    mean = days.mean(axis=1, keepdims=True)
    if not (mean > 0).all():
        return 0.0
    days = days / mean
    others = (days.sum(axis=0) - days) / (len(days) - 1)
    return math.sqrt(max(0.0, float((days - 1.0).var() - (days - others).var())))


def _begins(past: Market) -> tuple[list[int], int]:
    """The ticks at which the last days began, the latest first, and the ticks of a day."""
    each = round(DAY / past.gap)
    count = min(DAYS, past.ticks // max(each, 1)) if each else 0
    # In whole ticks from the last one back, so that a gap that does not divide the day drifts by no more than half.
    return [max(0, past.ticks - round(back * DAY / past.gap)) for back in range(1, count + 1)], each


@dataclass(frozen=True, eq=False)
class Windows:
    """Expected costs to the end for R jobs, from the next moments on. S steps of slack from 0 on.

    The first moment is the one that was asked about; each next one is a step later.
    """

    step: float
    """Seconds."""
    none: Costs
    """(N, R, S): nothing is held."""
    firm: Costs
    """(N, R, S): on-demand that makes progress."""
    spot: Costs
    """(N, R, Z, S): spot that makes progress."""
    short: Floats
    """(R,): what a step of slack below 0 costs."""

    def of(self, rows: Ints, moment: float) -> Moment:
        """Some of the jobs, at a moment that lies so many steps after the first."""
        moment = min(moment, len(self.none) - 1)
        early = min(int(moment), len(self.none) - 2)
        part = np.float32(moment - early)
        costs = ((each[early, rows], each[early + 1, rows]) for each in (self.none, self.firm, self.spot))
        none, firm, spot = (first + part * (second - first) for first, second in costs)
        return Moment(self.step, none, firm, spot, self.short[rows])


@dataclass(frozen=True, eq=False)
class Moment:
    """The expected costs to the end at one moment: the fields of ``Windows`` without their first axis."""

    step: float
    none: Costs
    firm: Costs
    spot: Costs
    short: Floats

    def cost(self, costs: Costs, slack: Floats) -> Floats:
        """Costs with so many steps of slack, (R,) or (R, Z), interpolated; ``costs`` may be the same for all zones."""
        place = np.clip(slack, 0, costs.shape[-1] - 1)
        low = np.minimum(place.astype(np.int64), costs.shape[-1] - 2)
        where = np.ix_(*(range(length) for length in slack.shape))[: costs.ndim - 1]
        nearer, farther = costs[(*where, low)], costs[(*where, low + 1)]
        missing = np.maximum(-slack, 0.0) * _by_row(self.short, slack.ndim)
        found: Floats = nearer + (place - low) * (farther - nearer) + missing
        return found


def look(days: list[Days], task: Task, gap: float, left: float, kept: float, prices: tuple[Floats, Floats]) -> Windows:
    """What R jobs are expected to cost.

    Args:
        days: of each job, as many for all; from this moment on.
        task: what there is to do, from its beginning.
        gap: seconds of a tick.
        left: seconds until the deadline.
        kept: seconds for which moments are wanted.
        prices: (R,) of on-demand per hour of the gang, and (R, Z + 1) of a start: egress to each zone, and for the
            on-demand machine.
    """
    count = max(1, min(STEPS, math.ceil(left / gap)))
    step = left / count
    model = _Model(days, task, gap, step, count, prices)
    plans = model.end()
    moments = [plans]
    last = min(count, math.ceil(kept / step) + 1)
    for steps in range(1, count + 1):
        plans = model.before(steps, plans)
        if steps >= count - last:
            moments.append(plans)
    moments.reverse()
    none, firm, spot = (np.stack([each[place].mean(axis=1) for each in moments]) for place in range(3))
    return Windows(step, none, firm, spot, model.short)


class _Model:
    """K ways for capacity to come and go, and one step back in time. Costs are (R, K, S), of spot (R, K, Z, S)."""

    def __init__(
        self, days: list[Days], task: Task, gap: float, step: float, count: int, prices: tuple[Floats, Floats]
    ) -> None:
        firm, starts = prices
        hours, gang = step / 3600.0, task.gang
        ticks = _ticks(count, step / gap, len(days[0].spot))
        self._spot = np.stack([one.spot[ticks].mean(axis=1) for one in days]) * np.float32(hours * gang)
        self._up = np.stack([one.up[:, ticks[:, 0]] for one in days])
        lost = 1.0 - (1.0 - np.stack([one.lost for one in days])) ** (step / gap)
        self._lost = lost.astype(np.float32)[:, None, :, None]
        self._firm = (firm * hours).astype(np.float32)[:, None, None]
        self._to_spot = starts[:, :-1].astype(np.float32)[:, None, :, None]
        self._to_firm = starts[:, -1].astype(np.float32)[:, None, None]
        self.short: Floats = SHORTFALL * (firm * hours)
        self._count, self._changeover = count, task.changeover / step
        self._rollback = task.cadence / 2 / step
        wide = min(math.ceil((task.deadline - task.work) / step), count) + 2
        self._slack = np.arange(wide, dtype=np.float32)
        self._unsafe = self._slack < self._changeover

    def end(self) -> tuple[Costs, Costs, Costs]:
        """No time is left, and all work is done but for an instant of it: who holds nothing has to start once more."""
        rows, ways, _, zones = self._up.shape
        none = np.zeros((rows, ways, len(self._slack)), dtype=np.float32)
        spot = np.zeros((rows, ways, zones, len(self._slack)), dtype=np.float32)
        return none + self._firm * np.float32(self._changeover), none, spot

    def before(self, left: int, plans: tuple[Costs, Costs, Costs]) -> tuple[Costs, Costs, Costs]:
        """What is expected with ``left`` steps left, from what is with one less."""
        none, firm, spot = plans
        at = self._count - left
        working = np.clip(left - self._slack, 0.0, 1.0).astype(np.float32)
        firm = firm + self._firm * working
        gone = self._less(none, self._rollback)[:, :, None]
        spot = spot + self._lost * (gone - spot) + self._spot[:, None, at, :, None] * working
        # With less slack the guard starts on-demand instead.
        refuge = self._less(firm, self._changeover) + self._to_firm
        spot = np.where(self._unsafe, refuge[:, :, None], spot)
        done = self._slack >= left
        firm[..., done] = spot[..., done] = 0.0
        fresh = self._less(spot, self._changeover) + self._to_spot
        fresh = np.where(self._up[:, :, at, :, None], fresh, np.float32(np.inf)).min(axis=2)
        none = np.minimum(self._less(none, 1.0), np.minimum(fresh, refuge))
        return none, np.minimum(firm, none), np.minimum(spot, none[:, :, None])

    def _less(self, costs: Costs, steps: float) -> Costs:
        """What it costs with so much less slack."""
        place = self._slack - np.float32(steps)
        low = np.clip(np.floor(place), 0, len(place) - 2).astype(np.int64)
        part = np.clip(place - low, 0.0, 1.0).astype(np.float32)
        missing = (np.maximum(-place, 0.0) * _by_row(self.short, costs.ndim)).astype(np.float32)
        less: Costs = costs[..., low] * (1 - part) + costs[..., low + 1] * part + missing
        return less


def _by_row(values: Floats, axes: int) -> Floats:
    """(R,) as an array of so many axes."""
    return values.reshape(-1, *(1,) * (axes - 1))


def _ticks(count: int, ratio: float, day: int) -> Ints:
    """(H, m): the ticks of a day that each step covers."""
    each = math.ceil(ratio)
    parts = (np.arange(each) + 0.5) / each
    ticks: Ints = np.floor((np.arange(count)[:, None] + parts) * ratio).astype(np.int64) % day
    return ticks
