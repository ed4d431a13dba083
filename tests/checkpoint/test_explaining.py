from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.checkpoint.plans import PLAN

from spotweld.checkpoint.cadence import Rule
from spotweld.checkpoint.explaining import explain

AT_RISK = "this machine is at risk, reckoned with as if it were taken once in 10m 00s"
CANNOT = "max_lost_work 1.0 s cannot be kept, since a save takes 900 ms"
COST = "a save costs 130 ms of training (stall 110 ms, interference 20 ms) and is durable after 900 ms"
AGE = "machines of this age (12m 00s) are taken once in 3h 12m"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({}, f"saving every 42.0 s: {COST}; {AGE}"),
        (
            {"rule": Rule.MAX_LOST_WORK, "max_lost_work": 300.0},
            f"saving every 42.0 s: {COST}; {AGE}; bound by max_lost_work 5m 00s",
        ),
        (
            {"rule": Rule.MAX_LOST_WORK, "max_lost_work": 1.0, "kept": False, "measured": False},
            f"saving without a pause: {COST.replace('20 ms', '20 ms, not measured yet')}; {AGE}; {CANNOT}",
        ),
        ({"interval": None, "steps": 1, "rule": Rule.ASKED}, f"saving every step: {COST}; {AGE}; as asked"),
        (
            {"interval": 11.0, "steps": 100, "rule": Rule.RISK, "risky": True, "hazard": 6.0},
            f"saving every 100 steps and every 11.0 s: {COST}; {AT_RISK}; more often than asked while the risk is high",
        ),
        (
            {"durable": None, "kept": False, "rule": Rule.MAX_LOST_WORK, "max_lost_work": 1.0},
            f"saving without a pause: {COST.replace('durable after 900 ms', 'not durable yet')}; {AGE}; "
            + CANNOT.partition(",")[0],
        ),
        (
            {"interval": 1.0, "rule": Rule.FIRST, "stall": None, "interference": None, "durable": None},
            f"saving every 1.0 s: what a save costs is not known yet; {AGE}",
        ),
    ],
)
def test_examples(change: dict[str, object], sentence: str) -> None:
    assert explain(replace(PLAN, **change)) == sentence


@given(
    st.sampled_from(Rule), st.booleans(), st.none() | st.integers(1, 9), st.none() | st.floats(0, 1e5), st.booleans()
)
def test_every_plan_can_be_explained(
    rule: Rule, kept: bool, steps: int | None, most: float | None, risky: bool
) -> None:
    text = explain(replace(PLAN, rule=rule, kept=kept, steps=steps, max_lost_work=most, risky=risky))
    assert text.startswith("saving ")
    assert "None" not in text
