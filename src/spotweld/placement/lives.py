"""How long spot capacity lasts and stays away, by its age: learned from a market's past, on top of a general prior.

Lives of spot capacity are heavy-tailed: what has lasted is likely to last. A rate of loss that falls as the age rises,
``shape / (age + scale)``, is that of a Lomax (Pareto II) life. The prior is such a curve, fitted by maximum likelihood
to twelve days of nine zones of AWS in 2023 (446 lives that ended). What a market has shown itself soon outweighs it,
and what a zone has shown outweighs the market: a prior counts as much as a few ends that were seen at that age (the
mean of a gamma prior and a Poisson count).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spotweld.placement.market import ages

if TYPE_CHECKING:
    from spotweld.placement.market import Bools, Floats, Ints

HOUR = 3600.0
FINE = 8
"""Ages are told apart by the step up to this many steps: there the chances change most."""
GROWTH = 1.35
"""Older ages are told apart at ages that grow by this factor."""
OLDEST = 36 * HOUR
UP_PRIOR = (1.0, 0.67 * HOUR)
"""Shape, and scale in seconds, of the lives of capacity."""
DOWN_PRIOR = (1.15, 1.1 * HOUR)
"""The same of the times without."""
PRIOR_ENDS = 2.0
"""Ends that the prior counts as against the market's past, at each age."""
MARKET_ENDS = 1.0
"""Ends that the market counts as against a zone's own past, at each age."""


@dataclass(frozen=True, eq=False)
class Lives:
    """The chance that a state ends within a step, by its age. B ages, Z zones."""

    edges: Floats
    """(B,): seconds at which each age begins, from 0 on."""
    up: Floats
    """(Z, B): that spot capacity goes."""
    down: Floats
    """(Z, B): that it comes."""
    older: Floats
    """(B,): the chance that a state of this age is of the next age a step later."""

    def age(self, seconds: Floats) -> Ints:
        """Which age that is."""
        found: Ints = np.searchsorted(self.edges, seconds, side="right") - 1
        return found


def learn(up: Bools, gap: float, step: float) -> Lives:
    """What a past says of lives.

    Args:
        up: (T, Z): whether there was capacity; T may be 0, then only the prior speaks.
        gap: seconds between two of these.
        step: seconds for which chances are wanted.
    """
    edges = _edges(step)
    chances = []
    for state, (shape, scale) in ((True, UP_PRIOR), (False, DOWN_PRIOR)):
        general = -np.expm1(-shape / (edges + scale) * gap)
        a_tick = _chances(*_counts(up, gap, edges, state=state), general)
        chances.append(1.0 - (1.0 - a_tick) ** (step / gap))
    return Lives(edges, chances[0], chances[1], step / np.append(np.diff(edges), np.inf))


def _edges(step: float) -> Floats:
    edges = [step * number for number in range(FINE)]
    while edges[-1] < OLDEST:
        edges.append(step * max(round(edges[-1] / step) + 1, round(edges[-1] * GROWTH / step)))
    return np.array(edges)


def _counts(up: Bools, gap: float, edges: Floats, *, state: bool) -> tuple[Floats, Floats]:
    """(Z, B) each: ticks spent in the state at each age, and the ends that were seen."""
    zones, count = up.shape[1], len(edges)
    if not len(up):
        return np.zeros((zones, count)), np.zeros((zones, count))
    cell = np.searchsorted(edges, ages(up, gap)[:-1], side="right") - 1 + np.arange(zones) * count
    here, turned = up[:-1] == state, up[1:] != up[:-1]
    ticks, ended = (
        np.bincount(cell[which], minlength=zones * count).reshape(zones, count).astype(np.float64)
        for which in (here, here & turned)
    )
    return ticks, ended


def _chances(ticks: Floats, ended: Floats, general: Floats) -> Floats:
    """(Z, B): that the state ends within a tick."""
    market = (PRIOR_ENDS + ended.sum(axis=0)) / (PRIOR_ENDS / general + ticks.sum(axis=0))
    chances: Floats = (MARKET_ENDS + ended) / (MARKET_ENDS / market + ticks)
    return chances
