"""Markets: recordings of several zones on one clock."""

from __future__ import annotations

from dataclasses import replace as changed
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import pytest
from tests.placement.markets import market_from

from spotweld.errors import UsageError
from spotweld.placement.market import ages, exact, market_of
from spotweld.values.recordings import Recording

NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)


def recording(name: str, capacity: list[int], **changes: object) -> Recording:
    plain = Recording(
        zone=name,
        region="here",
        gap=600.0,
        start=NOON,
        capacity=capacity,
        prices=[0.1 * (tick + 1) for tick in range(len(capacity))],
        on_demand=3.0,
        currency="USD",
        notes=(),
    )
    return msgspec.structs.replace(plain, **changes)


def test_zones_stand_beside_each_other_by_name() -> None:
    market = market_of([recording("b", [1, 0]), recording("a", [2, 2], region="there", notes=("mended",))])
    assert market.zones == ("a", "b")
    assert market.region.tolist() == [1, 0]
    assert market.capacity.tolist() == [[2, 1], [2, 0]]
    assert market.spot.tolist() == [[0.1, 0.1], [0.2, 0.2]]
    assert market.notes == ("a: mended",)
    assert market.up(2).tolist() == [[True, False], [True, False]]


def test_what_not_all_cover_is_cut_off_with_a_note() -> None:
    late = recording("b", [5, 6, 7, 8], start=NOON + timedelta(minutes=20))
    market = market_of([recording("a", [1, 2, 3, 4]), late])
    assert market.capacity.tolist() == [[3, 5], [4, 6]]
    assert market.start == NOON + timedelta(minutes=20)
    assert market.notes == ("the recordings differ in start or length: only the 2 ticks that all have are used",)


def test_a_start_between_two_ticks_is_moved_with_a_note() -> None:
    late = recording("b", [5, 6, 7], start=NOON + timedelta(seconds=700))
    market = market_of([recording("a", [1, 2, 3]), late])
    assert market.capacity.tolist() == [[2, 5], [3, 6]]
    assert market.notes[0] == "b: begins between two ticks of the others, moved by 100.0 s"


def test_recordings_without_a_date_begin_together() -> None:
    market = market_of([recording("a", [1, 2], start=None), recording("b", [3, 4])])
    assert market.capacity.tolist() == [[1, 3], [2, 4]]
    assert "begin together" in market.notes[0]
    assert market_of([recording("a", [1], start=None)]).notes == ()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"gap": 300.0}, "different gaps: 300.0, 600.0"),
        ({"currency": "EUR"}, "different currencies: EUR, USD"),
        ({"zone": "a"}, "two recordings are of the zone a"),
        ({"start": NOON + timedelta(days=1)}, "no time in common"),
        ({"prices": []}, "b has no spot prices"),
        ({"on_demand": None}, "b has no on-demand price"),
    ],
    ids=str,
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, object], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        market_of([recording("a", [1, 2]), recording("b", [1, 2], **changes)])


def test_nothing_makes_no_market() -> None:
    with pytest.raises(UsageError, match="no recording"):
        market_of([])


def test_missing_prices_may_be_given() -> None:
    plain = recording("a", [1, 2], prices=[], on_demand=None, currency=None)
    market = market_of([plain, recording("b", [1, 2])], spot_price=0.7, on_demand_price=2.0)
    assert market.spot.tolist() == [[0.7, 0.1], [0.7, 0.2]]
    assert market.on_demand.tolist() == [2.0, 3.0]


def test_a_part_of_it() -> None:
    market = changed(market_from([[1, 2, 3], [4, 5, 6]], regions=("west", "east")), start=NOON)
    part = market.between(1, 3)
    assert (part.ticks, part.capacity.tolist(), part.start) == (2, [[2, 5], [3, 6]], NOON + timedelta(seconds=600))
    one = market.only([1])
    assert (one.zones, one.regions, one.capacity.ravel().tolist()) == (("b",), ("east",), [4, 5, 6])
    assert one.region.tolist() == [0]


def test_a_price_cap_takes_spot_away() -> None:
    market = market_from([[1, 2, 3]], spot=[[0.5, 0.6, 0.4]])
    assert market.capped(0.5).capacity.ravel().tolist() == [1, 0, 3]


def test_ages_count_from_the_last_change() -> None:
    up = np.array([[1, 1, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0]], dtype=np.bool_).T
    assert ages(up, 10.0).T.tolist() == [[0, 10, 0, 10, 20, 0], [0, 10, 20, 30, 40, 50]]


def test_durations_add_up_exactly() -> None:
    assert sum([exact(0.1)] * 1000) == 1000 * exact(0.1)
