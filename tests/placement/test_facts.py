"""What is known of the market, what is kept of it, and the recording that it becomes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.placement.live import EPOCH, offer

from spotweld.placement.facts import facts, fresh
from spotweld.placement.memory import Stretch, recorded
from spotweld.placement.placer import Ending, Held, Observation, Placement, Sighting
from spotweld.project.nouns import SpotUse
from spotweld.values.offers import CapacityType

A, B = offer("a", price=1.0), offer("b", price=2.0)


def seen(**fields: object) -> Observation:
    return Observation(**{"now": EPOCH, "spot_policy": SpotUse.AUTO, "offers": (A, B), "past": ()} | fields)  # type: ignore[arg-type]


def tried(zone: str, ending: Ending, kind: CapacityType = CapacityType.SPOT) -> Placement:
    return Placement(zone, kind, EPOCH - 9, EPOCH - 5, ending)


def test_nothing_is_known_of_zones_that_nobody_tried_or_told_of() -> None:
    assert facts(seen()) == {}
    assert facts(seen(past=(tried("a", Ending.REFUSED, CapacityType.ON_DEMAND),))) == {}


def test_a_refusal_or_an_interruption_means_none_until_there_is_one_again() -> None:
    for ending in (Ending.REFUSED, Ending.INTERRUPTED):
        assert facts(seen(past=(tried("a", ending),))) == {"a": False}
        assert facts(seen(past=(tried("a", ending), tried("a", Ending.OTHER)))) == {}
    held = Held(A, EPOCH - 3, None, None)
    assert facts(seen(past=(tried("a", Ending.REFUSED),), held=held)) == {"a": True}


def test_a_provider_that_tells_is_believed_but_for_the_machine_that_is_held() -> None:
    held = Held(A, EPOCH - 3, None, None)
    assert facts(seen(rooms={"a": 0, "b": 2}, held=held)) == {"a": True, "b": True}
    assert facts(seen(rooms={"a": 0, "b": 2}, past=(tried("b", Ending.REFUSED),))) == {"a": False, "b": True}


def test_only_what_has_changed_is_kept() -> None:
    first = fresh(EPOCH, (A, B), {"a": True}, ())
    assert first == Sighting(EPOCH, {"a": True}, {"a": 1.0, "b": 2.0})
    assert fresh(EPOCH + 1, (A, B), {"a": True}, (first,)) is None
    second = fresh(EPOCH + 1, (A, B), {"a": False}, (first,))
    assert second == Sighting(EPOCH + 1, {"a": False}, {})
    assert fresh(EPOCH + 2, (A, offer("b", price=2.01)), {"a": False}, (first, second)) is None
    third = fresh(EPOCH + 2, (A, offer("b", price=3.0)), {}, (first, second))
    assert third == Sighting(EPOCH + 2, {}, {"b": 3.0})


@given(
    st.lists(st.lists(st.booleans(), min_size=2, max_size=2), min_size=1, max_size=30),
    st.sampled_from([1.0, 20.0]),
)
def test_a_recording_comes_back_from_what_was_kept_of_it(rows: list[list[bool]], pace: float) -> None:
    gap, sightings = 60.0, []
    for tick, row in enumerate(rows):
        news = fresh(EPOCH + tick * gap / pace, (A, B), dict(zip("ab", row, strict=True)), sightings)
        sightings += [news] if news else []
    until = EPOCH + (len(rows) - 1) * gap / pace
    market = recorded([Stretch(tuple(sightings), until)], "ab", "rr", [3.0, 3.0], gap=gap, pace=pace)
    assert market.up(1).tolist() == rows
    assert (market.spot == [1.0, 2.0]).all()
    assert market.gap == gap


def test_a_loss_between_two_ticks_is_not_forgotten() -> None:
    turns = [(0.0, True), (250.0, False), (280.0, True)]
    stretch = Stretch(tuple(Sighting(EPOCH + at, {"a": up}, {}) for at, up in turns), EPOCH + 400)
    market = recorded([stretch], "a", "r", [3.0], gap=60.0, pace=1.0)
    assert market.up(1)[:, 0].tolist() == [True, True, True, True, False, True, True]


def test_what_was_seen_last_stands_at_the_last_tick() -> None:
    stretch = Stretch((Sighting(EPOCH, {"a": False}, {}), Sighting(EPOCH + 70, {"a": True}, {})), EPOCH + 80)
    assert recorded([stretch], "a", "r", [3.0], gap=60.0, pace=1.0).up(1)[:, 0].tolist() == [False, True]


def test_a_clock_that_was_set_back_puts_nothing_before_the_beginning() -> None:
    turns = [(0.0, True), (-150.0, False), (-100.0, True), (-90.0, False)]
    stretch = Stretch(tuple(Sighting(EPOCH + at, {"a": up}, {"a": 2.0}) for at, up in turns), EPOCH + 240)
    market = recorded([stretch], "a", "r", [3.0], gap=60.0, pace=1.0)
    assert market.up(1)[:, 0].tolist() == [False] * 5
    assert market.spot[:, 0].tolist() == [2.0] * 5


def test_stretches_follow_each_other_and_unseen_zones_count_as_up() -> None:
    first = Stretch((Sighting(EPOCH, {"a": False}, {"a": 1.0}),), EPOCH + 60)
    second = Stretch((Sighting(EPOCH + 9e6, {"a": True}, {"a": 2.0}),), EPOCH + 9e6)
    market = recorded([first, Stretch((), EPOCH + 100), second], "ab", "rr", [3.0, 3.0], gap=60.0, pace=1.0)
    assert market.up(1).tolist() == [[False, True], [False, True], [True, True]]
    assert market.spot[:, 0].tolist() == [1.0, 1.0, 2.0]
    empty = recorded([], "ab", "rr", [3.0, 3.0], gap=60.0, pace=1.0)
    assert empty.ticks == 0
    assert np.array_equal(empty.on_demand, [3.0, 3.0])
