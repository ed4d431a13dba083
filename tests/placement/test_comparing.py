"""Comparisons: jobs go in batches, and nobody notices."""

from __future__ import annotations

import numpy as np
from tests.placement.markets import market_from

from spotweld.placement.baselines import UniformProgress
from spotweld.placement.comparing import compare, summaries
from spotweld.placement.ours import Ours
from spotweld.placement.seeing import Task
from spotweld.placement.simulating import simulate


def test_jobs_of_two_months_are_as_if_each_had_been_alone() -> None:
    up = [int(tick % 11 < 7) for tick in range(1500)]
    market = market_from([up], 0.9, 3.0, 3600.0)
    task = Task(work=20 * 3600.0, deadline=40 * 3600.0, changeover=600.0)
    starts, told = np.array([0, 5, 335, 336, 700, 1400]), list[int]()
    found = compare(market, task, [UniformProgress(), Ours()], starts, lambda done, _all: told.append(done))
    for name, kind in (("uniform-progress", UniformProgress), ("ours", Ours)):
        alone = [simulate(market, starts[place : place + 1], task, kind()).cost[0] for place in range(len(starts))]
        np.testing.assert_array_equal(found.outcomes[name].cost, alone)
    assert told == sorted(told)
    assert told[-1] == 3 * len(starts)
    assert [summary.policy for summary in summaries(found)] == ["uniform-progress", "ours"]
