"""Axes: ticks are round, few and inside; thinning keeps what the eye would see."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotweld.report.scale import (
    Scale,
    runs_of,
    spread,
    step_ticks,
    thin,
    tick_words,
    time_ticks,
    value_scale,
    value_ticks,
)

finite = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(st.floats(), max_size=20))
def test_every_finite_value_lies_on_its_axis(values: list[float]) -> None:
    scale = value_scale(values)
    for value in values:
        if math.isfinite(value):
            assert 0 <= scale.share(value) <= 1
    ticks = value_ticks(scale)
    assert len(ticks) <= 12
    assert all(scale.low <= tick <= scale.high for tick in ticks)


@given(finite, finite)
def test_an_axis_keeps_the_order(one: float, other: float) -> None:
    scale = value_scale([one, other])
    assert (scale.share(one) <= scale.share(other)) == (one <= other) or scale.share(one) == scale.share(other)


def test_an_axis_is_logarithmic_only_when_a_straight_one_would_hide_most() -> None:
    assert value_scale([2.0**-n for n in range(20)]).log
    assert not value_scale([2.5 - n / 10 for n in range(20)]).log
    assert not value_scale([0.01] + [0.9 + n / 1000 for n in range(20)]).log  # an accuracy
    assert not value_scale([-1.0, *[0.001] * 20, 9.0]).log


@pytest.mark.parametrize(
    ("low", "high", "log", "ticks"),
    [
        (0.0, 2.5, False, [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]),
        (0.08, 1.05, False, [0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.1, 3.0, True, [0.1, 0.2, 0.5, 1.0, 2.0]),
        (1e-6, 1.0, True, [1e-06, 0.0001, 0.01, 1.0]),
    ],
)
def test_value_ticks(low: float, high: float, log: bool, ticks: list[float]) -> None:
    assert value_ticks(Scale(low, high, log)) == pytest.approx(ticks)


@pytest.mark.parametrize(
    ("last", "ticks"),
    [
        (1, [0, 1]),
        (3, [0, 1, 2, 3]),
        (1200, [0, 200, 400, 600, 800, 1000, 1200]),
        (20000, [0, 5000, 10000, 15000, 20000]),
        (905, [0, 200, 400, 600, 800, 905]),
    ],
)
def test_step_ticks(last: int, ticks: list[int]) -> None:
    assert step_ticks(last) == ticks


@given(st.integers(1, 10**9))
def test_step_ticks_are_few_and_end_at_the_last_step(last: int) -> None:
    ticks = step_ticks(last)
    assert ticks[0] == 0
    assert ticks[-1] == last
    assert len(ticks) <= 8
    assert all(b - a >= last / 14 for a, b in pairwise(ticks))


@given(st.floats(1e-3, 1e9))
def test_time_ticks_are_few(seconds: float) -> None:
    ticks = time_ticks(seconds)
    assert 1 <= len(ticks) <= 11
    assert ticks[-1] <= seconds
    assert len({tick_words(tick) for tick in ticks}) == len(ticks)


@pytest.mark.parametrize(("seconds", "words"), [(0, "0"), (30, "30 s"), (300, "5m"), (5400, "1h 30m"), (172800, "2d")])
def test_tick_words(seconds: float, words: str) -> None:
    assert tick_words(seconds) == words


@given(st.lists(finite, min_size=1, max_size=300))
def test_thinning_keeps_the_ends_and_the_extremes(values: list[float]) -> None:
    points = [(float(x), y) for x, y in enumerate(values)]
    (line,) = thin(points, 20)
    assert line[0] == points[0]
    assert line[-1] == points[-1]
    assert {min(values), max(values)} <= {y for _, y in line}
    assert len(line) <= 42
    assert line == sorted(line)
    assert set(line) <= set(points)


def test_a_value_that_is_not_finite_interrupts_the_line() -> None:
    points = [(0.0, 1.0), (1.0, 2.0), (2.0, math.nan), (3.0, 3.0), (4.0, math.inf), (5.0, 4.0)]
    assert thin(points) == [[(0.0, 1.0), (1.0, 2.0)], [(3.0, 3.0)], [(5.0, 4.0)]]
    assert thin([(0.0, math.nan)]) == []
    assert thin([]) == []


def test_labels_keep_their_distance() -> None:
    assert spread([0.0, 0.01, 0.05, 0.06, 0.2], 0.05) == [True, False, True, False, True]


def test_runs_of_numbers() -> None:
    assert runs_of([5, 1, 2, 3, 3, 9]) == [(1, 3), (5, 5), (9, 9)]
    assert runs_of([]) == []
