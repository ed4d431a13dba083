"""The rules of a market once more, for one job, in fractions and without arrays: slow, and easy to check by eye."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from spotweld.placement.seeing import NONE, Past, Seen

if TYPE_CHECKING:
    from spotweld.placement.market import Market
    from spotweld.placement.seeing import Policy, Task


@dataclass(frozen=True)
class Walk:
    """A job between two ticks."""

    tick: int
    work: Fraction
    held: int = NONE
    warming: Fraction = Fraction(0)
    ran: Fraction = Fraction(0)
    home: int = NONE
    cost: Fraction = Fraction(0)
    took: Fraction | None = None
    passed: Fraction = Fraction(0)
    preemptions: int = 0
    lost: Fraction = Fraction(0)
    spot: Fraction = Fraction(0)
    on_demand: Fraction = Fraction(0)
    starts: int = 0
    moves: int = 0
    egress: Fraction = Fraction(0)
    forced: int = 0


def begin(task: Task, tick: int) -> Walk:
    return Walk(tick, Fraction(task.work))


def is_spot(market: Market, code: int) -> bool:
    return 0 <= code < len(market.zones)


def is_up(market: Market, task: Task, tick: int, zone: int) -> bool:
    return bool(market.capacity[tick, zone] >= task.gang)


def lose(market: Market, task: Task, walk: Walk) -> Walk:
    if not is_spot(market, walk.held) or is_up(market, task, walk.tick, walk.held):
        return walk
    back = walk.ran % Fraction(task.cadence) if task.cadence else Fraction(0)
    gone = replace(walk, held=NONE, warming=Fraction(0), ran=Fraction(0), preemptions=walk.preemptions + 1)
    return replace(gone, work=walk.work + back, lost=walk.lost + back)


def hold(market: Market, task: Task, walk: Walk, want: int) -> Walk:
    if want == walk.held:
        return walk
    if want == NONE:
        return replace(walk, held=NONE, warming=Fraction(0), ran=Fraction(0))
    region = int(market.region[want % len(market.zones)])
    egress = Fraction(task.size) * Fraction(task.egress) if walk.home not in {NONE, region} else Fraction(0)
    return replace(
        walk,
        held=want,
        warming=Fraction(task.changeover),
        ran=Fraction(0),
        home=region,
        cost=walk.cost + egress,
        egress=walk.egress + egress,
        starts=walk.starts + 1,
        moves=walk.moves + (walk.held != NONE),
    )


def run(market: Market, task: Task, walk: Walk) -> Walk:
    gap = Fraction(market.gap)
    if walk.held == NONE:
        return replace(walk, tick=walk.tick + 1, passed=walk.passed + gap)
    zone = walk.held % len(market.zones)
    spot = is_spot(market, walk.held)
    price = Fraction(float(market.spot[walk.tick, zone] if spot else market.on_demand[zone])) * task.gang
    warm = min(walk.warming, gap)
    progress = min(walk.work, gap - warm)
    used = warm + progress
    work = walk.work - progress
    finished = work == 0 and walk.work + walk.warming <= gap
    return replace(
        walk,
        tick=walk.tick + 1,
        passed=walk.passed + gap,
        work=work,
        warming=walk.warming - warm,
        ran=walk.ran + progress,
        cost=walk.cost + price * used / 3600,
        took=walk.passed + used if finished else None,
        spot=walk.spot + (used if spot else 0),
        on_demand=walk.on_demand + (0 if spot else used),
    )


def dearest_promise(market: Market, task: Task, walk: Walk) -> Fraction:
    """Seconds that an on-demand machine started now, or held already, needs."""
    kept = walk.held >= len(market.zones)
    return walk.work + (walk.warming if kept else Fraction(task.changeover))


def guarded(market: Market, task: Task, walk: Walk, want: int) -> int:
    """By trial: do it, lose it, and see whether on-demand could still make it."""
    zones = len(market.zones)
    if want >= zones and want == walk.held:
        return want
    refuge = walk.held if walk.held >= zones else zones + cheapest_refuge(market, task, walk)
    if want >= zones:
        promise = walk.passed + walk.work + Fraction(task.changeover) <= Fraction(task.deadline)
        return want if promise else refuge
    after = run(market, task, hold(market, task, walk, want))
    if after.took is not None:
        return want if after.took <= Fraction(task.deadline) else refuge
    if is_spot(market, after.held):
        back = after.ran % Fraction(task.cadence) if task.cadence else Fraction(0)
        after = replace(after, held=NONE, work=after.work + back)
    return want if after.passed + dearest_promise(market, task, after) <= Fraction(task.deadline) else refuge


def cheapest_refuge(market: Market, task: Task, walk: Walk) -> int:
    def cost(zone: int) -> float:
        hours = float(walk.work + Fraction(task.changeover)) / 3600.0
        away = walk.home not in {NONE, int(market.region[zone])}
        return float(market.on_demand[zone]) * task.gang * hours + away * task.size * task.egress

    return min(range(len(market.zones)), key=cost)


def seen_by(market: Market, task: Task, walk: Walk) -> Seen:
    tick, zones = walk.tick, len(market.zones)
    up = np.array([[is_up(market, task, tick, zone) for zone in range(zones)]])
    age = np.zeros((1, zones))
    for zone in range(zones):
        first = tick
        while first > 0 and is_up(market, task, first - 1, zone) == up[0, zone]:
            first -= 1
        age[0, zone] = (tick - first) * market.gap
    return Seen(
        up=up,
        capacity=market.capacity[tick][None],
        age=age,
        spot=market.spot[tick][None] * task.gang,
        on_demand=market.on_demand[None] * task.gang,
        held=np.array([walk.held]),
        warming=np.array([float(walk.warming)]),
        ran=np.array([float(walk.ran)]),
        home=np.array([walk.home]),
        work=np.array([float(walk.work)]),
        time=np.array([task.deadline - float(walk.passed)]),
        tick=np.array([tick]),
        regions=market.region,
        task=task,
        gap=market.gap,
        past=Past(market),
    )


def walk_through(market: Market, task: Task, start: int, policy: Policy) -> Walk:
    walk = begin(task, start)
    while walk.took is None and walk.passed < task.deadline:
        walk = lose(market, task, walk)
        want = int(policy.decide(seen_by(market, task, walk))[0])
        allowed = guarded(market, task, walk, want)
        walk = run(market, task, hold(market, task, replace(walk, forced=walk.forced + (allowed != want)), allowed))
    return walk


def brute_force(market: Market, task: Task, start: int) -> Fraction | None:
    """The least cost over every sequence of decisions that meets the deadline; None: there is none."""
    zones = len(market.zones)

    @cache
    def rest(walk: Walk) -> Fraction | None:
        walk = lose(market, task, walk)
        if walk.passed + walk.work > task.deadline:
            return None
        choices = [NONE, *range(zones, 2 * zones), *(z for z in range(zones) if is_up(market, task, walk.tick, z))]
        costs = []
        for want in choices:
            after = run(market, task, hold(market, task, walk, want))
            if after.took is not None:
                costs.append(after.cost if after.took <= task.deadline else None)
                continue
            if after.passed >= task.deadline:
                continue
            onward = rest(bare(after))
            costs.append(None if onward is None else after.cost + onward)
        return min((cost for cost in costs if cost is not None), default=None)

    return rest(bare(begin(task, start)))


def bare(walk: Walk) -> Walk:
    """What the rest depends on, so that equal states are reckoned once."""
    zero = Fraction(0)
    sums = {"cost": zero, "lost": zero, "spot": zero, "on_demand": zero, "egress": zero}
    return replace(walk, preemptions=0, starts=0, moves=0, forced=0, **sums)
