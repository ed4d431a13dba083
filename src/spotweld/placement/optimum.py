"""The least that a job could have cost, had the whole recording been known: the bound that no policy beats.

Dynamic programming, backward over ticks. A job's state at a tick is what it holds and its *waste*: the seconds so far
that brought no progress (idle, changeover, work lost). The work that is left follows: ``work - (elapsed - waste)``. A
machine that makes progress keeps its waste, so a tick of it costs one addition for all wastes at once; idling and
starting shift by whole units of ``gcd(gap, changeover, cadence)``, and waste is never more than ``deadline - work``.
So neither work nor deadline need be multiples of anything.

- A start is one jump over the ticks of its changeover. Giving a machine up within, or losing it, is never worth it.
- Work ends inside a tick: that tick is charged in full, and the rest given back, as the value of less than no work.
- With a cadence, a spot gang's life ends in one of two ways. It is given up at a tick and loses nothing; or it runs
  until it is lost, which is one jump from its start, because the recording says when, and so what is lost with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spotweld.placement.market import SECOND
from spotweld.placement.simulating import check_starts

if TYPE_CHECKING:
    from collections.abc import Callable

    from spotweld.placement.market import Bools, Floats, Ints, Market
    from spotweld.placement.seeing import Task

FINEST = 2**16
"""Wastes in a table at most. Where the exact unit would need more, a coarser one is used and waste is rounded down at
each start: the result is then a lower bound of the optimum."""


@dataclass(frozen=True)
class Grid:
    """Wastes ``0, unit, 2 unit, ... steps * unit``, in seconds."""

    unit: float
    steps: int
    exact: bool


def grid_of(gap: float, task: Task) -> Grid:
    """The wastes to tell apart."""
    times = [gap, task.changeover, task.cadence]
    unit = math.gcd(*(round(time * SECOND) for time in times)) / SECOND
    slack = task.deadline - task.work
    exact = slack / unit <= FINEST
    if not exact:
        # A whole fraction of a tick, so that idling is exact in any case.
        unit = gap / max(1, math.floor(gap * FINEST / slack))
    return Grid(unit, math.floor(slack / unit), exact)


def optimum(
    market: Market, starts: Ints, task: Task, tell: Callable[[int, int], None] = lambda _done, _all: None
) -> Floats:
    """(J,): the least cost of ``task`` from each of ``starts``; exact if ``grid_of(market.gap, task).exact``.

    The same rules hold as in ``simulate``, but for the guard.

    Args:
        market: what could be had.
        starts: (J,): ticks.
        task: what there is to do.
        tell: called with the jobs that are done and all there are.

    Raises:
        UsageError: a start for which the recording is too short.
    """
    starts = check_starts(market, starts, task)
    costs: dict[int, float] = {}
    for done, start in enumerate(starts.tolist()):
        if start not in costs:
            costs[start] = _Tables(market, start, task).least()
        tell(done + 1, len(starts))
    return np.array([costs[start] for start in starts.tolist()], dtype=np.float64)


class _Tables:
    """One job's values: what the rest of it costs at least, by waste.

    There are H machines: spot in each zone, and the cheapest on-demand of each region. Regions matter only if moving
    between them costs something; there are Q places where a job's state may lie, the last one being nowhere yet.
    """

    def __init__(self, market: Market, start: int, task: Task) -> None:
        self.task, self.gap, self.grid = task, market.gap, grid_of(market.gap, task)
        self.ticks = math.ceil(task.deadline / market.gap)
        span = slice(start, start + self.ticks)
        zones = len(market.zones)
        region = market.region if task.moving else np.zeros(zones, dtype=np.int64)
        kept = np.unique(region)
        firm = np.array([market.on_demand[region == one].min() for one in kept])
        per_tick = task.gang * market.gap / 3600.0
        self.paid: Floats = np.hstack([market.spot[span], np.tile(firm, (self.ticks, 1))]) * per_tick
        """(K, H): what a whole tick costs."""
        up = np.hstack([market.up(task.gang)[span], np.ones((self.ticks, len(kept)), dtype=np.bool_)])
        self.price: Floats = np.where(up, self.paid, np.inf)[:, :, None]
        """(K, H, 1): the same; infinite where there is none."""
        self.places = np.concatenate([np.searchsorted(kept, region), np.arange(len(kept))])
        """(H,): each machine's place."""
        self.nowhere = len(kept) if task.moving else 0
        self.members = [np.flatnonzero(self.places == place).tolist() for place in range(len(kept))]
        """The machines of each place."""
        self.idle_steps = round(self.gap / self.grid.unit)
        self.start_steps = math.floor(task.changeover / self.grid.unit)
        self.start_ticks = math.ceil(task.changeover / self.gap)
        self.losses = _Losses(self, up[:, :zones]) if task.cadence else None

    def least(self) -> float:
        """The cost from the first tick on, with nothing wasted and nothing held."""
        width, machines = self.grid.steps + 1, self.paid.shape[1]
        left = np.arange(width) * np.float64(self.grid.unit) + (self.task.work - self.ticks * self.gap)
        window = self._windows()
        # held[k % (m + 1)] (H, n): while machine h makes progress at tick k. free (Q, n): while nothing is held.
        ahead = self.start_ticks + 1
        held = [np.full((machines, width), np.inf) for _ in range(ahead)]
        held[self.ticks % ahead] = self._refund(self.ticks, left)
        free = np.full((self.nowhere + 1, width), np.inf)
        for tick in range(self.ticks - 1, -1, -1):
            left += np.float64(self.gap)
            done = int(np.searchsorted(left, 0.0, side="right"))
            stay = held[(tick + 1) % ahead] + self.price[tick]
            if self.start_ticks:
                start = _shifted(held[(tick + self.start_ticks) % ahead], self.start_steps)
                start += window[tick]
            else:
                start = stay.copy()
            if self.losses:
                self.losses.jump(tick, start)
            idle = _shifted(free, self.idle_steps)
            free = self._freed(idle, start)
            free[:, :done] = np.inf
            now = np.minimum(stay, self._given_up(tick, idle, start, free))
            if done:
                now[:, :done] = self._refund(tick, left[:done])
            if self.losses:
                self.losses.keep(tick, free)
            held[tick % ahead] = now
        return float(free[self.nowhere, 0])

    def _windows(self) -> Floats:
        """(K, H, 1): what all ticks of a changeover cost that begins at a tick."""
        window = np.zeros_like(self.price)
        for later in range(self.start_ticks):
            window[: self.ticks - later] += self.price[later:]
            window[self.ticks - later :] = np.inf
        return window

    def _refund(self, tick: int, left: Floats) -> Floats:
        """(H, n): less than nothing left: the work ended inside the tick before, which was charged in full."""
        back: Floats = self.paid[tick - 1][:, None] * (left / self.gap)
        return back

    def _freed(self, idle: Floats, start: Floats) -> Floats:
        """(Q, n): the best when nothing is held: idle for a tick, or start something."""
        best = self._best(start)
        if not self.nowhere:
            return np.minimum(idle, best, out=best)
        anywhere: Floats = best.min(axis=0)
        np.minimum(best, anywhere + self.task.moving, out=best)
        best = np.vstack([best, anywhere])
        return np.minimum(idle, best, out=best)

    def _best(self, start: Floats) -> Floats:
        """(R, n): the best start in each place."""
        best = np.full((len(self.members), start.shape[1]), np.inf)
        for place, members in enumerate(self.members):
            for machine in members:
                np.minimum(best[place], start[machine], out=best[place])
        return best

    def _given_up(self, tick: int, idle: Floats, start: Floats, free: Floats) -> Floats:
        """(H, n): the best without the machine that was held."""
        if self.losses is None:
            return np.take(free, self.places, axis=0)
        # With a cadence a machine's age counts, so what was held may not be started anew. And what is lost with a spot
        # gang has been reckoned with at its start: there is no value for being lost here.
        best, out = self._best(start), np.full(start.shape, np.inf)
        for place, members in enumerate(self.members):
            others = [best[other] + self.task.moving for other in range(len(best)) if other != place]
            before = np.minimum.reduce([idle[place], *others])
            for machine in members:
                out[machine] = before
                before = np.minimum(before, start[machine])
            after = np.full(start.shape[1], np.inf)
            for machine in reversed(members):
                np.minimum(out[machine], after, out=out[machine])
                after = np.minimum(after, start[machine])
        out[np.isinf(self.price[tick, :, 0])] = np.inf
        return out


