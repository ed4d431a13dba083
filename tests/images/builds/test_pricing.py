from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotweld.images.builds.predicting import Estimate
from spotweld.images.builds.pricing import rented
from spotweld.placement.placer import Rent, Wait
from spotweld.values.money import parse_money
from spotweld.values.offers import CapacityType, Offer

OFFER = Offer("local", "here", "a", "any", CapacityType.SPOT, parse_money("7.20 USD"), "spotweld.yaml")
FIRST = Rent(OFFER, "cheapest")


def test_it_is_the_predicted_time_at_the_offers_price() -> None:
    price = rented(Estimate(1800.0, 900.0, 3600.0), FIRST)
    assert (price.costs, price.offer) == ("known", OFFER)
    assert [str(one) for one in (price.low, price.likely, price.high)] == ["1.80 USD", "3.60 USD", "7.20 USD"]


@pytest.mark.parametrize(
    ("expected", "first", "why"),
    [
        (Estimate(10.0, 5.0, 20.0, unknown=1), FIRST, "1 never timed"),
        (Estimate(), FIRST, "nothing like it was ever timed"),
        (Estimate(10.0, 5.0, 20.0), Wait(30.0, "all zones have refused"), "all zones have refused"),
    ],
)
def test_what_nobody_knows_is_unknown(expected: Estimate, first: Rent | Wait, why: str) -> None:
    price = rented(expected, first)
    assert (price.costs, price.why, price.likely, price.low, price.high) == ("unknown", why, None, None, None)


@given(st.floats(0.001, 1e6))
def test_no_known_price_is_nothing(seconds: float) -> None:
    price = rented(Estimate(seconds, seconds, seconds), FIRST)
    assert price.likely
    assert price.likely.amount > 0
