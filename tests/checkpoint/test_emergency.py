from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from spotweld.checkpoint.cadence import Cost
from spotweld.checkpoint.emergency import (
    GRACE,
    MARGIN,
    OVERDUE,
    SAFETY,
    Act,
    Decision,
    Option,
    Situation,
    choose,
    decide,
    needed,
    predict,
    still_needs,
    ways,
)

costs = st.lists(
    st.builds(Cost, st.floats(0, 1), st.floats(1, 100), st.integers(0, 10**9), st.booleans()), max_size=5
).map(tuple)
options = st.lists(st.floats(0.001, 100), min_size=1, max_size=3).flatmap(
    lambda seconds: st.floats(1, 3).map(
        lambda spread: tuple(
            Option(str(at), likely, likely * spread) for at, likely in enumerate(sorted(seconds, reverse=True))
        )
    )
)
situations = st.builds(
    Situation,
    remaining=st.none() | st.floats(0, 300),
    options=options | st.just((Option("full", None),)),
    pace=st.floats(0, 30),
    running=st.none() | st.floats(0, 100),
    durable=st.booleans(),
    answered=st.booleans(),
)
FULL, DELTA = Option("full", 2.0), Option("delta", 0.5)
CALM = Situation(remaining=120.0, options=(FULL,), pace=1.0, running=None, durable=False, answered=False)
TWO = replace(CALM, options=(FULL, DELTA))


@given(situations)
def test_training_goes_on_only_while_a_last_save_would_still_fit_after_the_step(now: Situation) -> None:
    decision = decide(now)
    if decision.act in {Act.GO_ON, Act.SAVE}:
        assert now.remaining is not None
        assert now.pace + needed(now, decision.option or now.options[0]) < now.remaining


@given(situations)
def test_nothing_is_begun_that_is_not_expected_to_end_in_time(now: Situation) -> None:
    decision = decide(now)
    if now.remaining is not None and decision.option is not None and decision.option.likely is not None:
        assert (now.running or 0.0) + decision.option.likely <= now.remaining


@given(situations)
def test_nobody_leaves_with_unsaved_work_that_could_be_saved(now: Situation) -> None:
    if decide(now).act is Act.LEAVE and not now.durable:
        for option in now.options:
            assert option.likely is not None
            assert option.likely + (now.running or 0.0) > (now.remaining or 0.0)


@given(situations)
def test_what_is_durable_is_not_saved_again(now: Situation) -> None:
    assert decide(replace(now, durable=True)).act in {Act.GO_ON, Act.LEAVE}


@given(situations)
def test_an_unknown_deadline_is_now(now: Situation) -> None:
    decision = decide(replace(now, remaining=None, durable=False))
    assert decision.act is Act.LAST
    assert decision.option == (choose(replace(now, remaining=GRACE)) or now.options[-1])
    assert decide(replace(now, remaining=None, durable=True)) == Decision(Act.LEAVE)


@given(situations, st.floats(0, 100))
def test_less_time_never_makes_it_calmer(now: Situation, less: float) -> None:
    now = replace(now, options=now.options[:1])
    urgency = [Act.GO_ON, Act.SAVE, Act.LAST, Act.LEAVE]
    if now.remaining is not None:
        before, sooner = decide(now).act, decide(replace(now, remaining=max(0.0, now.remaining - less))).act
        calm = {Act.GO_ON, Act.SAVE}
        assert before in calm or sooner not in calm
        assert urgency.index(sooner) >= 2 or sooner == before


@given(situations, st.floats(0, 100))
def test_less_time_never_asks_for_more(now: Situation, less: float) -> None:
    if now.remaining is not None and now.options[0].likely is not None:
        one, other = choose(now), choose(replace(now, remaining=max(0.0, now.remaining - less)))
        order = [*now.options, None]
        assert order.index(other) >= order.index(one)


@pytest.mark.parametrize(
    ("change", "act"),
    [
        ({}, Act.SAVE),
        ({"answered": True}, Act.GO_ON),
        ({"running": 1.5}, Act.GO_ON),
        ({"remaining": 4.6}, Act.SAVE),
        ({"remaining": 4.5}, Act.LAST),
        ({"remaining": 4.5, "durable": True}, Act.LEAVE),
        ({"remaining": 2.0}, Act.LAST),
        ({"remaining": 1.9}, Act.LEAVE),
        ({"remaining": 3.0, "running": 1.5}, Act.LEAVE),
        ({"remaining": 3.0, "running": 0.5}, Act.LAST),
        ({"remaining": 0.0}, Act.LEAVE),
        ({"options": (Option("full", None),)}, Act.SAVE),
        ({"options": (Option("full", None),), "answered": True, "running": 0.0}, Act.GO_ON),
        ({"options": (Option("full", None),), "remaining": 2.0}, Act.LAST),
        ({"options": (Option("full", None),), "remaining": 0.0}, Act.LAST),
    ],
)
def test_examples(change: dict[str, object], act: Act) -> None:
    assert decide(replace(CALM, **change)).act is act


