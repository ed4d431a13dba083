"""How much of prices the time of day foretells."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.placement.markets import market_from

from spotweld.placement.windows import rhythm

DAY = 144
"""Ticks of 600 s."""


@given(st.floats(0.01, 0.9), st.integers(2, 9))
def test_a_cycle_is_foretold_by_its_own_spread(swing: float, days: int) -> None:
    prices = [1 + swing * math.cos(2 * math.pi * tick / DAY) for tick in range(days * DAY)]
    # A sine's standard deviation.
    assert abs(rhythm(market_from([[1] * len(prices)], [prices])) - swing / math.sqrt(2)) < 1e-6


@given(st.floats(0.01, 100), st.integers(1, 5 * DAY))
def test_one_price_has_no_rhythm(price: float, ticks: int) -> None:
    assert rhythm(market_from([[1] * ticks], [[price] * ticks])) < 1e-6


def test_chance_has_none() -> None:
    noise = np.random.default_rng(1).uniform(0.5, 1.5, 7 * DAY)
    assert rhythm(market_from([[1] * len(noise)], [noise.tolist()])) == 0.0


def test_a_level_that_moves_from_day_to_day_is_none() -> None:
    prices = [1.0 + tick // DAY for tick in range(7 * DAY)]
    assert rhythm(market_from([[1] * len(prices)], [prices])) < 1e-6


def test_less_than_two_days_have_none() -> None:
    prices = [1.0 if tick % DAY < 72 else 3.0 for tick in range(2 * DAY - 1)]
    assert rhythm(market_from([[1] * len(prices)], [prices])) == 0.0


def test_of_several_zones_the_cheapest_counts() -> None:
    night = [1.0 if tick % DAY < 72 else 3.0 for tick in range(4 * DAY)]
    day = [4.0 - price for price in night]
    up = [1] * len(night)
    assert rhythm(market_from([up, up], [night, day])) == 0.0
    assert rhythm(market_from([up], [night])) == 0.5
