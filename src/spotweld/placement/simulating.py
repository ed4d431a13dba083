"""Many jobs through one recorded market, in step: what a policy would have paid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spotweld.errors import UsageError
from spotweld.placement.guarding import guard
from spotweld.placement.market import ages
from spotweld.placement.seeing import NONE, Past, Seen
from spotweld.values.durations import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from spotweld.placement.market import Bools, Floats, Ints, Market
    from spotweld.placement.seeing import Policy, Task


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What became of J jobs. Each field is an array (J,)."""

    cost: Floats
    """Money for the whole gang, egress included."""
    took: Floats
    """Seconds from the start until the work was done."""
    missed: Bools
    """Whether that was after the deadline."""
    preemptions: Ints
    """Spot gangs lost."""
    lost: Floats
    """Seconds of progress that had to be made again."""
    spot: Floats
    """Seconds for which spot was paid."""
    on_demand: Floats
    """Seconds for which on-demand was paid."""
    starts: Ints
    moves: Ints
    """Starts for which something else was given up that could have been kept."""
    egress: Floats
    """Money, a part of ``cost``."""
    forced: Ints
    """Ticks at which the guard did not allow what the policy wanted."""


def starts_of(market: Market, task: Task) -> range:
    """The ticks at which a job may begin so that the recording covers it until its deadline.

    Raises:
        UsageError: the recording is shorter than the deadline.
    """
    last = market.ticks - math.ceil(task.deadline / market.gap)
    if last < 0:
        length = format_duration(market.ticks * market.gap)
        raise UsageError(
            "the recording is too short", f"{length} for a deadline of {format_duration(task.deadline)}", "use a longer"
        )
    return range(last + 1)


def check_starts(market: Market, starts: Ints, task: Task) -> Ints:
    """``starts`` as they are.

    Raises:
        UsageError: the recording does not cover a job that begins then.
    """
    starts, allowed = np.asarray(starts, dtype=np.int64), starts_of(market, task)
    if len(starts) and (starts.min() < 0 or starts.max() > allowed[-1]):
        raise UsageError(f"a start is not between tick 0 and tick {allowed[-1]}", "", "start earlier")
    return starts


def simulate(
    market: Market,
    starts: Ints,
    task: Task,
    policy: Policy,
    tell: Callable[[int, int], None] = lambda _done, _all: None,
) -> Outcomes:
    """Run ``task`` once from each of ``starts`` under ``policy``.

    Args:
        market: what could be had.
        starts: (J,): ticks, each one of ``starts_of(market, task)``.
        task: what there is to do.
        policy: who decides; the guard stands behind it.
        tell: called now and then with the ticks that are done and all there are at most.

    Raises:
        UsageError: a start for which the recording is too short.
        ValueError: the policy wanted spot where there was none, or what does not exist.
    """
    batch = _Batch(market, task, check_starts(market, starts, task))
    ticks = math.ceil(task.deadline / market.gap)
    for passed in range(ticks):
        if not len(batch.job):
            break
        batch.lose(passed)
        seen = batch.see(passed)
        batch.hold(seen, policy.decide(seen))
        batch.run(seen, passed)
        if passed % 16 == 0:
            tell(passed, ticks)
    tell(ticks, ticks)
    return batch.outcomes


