"""Random markets, jobs and policies for the laws."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st

from spotweld.placement.market import Market
from spotweld.placement.seeing import NONE, Policy, Task

if TYPE_CHECKING:
    from spotweld.placement.market import Ints
    from spotweld.placement.seeing import Seen


def market_from(
    capacity: list[list[int]],
    spot: list[list[float]] | float = 1.0,
    on_demand: float | list[float] = 3.0,
    gap: float = 600.0,
    regions: tuple[str, ...] | None = None,
) -> Market:
    """A market by the zone: each list is one zone over time."""
    levels = np.array(capacity, dtype=np.int64).T
    zones = tuple("abcdefgh"[: levels.shape[1]])
    prices = np.full(levels.shape, spot) if isinstance(spot, float) else np.array(spot, dtype=np.float64).T
    firm = np.broadcast_to(np.array(on_demand, dtype=np.float64), (len(zones),)).copy()
    return Market(zones, regions or ("here",) * len(zones), gap, levels, prices, firm)


@st.composite
def problems(draw: st.DrawFn, *, zones: int = 3, ticks: int = 14) -> tuple[Market, Task]:
    """A market and a job that fits into it."""
    count = draw(st.integers(1, zones))
    gap = draw(st.sampled_from([60.0, 195.0, 600.0, 0.5]))
    # Runs of up and down rather than noise: noise has no lives worth a changeover.
    capacity = [[level for level, length in draw(lives(ticks)) for _ in range(length)][:ticks] for _ in range(count)]
    price = st.integers(0, 8).map(lambda eighths: eighths / 8)
    spot = [draw(st.lists(price, min_size=ticks, max_size=ticks)) for _ in range(count)]
    regions = tuple(draw(st.sampled_from(["west", "east"])) for _ in range(count))
    firm = [draw(st.integers(1, 24)) / 8 for _ in range(count)]
    market = market_from(capacity, spot, firm, gap, regions)
    changeover = gap * draw(st.sampled_from([0, 0.25, 0.5, 1, 1.25, 2]))
    work = gap * draw(st.sampled_from([0.5, 1, 1.75, 2.5, 4, 6.25]))
    slack = gap * draw(st.sampled_from([0, 0.5, 1, 2, 2.75, 4, 5.5]))
    deadline = min(work + changeover + slack, gap * ticks)
    task = Task(
        work=min(work, deadline - changeover),
        deadline=deadline,
        changeover=changeover,
        gang=draw(st.integers(1, 2)),
        cadence=gap * draw(st.sampled_from([0, 0, 0.5, 0.75, 1.5, 3, 100])),
        size=draw(st.sampled_from([0.0, 10.0])),
        egress=gap / 3600 / 64 * draw(st.sampled_from([1, 4, 64])),
    )
    return market, task


def lives(ticks: int) -> st.SearchStrategy[list[tuple[int, int]]]:
    life = st.tuples(st.integers(0, 2), st.integers(1, 6))
    return st.lists(life, min_size=ticks, max_size=ticks)


class Whim(Policy):
    """Wants anything that exists, by a seed, the tick and the time left; the same each time it is asked."""

    name = "whim"

    def __init__(self, seed: int, faithful: float) -> None:
        self.seed, self.faithful = seed, faithful

    def decide(self, seen: Seen) -> Ints:
        zones = seen.up.shape[1]
        wants = []
        for row in range(len(seen.tick)):
            rng = np.random.default_rng([self.seed, int(seen.tick[row]), math.floor(seen.time[row] * 1024)])
            choices = [NONE, *range(zones, 2 * zones), *np.flatnonzero(seen.up[row]).tolist()]
            held = int(seen.held[row])
            wants.append(held if rng.random() < self.faithful else choices[rng.integers(len(choices))])
        return np.array(wants, dtype=np.int64)


def whims() -> st.SearchStrategy[Whim]:
    return st.builds(Whim, st.integers(0, 99), st.sampled_from([0.0, 0.5, 0.9]))
