"""The placer of runs with a deadline: a policy of the simulator decides, in the live market, and the guard behind it.

The policy is asked about a batch of one job, in the market's own time: where a recorded market is replayed faster than
it was, all durations and no prices are stretched, and the decisions are those of the simulator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spotweld.errors import UsageError
from spotweld.placement.baselines import OnDemand
from spotweld.placement.bounds import share_holds
from spotweld.placement.guarding import guard
from spotweld.placement.memory import recorded
from spotweld.placement.placer import Observation, Placer, Rent, Wait
from spotweld.placement.seeing import NONE, Past, Task
from spotweld.placement.viewing import view
from spotweld.project.nouns import SpotUse
from spotweld.values.durations import format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotweld.placement.memory import Stretch
    from spotweld.placement.seeing import Policy, Seen
    from spotweld.placement.viewing import View
    from spotweld.project.nouns import Job, PlacementRules

TICK = 60.0
"""Seconds of the market's time between two decisions, at least."""
SHORTEST = 0.5
"""Seconds between two decisions, at least."""


class ByDeadline(Placer):
    """Done by the deadline, for as little as the policy manages.

    Args:
        job: its ``work`` and ``deadline`` are there.
        rules: the project file's.
        policy: decides.
        pace: seconds of the market's time that pass in a second: 1, but where a recorded market is replayed.
        before: what earlier runs saw, oldest first.

    Raises:
        UsageError: no machine could meet the deadline, or the job may not use those that are never lost.
    """

    def __init__(
        self, job: Job, rules: PlacementRules, policy: Policy, pace: float = 1.0, before: Sequence[Stretch] = ()
    ) -> None:
        if job.spot_policy is SpotUse.SPOT:
            raise UsageError(
                "a job that may use spot alone cannot have a deadline",
                "spot machines may stay away for any time",
                "use spot_policy: auto",
            )
        self.name, self.every = policy.name, max(TICK / pace, SHORTEST)
        self._work, self._deadline = job.work or 0.0, job.deadline or 0.0
        self._rules, self._policy, self._pace, self._before = rules, policy, pace, tuple(before)
        self._past = Past(recorded((), (), (), (), gap=TICK, pace=1.0))
        # Refuses a deadline that no machine could meet.
        Task(self._work, self._deadline, rules.changeover)

    def decide(self, observation: Observation) -> Rent | Wait:
        seen = self._view(observation)
        if seen is None:
            return Wait(self._rules.back_off, "nothing is offered that this job may use")
        want, why = self._choose(seen, observation)
        if want == NONE:
            return Wait(self._patience(seen.seen), why)
        offer = seen.offers[want]
        if offer is not None:
            return Rent(offer, why)
        why = f"no on-demand machine can be had; {why}"
        spot = NONE if observation.spot_policy is SpotUse.ON_DEMAND else _cheapest_spot(seen.seen)
        # Spot may be lost, but whoever waits makes no progress for certain.
        offer = None if spot == NONE else seen.offers[spot]
        return Wait(self._rules.back_off, why) if offer is None else Rent(offer, f"{_words(spot, seen)}: {why}")

    def reconsider(self, observation: Observation) -> str | None:
        seen = self._view(observation)
        if seen is None:
            return None
        want, why = self._choose(seen, observation)
        keeps = want == seen.seen.held[0] or (want != NONE and seen.offers[want] is None)
        return None if keeps else why

    def _view(self, observation: Observation) -> View | None:
        found = view(
            observation, self._rules, self._work, self._deadline,
            gap=self.every, pace=self._pace, before=self._before, past=self._past,
        )  # fmt: skip
        self._past = self._past if found is None else found.seen.past
        return found

    def _choose(self, at: View, observation: Observation) -> tuple[int, str]:
        """What to hold, in the codes of ``Seen.held``, and why."""
        seen, count = at.seen, len(at.zones)
        firm_only = observation.spot_policy is SpotUse.ON_DEMAND
        wish = int((OnDemand() if firm_only else self._policy).decide(seen)[0])
        who = self.name
        if wish >= count and not firm_only and not share_holds(observation.past, self._rules.min_spot_share):
            wish, who = _cheapest_spot(seen), f"min_spot_share of {self._rules.min_spot_share:.0%}"
        want = int(guard(seen, np.array([wish]))[0])
        if want == wish:
            why = f"{who}: {_words(want, at)}"
        else:
            why = f"the deadline allows nothing but {_words(want, at)} ({who}: {_words(wish, at)})"
        return want, f"{why}; {self._reasons(at)}"

    def _reasons(self, at: View) -> str:
        """What was seen, and what each choice is expected to cost."""
        seen = at.seen
        slack = float(seen.time[0] - seen.work[0]) / self._pace
        parts = [f"slack {format_duration(slack)}" if slack >= 0 else f"late by {format_duration(-slack)}"]
        reckoned = sorted(self._policy.reckoned(seen).items(), key=lambda pair: pair[1])
        if reckoned:
            costs = (f"{cost / self._pace:.3g} with {_words(code, at)}" for code, cost in reckoned[:3])
            parts.append(f"expected to the end: {', '.join(costs)}")
        for word, state in (("spot", True), ("no spot", False)):
            found = [
                f"{zone} for {format_duration(float(age) / self._pace)}"
                for zone, up, age in zip(at.zones, seen.up[0], seen.age[0], strict=True)
                if bool(up) is state
            ]
            if found:
                parts.append(f"{word} in {', '.join(found)}")
        return "; ".join(parts)

    def _patience(self, seen: Seen) -> float:
        """Seconds after which on-demand has to be started, whatever comes."""
        left = float(seen.time[0] - seen.work[0]) - seen.task.changeover
        return max(left / self._pace, self.every)


def _cheapest_spot(seen: Seen) -> int:
    up = np.flatnonzero(seen.up[0])
    return int(up[seen.spot[0][up].argmin()]) if len(up) else NONE


def _words(code: int, at: View) -> str:
    count = len(at.zones)
    if code == NONE:
        return "waiting"
    if code < count:
        return f"spot in {at.zones[code]} at {at.seen.spot[0, code]:.4g}/h"
    return f"on-demand in {at.zones[code - count]} at {at.seen.on_demand[0, code - count]:.4g}/h"
