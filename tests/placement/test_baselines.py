"""The baselines, in the situations that their rules name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.placement.markets import market_from

from spotweld.placement.policies import policy_of
from spotweld.placement.seeing import NONE, Past, Seen, Task

if TYPE_CHECKING:
    from collections.abc import Sequence

TASK = Task(work=100_000.0, deadline=200_000.0, changeover=1000.0)
"""The line is at half of the time that has passed."""


def seen(*, held: int, work: float, time: float, up: Sequence[bool] = (False, True, True)) -> Seen:
    zones = len(up)
    one = np.zeros(1)
    return Seen(
        up=np.array([up]),
        capacity=np.array([up], dtype=np.int64),
        age=np.zeros((1, zones)),
        spot=np.array([[0.1, 0.5, 0.4][:zones]]),
        on_demand=np.array([[3.0, 2.0, 3.0][:zones]]),
        held=np.array([held]),
        warming=one,
        ran=one,
        home=np.array([NONE]),
        work=np.array([work]),
        time=np.array([time]),
        tick=np.array([0]),
        regions=np.arange(zones),
        task=TASK,
        gap=600.0,
        past=Past(market_from([[1]] * zones)),
    )


NOTHING_UP = (False, False, False)
SPOT_1, SPOT_2, FIRM_0, FIRM_1 = 1, 2, 3, 4


@pytest.mark.parametrize(
    ("name", "situation", "want"),
    [
        ("on-demand", {"held": NONE, "work": 9e4, "time": 1.9e5}, FIRM_1),
        ("on-demand", {"held": FIRM_0, "work": 9e4, "time": 1.9e5}, FIRM_0),
        ("greedy", {"held": NONE, "work": 9e4, "time": 1.9e5}, SPOT_2),
        ("greedy", {"held": SPOT_1, "work": 9e4, "time": 1.9e5}, SPOT_1),
        ("greedy", {"held": NONE, "work": 9e4, "time": 1.9e5, "up": NOTHING_UP}, NONE),
        ("greedy", {"held": NONE, "work": 9e4, "time": 91_999.0}, FIRM_1),
        ("greedy", {"held": NONE, "work": 9e4, "time": 92_000.0}, SPOT_2),
        ("greedy", {"held": SPOT_1, "work": 9e4, "time": 91_000.0}, SPOT_1),
        ("greedy", {"held": FIRM_0, "work": 9e4, "time": 1.9e5}, FIRM_0),
        # 20 000 s have passed: the line is at 10 000 s of progress, and at 11 000 s in two changeovers.
        ("uniform-progress", {"held": NONE, "work": 9e4, "time": 1.8e5, "up": NOTHING_UP}, NONE),
        ("uniform-progress", {"held": NONE, "work": 90_001.0, "time": 1.8e5, "up": NOTHING_UP}, FIRM_1),
        ("uniform-progress", {"held": NONE, "work": 95_000.0, "time": 1.8e5}, SPOT_2),
        ("uniform-progress", {"held": SPOT_1, "work": 95_000.0, "time": 1.8e5}, SPOT_1),
        ("uniform-progress", {"held": FIRM_0, "work": 89_001.0, "time": 1.8e5}, FIRM_0),
        ("uniform-progress", {"held": FIRM_0, "work": 89_000.0, "time": 1.8e5}, SPOT_2),
        ("uniform-progress", {"held": FIRM_0, "work": 50_000.0, "time": 1.8e5, "up": NOTHING_UP}, FIRM_0),
        ("uniform-progress", {"held": NONE, "work": 9e4, "time": 91_999.0}, FIRM_1),
        ("uniform-progress", {"held": SPOT_1, "work": 9e4, "time": 91_000.0}, SPOT_1),
    ],
    ids=str,
)
def test_a_rule(name: str, situation: dict[str, object], want: int) -> None:
    assert policy_of(name).decide(seen(**situation)).tolist() == [want]  # type: ignore[arg-type]


def test_on_demand_counts_what_moving_costs() -> None:
    here = replace(seen(held=NONE, work=3600.0, time=1e5), home=np.array([0]))
    far = replace(here, task=replace(TASK, size=100.0, egress=0.02))
    assert policy_of("on-demand").decide(here).tolist() == [FIRM_1]
    assert policy_of("on-demand").decide(far).tolist() == [FIRM_0]
