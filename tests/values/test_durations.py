"""Durations: what people write and what they read."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spotweld.values.durations import DURATION, format_duration, parse_duration

SECONDS = st.floats(0, 100 * 365 * 86400, allow_nan=False)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90m", 5400), ("1.5h", 5400), ("1h 30m", 5400), ("1h30m", 5400), ("20ms", 0.02), ("2d", 172_800), ("0s", 0)],
)
def test_what_people_write(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)
    assert re.fullmatch(DURATION, text)


@pytest.mark.parametrize("text", ["", " ", "90", "m", "90 min", "-1h", "1e3s", ".5h", "1h,30m", "1h x", "٣s", "nan s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)
    assert not re.fullmatch(DURATION, text)


def test_a_hundred_years_are_enough() -> None:
    assert parse_duration("36500d") == 36_500 * 86_400
    for text in ("36501d", "9" * 400 + "ms"):
        with pytest.raises(ValueError, match="hundred years"):
            parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.34, "340 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (4.2, "4.2 s"),
        (59.94, "59.9 s"),
        (59.96, "1m 00s"),
        (725, "12m 05s"),
        (3599.6, "1h 00m"),
        (12_000, "3h 20m"),
        (86_399.6, "1d 00h"),
        (187_200, "2d 04h"),
        (-5, "-5.0 s"),
        (math.inf, "unknown"),
        (math.nan, "unknown"),
    ],
)
def test_what_people_read(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(SECONDS)
@example(0.99949999)
@example(59.949999)
@example(86399.5)
def test_what_is_shown_can_be_read_back_to_the_precision_that_is_shown(seconds: float) -> None:
    text = format_duration(seconds)
    step = 0.001 if text.endswith(" ms") else 0.1 if text.endswith(" s") else 1.0
    step = 3600.0 if "d" in text else 60.0 if "h" in text else step
    assert abs(parse_duration(text) - seconds) <= step
    assert len(text) <= 10
    assert re.fullmatch(DURATION, text)


@given(SECONDS)
def test_showing_what_was_read_back_changes_nothing(seconds: float) -> None:
    text = format_duration(seconds)
    assert format_duration(parse_duration(text)) == text


@given(st.text(max_size=12))
def test_text_is_a_duration_or_a_value_error(text: str) -> None:
    try:
        assert parse_duration(text) >= 0
    except ValueError as error:
        assert "duration" in str(error)  # noqa: PT017 - any text may be either


@given(st.from_regex(DURATION, fullmatch=True))
def test_whatever_has_the_form_can_be_read(text: str) -> None:
    try:
        parse_duration(text)
    except ValueError as error:
        assert "hundred years" in str(error)  # noqa: PT017 - only the value can be wrong
