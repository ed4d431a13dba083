"""Time."""

from __future__ import annotations

import pytest

from spotweld.values.clocks import SystemClock, iso, moment_of


def test_records_are_written_in_utc_with_milliseconds() -> None:
    assert iso(1_700_000_000.0) == "2023-11-14T22:13:20.000Z"
    assert iso(0.9994) == "1970-01-01T00:00:00.999Z"


def test_monotonic_time_does_not_go_back() -> None:
    clock = SystemClock()
    moments = [clock.monotonic() for _ in range(100)]
    assert moments == sorted(moments)
    clock.sleep(0)
    assert clock.now() > 1_700_000_000


@pytest.mark.parametrize("text", ["0001-01-01", "9999-12-31T23:59:59", "0", "-1.5", "1795464687"])
def test_a_moment_is_of_a_year_that_has_a_date(text: str) -> None:
    assert iso(moment_of(text))


@pytest.mark.parametrize("text", ["1795464687193", "1795464687193974500", "1e30", "-1e30", "nan", "inf", "soon"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="seconds"):
        moment_of(text)
