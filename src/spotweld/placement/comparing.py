"""What several policies would have paid for the same jobs, beside the least that was possible."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from spotweld.placement.optimum import grid_of, optimum
from spotweld.placement.simulating import Outcomes, joined, simulate, starts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from spotweld.placement.market import Floats, Ints, Market
    from spotweld.placement.seeing import Policy, Task


_FORTNIGHT = 14 * 86_400.0


@dataclass(frozen=True, eq=False)
class Comparison:
    """J jobs, each under every policy."""

    market: Market
    task: Task
    starts: Ints
    """(J,): ticks."""
    least: Floats
    """(J,): the optimum."""
    outcomes: dict[str, Outcomes]
    """By the policies' names."""

    def ratios(self, policy: str) -> Floats:
        """(J,): cost over optimum; 1 where both are nothing."""
        cost = self.outcomes[policy].cost
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio: Floats = np.where(cost == self.least, 1.0, cost / self.least)
        return ratio

    def delays(self, policy: str) -> Floats:
        """(J,): seconds that a job took longer than on one machine that is never lost."""
        delay: Floats = self.outcomes[policy].took - (self.task.work + self.task.changeover)
        return delay


class Summary(msgspec.Struct, frozen=True):
    """One policy over all jobs. What is not named otherwise is the mean of a job."""

    policy: str
    cost: float
    ratio: float
    """Cost over optimum: the mean of the jobs' ratios."""
    ratio_median: float
    ratio_low: float
    """A tenth of the jobs lies below."""
    ratio_high: float
    """A tenth of the jobs lies above."""
    ratio_most: float
    missed: int
    """Jobs that were not done by their deadline."""
    delay: float
    """Seconds longer than on one machine that is never lost."""
    preemptions: float
    lost: float
    """Seconds of progress made again."""
    spot: float
    """Seconds paid."""
    on_demand: float
    """Seconds paid."""
    starts: float
    moves: float
    egress: float
    forced: float
    """Ticks at which the guard overruled the policy."""


def draw_starts(market: Market, task: Task, count: int, seed: int) -> Ints:
    """(J,): ``count`` different ticks to begin at, in order, the same for the same seed; fewer if there are fewer.

    Raises:
        UsageError: the recording is shorter than the deadline.
    """
    possible = len(starts_of(market, task))
    drawn = np.random.default_rng(seed).choice(possible, size=min(count, possible), replace=False)
    return np.sort(drawn)


def compare(
    market: Market,
    task: Task,
    policies: Sequence[Policy],
    starts: Ints,
    tell: Callable[[int, int], None] = lambda _done, _all: None,
) -> Comparison:
    """Simulate every policy from every start, and reckon the optimum.

    Args:
        market: what could be had.
        task: what there is to do.
        policies: with different names.
        starts: (J,): ticks.
        tell: called with how many of all jobs are done; the optimum counts as a policy.

    Raises:
        UsageError: a start for which the recording is too short.
    """
    jobs, whole = len(starts), len(starts) * (len(policies) + 1)
    outcomes = {}
    for place, policy in enumerate(policies):
        done = place * jobs
        parts = []
        for batch in _batches(market, starts):
            told = partial(_part, tell, done, len(batch), whole)
            parts.append(simulate(market, batch, task, policy, told))
            done += len(batch)
        outcomes[policy.name] = joined(parts)
    least = optimum(market, starts, task, lambda done, _all: tell(len(policies) * jobs + done, whole))
    return Comparison(market, task, starts, least, outcomes)


def summaries(comparison: Comparison) -> list[Summary]:
    """One for each policy, in their order."""
    return [_summary(comparison, policy) for policy in comparison.outcomes]


def to_plain(comparison: Comparison) -> dict[str, Any]:
    """All of it, down to each job, as what JSON has."""
    market, grid = comparison.market, grid_of(comparison.market.gap, comparison.task)
    rows = {
        policy: [field.tolist() for field in vars(outcomes).values()]
        for policy, outcomes in comparison.outcomes.items()
    }
    ratios = {policy: comparison.ratios(policy).tolist() for policy in comparison.outcomes}
    names = list(Outcomes.__dataclass_fields__)
    return {
        "market": market_to_plain(market),
        "task": asdict(comparison.task),
        "optimum": {"exact": grid.exact, "cost": float(comparison.least.mean())},
        "policies": [msgspec.to_builtins(summary) for summary in summaries(comparison)],
        "jobs": [
            {
                "tick": tick,
                "begins": None
                if market.start is None
                else (market.start + timedelta(seconds=tick * market.gap)).isoformat(),
                "optimum": least,
                "policies": {
                    policy: {"ratio": ratios[policy][job]}
                    | {name: column[job] for name, column in zip(names, columns, strict=True)}
                    for policy, columns in rows.items()
                },
            }
            for job, (tick, least) in enumerate(zip(comparison.starts.tolist(), comparison.least.tolist(), strict=True))
        ],
    }


def market_to_plain(market: Market) -> dict[str, Any]:
    """What a market is, without its values, as what JSON has."""
    return {
        "zones": list(market.zones),
        "regions": list(market.regions),
        "gap": market.gap,
        "ticks": market.ticks,
        "start": None if market.start is None else market.start.isoformat(),
        "currency": market.currency,
        "notes": list(market.notes),
    }


def _batches(market: Market, starts: Ints) -> list[Ints]:
    """Those that begin within the same fortnight together: a policy need not keep a year in mind at once."""
    fortnight = starts * market.gap // _FORTNIGHT
    return np.split(starts, np.flatnonzero(np.diff(fortnight)) + 1)


def _part(tell: Callable[[int, int], None], before: int, jobs: int, whole: int, done: int, ticks: int) -> None:
    """Ticks of one policy as jobs of all."""
    tell(before + jobs * done // ticks, whole)


def _summary(comparison: Comparison, policy: str) -> Summary:
    outcomes, ratios = comparison.outcomes[policy], comparison.ratios(policy)
    # Sorted, and no interpolation: between a number and an infinite one there is nothing.
    low, middle, high = (float(np.quantile(ratios, share, method="nearest")) for share in (0.1, 0.5, 0.9))
    return Summary(
        policy=policy,
        cost=float(outcomes.cost.mean()),
        ratio=float(ratios.mean()),
        ratio_median=middle,
        ratio_low=low,
        ratio_high=high,
        ratio_most=float(ratios.max()),
        missed=int(outcomes.missed.sum()),
        delay=float(comparison.delays(policy).mean()),
        preemptions=float(outcomes.preemptions.mean()),
        lost=float(outcomes.lost.mean()),
        spot=float(outcomes.spot.mean()),
        on_demand=float(outcomes.on_demand.mean()),
        starts=float(outcomes.starts.mean()),
        moves=float(outcomes.moves.mean()),
        egress=float(outcomes.egress.mean()),
        forced=float(outcomes.forced.mean()),
    )
