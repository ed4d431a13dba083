"""What it will cost from here on, in expectation: finite-horizon dynamic programming over a model of the market.

A job's situation is how many steps are left, how many of these are slack (steps left minus work left), and what is
held. Working leaves the slack as it is, waiting a step costs one, a start costs the changeover. The model of the market
is semi-Markov: each zone's capacity comes and goes with chances that depend on its age (``lives``). A plan follows one
zone: it holds spot there, or waits for it, or bridges the time on demand. When a spot gang is lost, the plan is made
anew among all zones, in situations of the past. While no zone is up at all, the first to come is waited for.

With one zone the model is exact. With several it leaves out that the others change while one is followed; the policy
looks at all of them whenever it decides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from spotweld.placement.lives import HOUR, Lives, learn
from spotweld.placement.market import ages

if TYPE_CHECKING:
    from typing import TypeAlias

    from spotweld.placement.market import Bools, Floats, Ints
    from spotweld.placement.seeing import Task

    Costs: TypeAlias = npt.NDArray[np.float32]

STEP = 600.0
"""Seconds of a step, about, where there are several zones; with one zone it is a tick."""
STEPS = {True: 1500, False: 500}
"""At most so many until the deadline, with one zone and with several: beyond that, steps are longer."""
KEPT = 1200.0
"""Seconds between two moments that are kept, at least; between them values are interpolated."""
MOMENTS = 200
"""About as many are kept at most."""
SITUATIONS = 24
"""Moments of the past that stand for all."""
SHORTFALL = 30.0
"""What a step of slack that is missing costs, in steps of on-demand: so much that no plan makes use of it."""


class Plans(NamedTuple):
    """Expected costs to the end, by what is held. S steps of slack from 0 on, B ages, Z zones.

    A zone's *state* is its age if it is up, and B plus its age if it is down. Outlooks put an axis of moments in front.
    """

    spot: Costs
    """(Z, B, S): a warm spot gang, in a zone of this age."""
    none: Costs
    """(Z, 2B, S): nothing; the zone that is planned for is in this state."""
    firm: Costs
    """(Z, 2B, S): a warm on-demand gang, likewise."""
    none_down: Costs
    """(B, S): nothing, and no zone has been up for so long."""
    firm_down: Costs
    """(B, S): a warm on-demand gang, likewise."""


@dataclass(frozen=True, eq=False)
class Outlook:
    """What is expected, at any moment of a task."""

    step: float
    """Seconds."""
    stride: int
    """Steps between two of the N moments kept, which are counted from the deadline back."""
    lives: Lives
    all_zones: Lives
    """Of all zones as one, which is up while any is."""
    plans: Plans
    """At each moment: (N, ...)."""
    short: float
    """What a step of slack below 0 costs."""

    def at(self, plan: Costs, left: Floats, slack: Floats, where: tuple[Ints, ...]) -> Floats:
        """Costs with ``left`` steps left and ``slack`` of them to spare, interpolated.

        Args:
            plan: one of ``plans``.
            left: of any shape.
            slack: of the same shape.
            where: the indices between moment and slack; their shapes fit that one.
        """
        moment = np.clip(left / self.stride, 0, len(plan) - 1)
        early = np.minimum(moment.astype(np.int64), len(plan) - 2)
        place = np.clip(slack, 0, plan.shape[-1] - 1)
        low = np.minimum(place.astype(np.int64), plan.shape[-1] - 2)
        by_moment, by_slack = moment - early, place - low
        first, second = (
            plan[(moment_, *where, low)] * (1 - by_slack) + plan[(moment_, *where, low + 1)] * by_slack
            for moment_ in (early, early + 1)
        )
        costs: Floats = first * (1 - by_moment) + second * by_moment + np.maximum(-slack, 0.0) * self.short
        return costs


def look_ahead(up: Bools, gap: float, spot: Floats, on_demand: float, task: Task) -> Outlook:
    """The outlook at a moment.

    Args:
        up: (T, Z): the past, whether the whole gang could be had; T may be 0.
        gap: seconds of a tick.
        spot: (Z,): prices per hour of the gang at the moment.
        on_demand: the same of the cheapest on-demand gang.
        task: what there is to do, from its beginning.
    """
    alone = up.shape[1] == 1
    step = gap * max(1 if alone else round(STEP / gap), 1, math.ceil(task.deadline / gap / STEPS[alone]))
    lives, all_zones = learn(up, gap, step), learn(_some(up), gap, step)
    model = _Model(up, gap, step, lives, all_zones, spot, on_demand, task)
    stride = max(1, round(KEPT / step), math.ceil(task.deadline / step / MOMENTS))
    plans = model.end()
    kept = [plans]
    for left in range(1, math.ceil(task.deadline / step) + 1 + stride):
        plans = model.before(left, plans)
        if left % stride == 0:
            kept.append(plans)
    stacked = Plans(*(np.stack(each) for each in zip(*kept, strict=True)))
    return Outlook(step, stride, lives, all_zones, stacked, model.short)


class _Model:
    """The market as it is expected to be, and one step back in time."""

    def __init__(
        self, up: Bools, gap: float, step: float, lives: Lives, all_zones: Lives, spot: Floats, firm: float, task: Task
    ) -> None:
        self._zones, self._ages = lives.up.shape
        self._slack = np.arange(math.ceil((task.deadline - task.work) / step) + 2, dtype=np.float32)
        self._spot = (spot * step / HOUR).astype(np.float32)[:, None, None]
        self._firm = np.float32(firm * step / HOUR)
        self.short = float(SHORTFALL * self._firm)
        self._changeover, self._rollback = task.changeover / step, task.cadence / 2 / step
        # The guard never lets a job hold spot with less slack than a start on demand takes.
        self._unsafe = (np.maximum(self._changeover - self._slack, 0.0) * self.short).astype(np.float32)
        self._lost = lives.up.astype(np.float32)[:, :, None]
        self._turn = np.concatenate([lives.up, lives.down], axis=1).astype(np.float32)[:, :, None]
        self._return = all_zones.down[0].astype(np.float32)[:, None]
        self._older: Costs = lives.older.astype(np.float32)[:, None]
        self._after_loss, self._down = _situations(up, gap, lives, all_zones)
        self._after_return = _returns(up, gap, lives)

    def end(self) -> Plans:
        """No time is left, and all work is done but for an instant of it: who holds nothing has to start once more."""
        shapes = [(self._zones, self._ages), (self._zones, 2 * self._ages), (self._ages,)]
        one, two, down = (np.zeros((*shape, len(self._slack)), dtype=np.float32) for shape in shapes)
        start = self._firm * np.float32(self._changeover)
        return Plans(one, two + start, two, down + start, down)

    def before(self, left: int, plans: Plans) -> Plans:
        """What is expected with ``left`` steps left, from what is with one less."""
        working: Costs = np.clip(left - self._slack, 0.0, 1.0)
        lost = self._less(self._lost_now(plans), self._rollback)
        spot = self._spot * working + self._aged(plans.spot)
        spot = spot + self._lost * (self._spot * working + lost - spot) + self._unsafe
        firm = self._firm * working + self._turned(plans.firm)
        none = np.minimum(self._less(self._turned(plans.none), 1.0), self._less(firm, self._changeover))
        none[:, : self._ages] = np.minimum(none[:, : self._ages], self._less(spot, self._changeover))
        firm = np.minimum(firm, none)
        firm_down = self._firm * working + self._returned(plans.firm_down, plans.firm)
        none_down = self._less(self._returned(plans.none_down, plans.none), 1.0)
        none_down = np.minimum(none_down, self._less(firm_down, self._changeover))
        firm_down = np.minimum(firm_down, none_down)
        spot = np.minimum(spot, none[:, : self._ages])
        # A gang may also be given up for what the others are expected to offer.
        spot = np.minimum(spot, self._lost_now(Plans(spot, none, firm, none_down, firm_down)))
        done = self._slack >= left
        for each in (spot, firm, firm_down):
            each[..., done] = 0.0
        return Plans(spot, none, firm, none_down, firm_down)

    def _lost_now(self, plans: Plans) -> Costs:
        """(S,): a gang has just been lost: the best plan in each situation, and their mean."""
        best = self._best(plans.none, self._after_loss)
        down = self._down >= 0
        best[down] = np.minimum(best[down], plans.none_down[self._down[down]])
        mean: Costs = best.mean(axis=0)
        return mean

    def _best(self, costs: Costs, states: Ints) -> Costs:
        """(K, S): the plan that costs least in each of the situations ``states`` (K, Z)."""
        best: Costs = costs[np.arange(self._zones), states].min(axis=1)
        return best

    def _returned(self, down: Costs, costs: Costs) -> Costs:
        """A step later, all zones may still be down, or the first is up."""
        aged = self._aged(down)
        returned: Costs = aged + self._return * (self._best(costs, self._after_return).mean(axis=0) - aged)
        return returned

    def _aged(self, costs: Costs) -> Costs:
        """A step later, every age may have become the next."""
        older = np.concatenate([costs[..., 1:, :], costs[..., -1:, :]], axis=-2)
        aged: Costs = np.add(costs, self._older * (older - costs), dtype=np.float32)
        return aged

    def _turned(self, costs: Costs) -> Costs:
        """A step later, the zone may have gone or come."""
        up, down = costs[:, : self._ages], costs[:, self._ages :]
        stays = np.concatenate([self._aged(up), self._aged(down)], axis=1)
        turns = np.concatenate([np.broadcast_to(down[:, :1], up.shape), np.broadcast_to(up[:, :1], up.shape)], axis=1)
        turned: Costs = stays + self._turn * (turns - stays)
        return turned

    def _less(self, costs: Costs, steps: float) -> Costs:
        """What it costs with so much less slack."""
        wide = costs.shape[-1]
        whole = min(int(steps), wide - 1)
        part = np.float32(min(steps - whole, 1.0))
        low = min(whole + 1, wide)
        less = np.empty_like(costs)
        less[..., :low] = costs[..., :1] + np.maximum(steps - self._slack[:low], 0.0) * np.float32(self.short)
        nearer, farther = costs[..., 1 : wide - whole], costs[..., : wide - whole - 1]
        less[..., low:] = nearer + part * (farther - nearer)
        return less


def _situations(up: Bools, gap: float, lives: Lives, all_zones: Lives) -> tuple[Ints, Ints]:
    """Situations in which a job that has lost its gang may find itself.

    Returns:
        (K, Z) the zones' states, and (K,) the age for which all are down, or -1: they are not. A single zone has just
        gone; of several, moments of the past show how they are, and before there is one all have been up for a while.
    """
    count, zones = len(lives.edges), up.shape[1]
    if zones == 1:
        return np.array([[count]]), np.array([0])
    if not len(up):
        return np.full((1, zones), lives.age(np.array([2 * HOUR]))[0]), np.array([-1])
    chosen = _spread(np.arange(len(up)))
    states = lives.age(ages(up, gap)[chosen]) + np.where(up[chosen], 0, count)
    some = _some(up)
    return states, np.where(some[chosen, 0], -1, all_zones.age(ages(some, gap)[chosen, 0]))


def _returns(up: Bools, gap: float, lives: Lives) -> Ints:
    """(K, Z): the zones' states when, after none was up, the first came back; made up: those in which one alone did."""
    count, zones = len(lives.edges), up.shape[1]
    made_up = np.full((zones, zones), count)
    np.fill_diagonal(made_up, 0)
    some = _some(up)
    back = _spread(np.flatnonzero(~some[:-1] & some[1:]) + 1)
    return np.concatenate([made_up, lives.age(ages(up, gap)[back]) + np.where(up[back], 0, count)])


def _some(up: Bools) -> Bools:
    """(T, 1): whether any zone is up."""
    return np.logical_or.reduce(up, axis=1, keepdims=True)


def _spread(ticks: Ints) -> Ints:
    """At most SITUATIONS of them, evenly."""
    places = np.linspace(0, len(ticks) - 1, min(SITUATIONS, len(ticks)))
    return ticks[places.astype(np.int64)]
