from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from spotweld.checkpoint.cadence import Cost
from spotweld.checkpoint.emergency import MARGIN, Act, Situation, decide, predicted, running_for, typical

situations = st.builds(
    Situation,
    remaining=st.none() | st.floats(0, 300),
    costs=st.lists(st.builds(Cost, st.floats(0, 1), st.floats(0.001, 100)), max_size=5).map(tuple),
    pace=st.floats(0, 30),
    running=st.none() | st.floats(0, 100),
    durable=st.booleans(),
    answered=st.booleans(),
)
CALM = Situation(remaining=120.0, costs=(Cost(0.1, 2.0),), pace=1.0, running=None, durable=False, answered=False)


@given(situations)
def test_training_goes_on_only_while_a_last_save_would_still_fit_after_the_step(now: Situation) -> None:
    if decide(now) in {Act.GO_ON, Act.SAVE}:
        assert now.remaining is not None
        assert now.pace + running_for(now) + predicted(now) + MARGIN < now.remaining


@given(situations)
def test_nobody_leaves_with_unsaved_work_that_could_be_saved(now: Situation) -> None:
    if decide(now) is Act.LEAVE and not now.durable:
        assert now.costs
        assert typical(now) + running_for(now) > (now.remaining or 0.0)


@given(situations)
def test_what_is_durable_is_not_saved_again(now: Situation) -> None:
    assert decide(replace(now, durable=True)) in {Act.GO_ON, Act.LEAVE}


@given(situations)
def test_an_unknown_deadline_is_now(now: Situation) -> None:
    assert decide(replace(now, remaining=None, durable=False)) is Act.LAST
    assert decide(replace(now, remaining=None, durable=True)) is Act.LEAVE


@given(situations, st.floats(0, 100))
def test_less_time_never_makes_it_calmer(now: Situation, less: float) -> None:
    urgency = [Act.GO_ON, Act.SAVE, Act.LAST, Act.LEAVE]
    if now.remaining is not None:
        sooner = replace(now, remaining=max(0.0, now.remaining - less))
        calm = {Act.GO_ON, Act.SAVE}
        assert decide(now) in calm or decide(sooner) not in calm
        assert urgency.index(decide(sooner)) >= 2 or decide(sooner) == decide(now)


@pytest.mark.parametrize(
    ("change", "act"),
    [
        ({}, Act.SAVE),
        ({"answered": True}, Act.GO_ON),
        ({"running": 0.5}, Act.GO_ON),
        ({"remaining": 4.6}, Act.SAVE),
        ({"remaining": 4.5}, Act.LAST),
        ({"remaining": 4.5, "durable": True}, Act.LEAVE),
        ({"remaining": 2.0}, Act.LAST),
        ({"remaining": 1.9}, Act.LEAVE),
        ({"remaining": 3.0, "running": 0.5}, Act.LEAVE),
        ({"remaining": 3.0, "running": 1.5}, Act.LAST),
        ({"remaining": 0.0}, Act.LEAVE),
        ({"costs": ()}, Act.SAVE),
        ({"costs": (), "answered": True, "running": 99.0}, Act.GO_ON),
        ({"costs": (), "remaining": 2.0}, Act.LAST),
        ({"costs": (), "remaining": 0.0}, Act.LAST),
    ],
)
def test_examples(change: dict[str, object], act: Act) -> None:
    assert decide(replace(CALM, **change)) is act
