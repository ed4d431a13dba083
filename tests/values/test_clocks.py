"""Time."""

from __future__ import annotations

from spotweld.values.clocks import SystemClock, iso


def test_records_are_written_in_utc_with_milliseconds() -> None:
    assert iso(1_700_000_000.0) == "2023-11-14T22:13:20.000Z"
    assert iso(0.9994) == "1970-01-01T00:00:00.999Z"


def test_monotonic_time_does_not_go_back() -> None:
    clock = SystemClock()
    moments = [clock.monotonic() for _ in range(100)]
    assert moments == sorted(moments)
    clock.sleep(0)
    assert clock.now() > 1_700_000_000