class _Batch:
    """The jobs that are under way, and the accounts of all."""

    def __init__(self, market: Market, task: Task, starts: Ints) -> None:
        self._market, self._task, self._past = market, task, Past(market)
        self._up, self._gang_price = market.up(task.gang), market.spot * task.gang
        self._age = ages(self._up, market.gap)
        self._on_demand = market.on_demand * task.gang
        self._zones = len(market.zones)
        jobs = len(starts)
        self.job = np.arange(jobs)
        """(A,): the jobs that are not done; all of the following are about them."""
        self._start = starts
        self._held = np.full(jobs, NONE, dtype=np.int64)
        self._home = self._held.copy()
        self._warming, self._ran = np.zeros(jobs), np.zeros(jobs)
        self._work = np.full(jobs, task.work)
        counts = [np.zeros(jobs, dtype=np.int64) for _ in range(4)]
        sums = [np.zeros(jobs) for _ in range(5)]
        self.outcomes = Outcomes(
            cost=sums[0],
            took=np.full(jobs, np.inf),
            missed=np.ones(jobs, dtype=np.bool_),
            preemptions=counts[0],
            lost=sums[1],
            spot=sums[2],
            on_demand=sums[3],
            starts=counts[1],
            moves=counts[2],
            egress=sums[4],
            forced=counts[3],
        )

    def lose(self, passed: int) -> None:
        """Spot gangs whose zone is not up any more are gone, with what was not saved."""
        spot = np.flatnonzero((self._held != NONE) & (self._held < self._zones))
        gone = spot[~self._up[self._start[spot] + passed, self._held[spot]]]
        if not len(gone):
            return
        if self._task.cadence:
            back = self._ran[gone] % self._task.cadence
            self._work[gone] += back
            self.outcomes.lost[self.job[gone]] += back
        self._held[gone] = NONE
        self._warming[gone] = self._ran[gone] = 0.0
        self.outcomes.preemptions[self.job[gone]] += 1

    def see(self, passed: int) -> Seen:
        """What is to be seen after ``passed`` ticks."""
        tick = self._start + passed
        time = np.full(len(tick), self._task.deadline - passed * self._market.gap)
        return Seen(
            up=self._up[tick],
            capacity=self._market.capacity[tick],
            age=self._age[tick],
            spot=self._gang_price[tick],
            on_demand=np.broadcast_to(self._on_demand, (len(tick), self._zones)),
            held=self._held,
            warming=self._warming,
            ran=self._ran,
            home=self._home,
            work=self._work,
            time=time,
            tick=tick,
            regions=self._market.region,
            task=self._task,
            gap=self._market.gap,
            past=self._past,
        )

    def hold(self, seen: Seen, want: Ints) -> None:
        """Give up and start what the policy wants and the guard allows."""
        rows = np.arange(len(want))
        spot = (want != NONE) & (want < self._zones)
        if (want < NONE).any() or (want >= 2 * self._zones).any():
            raise ValueError("a policy wants what does not exist")
        if not (~spot | seen.up[rows, np.where(spot, want, 0)]).all():
            raise ValueError("a policy wants spot in a zone that is not up")
        allowed = guard(seen, want)
        self.outcomes.forced[self.job] += allowed != want
        changed = allowed != self._held
        started = np.flatnonzero(changed & (allowed != NONE))
        region = self._market.region[allowed[started] % self._zones]
        if self._task.moving:
            egress = ((self._home[started] != NONE) & (self._home[started] != region)) * self._task.moving
            self.outcomes.egress[self.job[started]] += egress
            self.outcomes.cost[self.job[started]] += egress
        self._home = self._home.copy()
        self._home[started] = region
        self.outcomes.starts[self.job[started]] += 1
        self.outcomes.moves[self.job[started]] += self._held[started] != NONE
        self._ran = np.where(changed, 0.0, self._ran)
        self._warming = np.where(changed, 0.0, self._warming)
        self._warming[started] = self._task.changeover
        self._held = allowed.copy()

    def run(self, seen: Seen, passed: int) -> None:
        """One tick: changeover first, then progress; paid until the work is done."""
        gap, busy, firm = self._market.gap, self._held != NONE, self._held >= self._zones
        rows, zone = np.arange(len(self.job)), np.where(busy, self._held % self._zones, 0)
        need = self._work + self._warming
        used = np.where(busy, np.minimum(need, gap), 0.0)
        price = np.where(firm, self._on_demand[zone], seen.spot[rows, zone])
        out = self.outcomes
        out.cost[self.job] += price * used / 3600.0
        out.on_demand[self.job] += np.where(firm, used, 0.0)
        out.spot[self.job] += np.where(firm, 0.0, used)
        warm = np.minimum(self._warming, used)
        progress = used - warm
        self._warming = self._warming - warm
        self._ran = self._ran + progress
        self._work = self._work - progress
        done = busy & (need <= gap)
        if done.any():
            out.took[self.job[done]] = passed * gap + used[done]
            out.missed[self.job[done]] = out.took[self.job[done]] > self._task.deadline
            self._keep(~done)

    def _keep(self, alive: Bools) -> None:
        self.job, self._start = self.job[alive], self._start[alive]
        self._held, self._home = self._held[alive], self._home[alive]
        self._warming, self._ran, self._work = self._warming[alive], self._ran[alive], self._work[alive]


def joined(parts: Sequence[Outcomes]) -> Outcomes:
    """The outcomes of several batches after one another."""
    each = {name: np.concatenate([getattr(part, name) for part in parts]) for name in Outcomes.__dataclass_fields__}
    return Outcomes(**each)
