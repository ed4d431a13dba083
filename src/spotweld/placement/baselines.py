"""What others do: on-demand throughout, spot while it lasts, and Uniform Progress ("Can't Be Late", NSDI'24).

Over several zones each takes the cheapest one that is up and stays until it is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spotweld.placement.guarding import refuge
from spotweld.placement.seeing import NONE, Policy

if TYPE_CHECKING:
    from spotweld.placement.market import Bools, Ints
    from spotweld.placement.seeing import Seen


class OnDemand(Policy):
    """One on-demand machine from beginning to end."""

    name = "on-demand"

    def decide(self, seen: Seen) -> Ints:
        return refuge(seen)


class Greedy(Policy):
    """Spot when it can be had, else wait; once the time is short, on-demand to the end."""

    name = "greedy"

    def decide(self, seen: Seen) -> Ints:
        want = np.where(_on_spot(seen), seen.held, cheapest_up(seen))
        return np.where(~_on_spot(seen) & (short(seen) | _on_demand(seen)), refuge(seen), want)


class UniformProgress(Policy):
    """Progress is kept on the straight line from the start to the deadline: behind it, on-demand helps out.

    The rule ``rc_cr_threshold``: stay on spot while it is up; from nothing to spot whenever it is up; on-demand when
    behind the line; from on-demand only to spot, and only when ahead of where the line will be in two changeovers.
    """

    name = "uniform-progress"

    def decide(self, seen: Seen) -> Ints:
        task = seen.task
        progress, passed = task.work - seen.work, task.deadline - seen.time
        rate = task.work / task.deadline
        behind = progress < passed * rate
        ahead = progress >= (passed + 2 * task.changeover) * rate
        up = cheapest_up(seen)
        want = np.where((up == NONE) & behind, refuge(seen), up)
        want = np.where(_on_demand(seen) & ((up == NONE) | ~ahead), seen.held, want)
        want = np.where(short(seen), refuge(seen), want)
        return np.where(_on_spot(seen), seen.held, want)


def cheapest_up(seen: Seen) -> Ints:
    """(J,): spot in the cheapest zone that is up, NONE if none is."""
    price = np.where(seen.up, seen.spot, np.inf)
    return np.where(seen.up.any(axis=1), price.argmin(axis=1), NONE)


def short(seen: Seen) -> Bools:
    """(J,): whether a start on spot now that is lost at once would leave too little time."""
    late: Bools = seen.time < seen.work + 2 * seen.task.changeover
    return late


def _on_spot(seen: Seen) -> Bools:
    spot: Bools = (seen.held != NONE) & (seen.held < seen.up.shape[1])
    return spot


def _on_demand(seen: Seen) -> Bools:
    firm: Bools = seen.held >= seen.up.shape[1]
    return firm