class _Losses:
    """Spot gangs that run until they are lost: from each start, one jump to the tick of the loss."""

    def __init__(self, tables: _Tables, up: Bools) -> None:
        self._tables, self._up = tables, up
        spent: Floats = np.zeros((len(up) + 1, tables.paid.shape[1]))
        np.cumsum(tables.paid, axis=0, out=spent[1:])
        self._spent = spent
        self._next: dict[int, tuple[int, Floats]] = {}

    def jump(self, tick: int, start: Floats) -> None:
        """Lower ``start`` (H, n) to what starting at ``tick`` and being lost costs."""
        tables = self._tables
        task, unit = tables.task, tables.grid.unit
        for zone in np.flatnonzero(self._up[tick]).tolist():
            lost_at, value = self._next.get(zone, (0, start[zone]))
            ran = (lost_at - tick) * tables.gap - task.changeover
            if ran < 0:
                continue
            steps = math.floor((task.changeover + ran % task.cadence) / unit)
            value = _shifted(value, steps) + (self._spent[lost_at, zone] - self._spent[tick, zone])
            np.minimum(start[zone], value, out=start[zone])

    def keep(self, tick: int, free: Floats) -> None:
        """Remember the values at a tick at which zones are down."""
        for zone in np.flatnonzero(~self._up[tick]).tolist():
            self._next[zone] = (tick, free[self._tables.places[zone]])


def _shifted(values: Floats, steps: int) -> Floats:
    """Values by waste, seen from ``steps`` less of it; infinite where the deadline is out of reach."""
    out = np.full(values.shape, np.inf)
    if steps < values.shape[-1]:
        out[..., : values.shape[-1] - steps] = values[..., steps:]
    return out