@pytest.mark.parametrize(
    ("remaining", "decision"),
    [
        (120.0, Decision(Act.SAVE, FULL)),
        (4.5, Decision(Act.LAST, FULL)),
        (3.5, Decision(Act.LAST, FULL)),  # 1.5 * 2 s and half a second
        (3.4, Decision(Act.SAVE, DELTA)),  # a full one might not end in time, and there is time for another step
        (2.2, Decision(Act.LAST, DELTA)),
        (0.5, Decision(Act.LAST, DELTA)),
        (0.4, Decision(Act.LEAVE)),
    ],
)
def test_all_then_what_changed_then_nothing(remaining: float, decision: Decision) -> None:
    assert decide(replace(TWO, remaining=remaining)) == decision


def test_a_prediction_is_the_usual_and_the_worst_of_the_latest_saves() -> None:
    assert predict("full", ()) == Option("full", None)
    latest = (Cost(0.1, 2.0), Cost(0.1, 4.0), Cost(0.1, 3.0))
    assert predict("full", latest) == Option("full", 3.0, 4.0)
    assert predict("full", latest, 10**9) == Option("full", 3.0, 4.0)  # nobody counted the bytes of those
    assert predict("full", latest).allowed == SAFETY * 4.0 + MARGIN
    assert Option("full", 2.0).allowed == SAFETY * 2.0 + MARGIN


def test_bytes_are_predicted_from_the_measured_throughput() -> None:
    latest = (Cost(1.0, 11.0, 1000), Cost(1.0, 6.0, 500))
    assert predict("delta", latest, 100) == Option("delta", 2.0, 2.0)
    assert predict("full", latest, 1000) == Option("full", 11.0, 11.0)
    assert predict("full", latest) == Option("full", 6.0, 6.0)  # as many bytes as the latest one


@given(costs.filter(bool), st.integers(1, 10**9), st.floats(0, 1))
def test_fewer_bytes_never_take_longer(costs: tuple[Cost, ...], size: int, share: float) -> None:
    more, fewer = predict("x", costs, size), predict("x", costs, max(1, int(size * share)))
    assert fewer.likely is not None
    assert more.likely is not None
    assert fewer.likely <= more.likely


@given(costs, st.integers(0, 10**9), st.floats(0, 1000), st.booleans())
def test_a_save_that_is_late_is_believed_less(costs: tuple[Cost, ...], whole: int, elapsed: float, alone: bool) -> None:
    left = still_needs(costs, whole, elapsed, alone=alone)
    assert left >= OVERDUE * elapsed if costs else left == 0
    begun = still_needs(costs, whole, 0.0, alone=alone)
    assert left <= begun + OVERDUE * elapsed


SLOW, QUICK = Cost(0.0, 10.0, 1000), Cost(0.0, 3.0, 300, delta=True)


def test_differences_are_offered_where_they_can_be_taken_and_were_measured_to_be_quicker() -> None:
    whole, delta = Option("full", 10.0, 10.0), Option("delta", 3.0, 3.0)
    assert ways((SLOW, QUICK, QUICK), 1000, differences=True) == (whole, delta)
    assert ways((SLOW, QUICK, QUICK), 1000, differences=False) == (whole,)
    assert ways((SLOW, SLOW), 1000, differences=True) == (whole,)  # nobody knows yet what they come to
    assert ways((), 0, differences=False) == (Option("full", None),)
    grown = Cost(0.0, 12.0, 1100, delta=True)
    assert [option.name for option in ways((SLOW, grown), 1000, differences=True)] == ["full"]


def test_a_full_one_is_reckoned_with_its_own_bytes_on_the_link_as_it_is_now() -> None:
    # All five that are remembered were differences: a full one has more than three times their bytes.
    assert ways((QUICK,) * 5, 1000, differences=True)[0] == Option("full", 10.0, 10.0)
    slower = replace(QUICK, seconds=30.0)
    full, delta = ways((SLOW, slower, slower), 1000, differences=True)
    assert (full.likely, delta.likely) == (100.0, 30.0)
    # There is nothing to take differences from any more: what follows is a full one, and not as quick as they were.
    assert ways((QUICK,) * 5, 1000, differences=False) == (Option("full", 10.0, 10.0),)


def test_a_full_one_that_is_under_way_is_not_taken_for_a_difference() -> None:
    latest = (SLOW, QUICK, QUICK)
    assert still_needs(latest, 1000, 2.0, alone=False) == 1.0
    assert still_needs(latest, 1000, 2.0, alone=True) == 8.0
    assert still_needs((QUICK,) * 5, 1000, 2.0, alone=True) == 8.0
    assert still_needs((SLOW,), 1000, 2.0, alone=False) == 8.0  # what differences take is not known


@given(costs, st.integers(0, 10**9), st.booleans())
def test_every_further_way_takes_less_time(costs: tuple[Cost, ...], whole: int, differences: bool) -> None:
    options = ways(costs, whole, differences=differences)
    assert options[0].name == "full"
    for other in options[1:]:
        assert differences
        assert other.name == "delta"
        assert (other.allowed or 0.0) <= (options[0].allowed or 0.0)


@pytest.mark.parametrize(("seconds", "name"), [(10.0, "full"), (20.0, "delta"), (90.0, "delta")])
def test_an_unknown_deadline_is_assumed_to_be_half_a_minute(seconds: float, name: str) -> None:
    options = Option("full", seconds), Option("delta", seconds / 2)
    now = replace(CALM, remaining=None, options=options)
    assert decide(now).option == next(option for option in options if option.name == name)
