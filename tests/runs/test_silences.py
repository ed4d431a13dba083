"""Whose silence counts, and for how long."""

from __future__ import annotations

import pytest
from tests.runs.world import ManualClock

from spotweld.runs.silences import Silences


def test_a_new_beat_ends_a_silence_and_whoever_is_new_has_none() -> None:
    clock = ManualClock()
    silences = Silences(clock)
    clock.sleep(100.0)
    assert silences.look({"a": 0}) == {"a": 0.0}
    clock.sleep(10.0)
    assert silences.look({"a": 0, "b": 7}) == {"a": 10.0, "b": 0.0}
    clock.sleep(10.0)
    assert silences.look({"a": 1, "b": 7}) == {"a": 0.0, "b": 10.0}
    # A machine that was started again counts from 1.
    clock.sleep(10.0)
    assert silences.look({"b": 1}) == {"b": 0.0}


def test_time_in_which_nobody_could_listen_does_not_count() -> None:
    clock = ManualClock()
    silences = Silences(clock)
    silences.look({"a": 1})
    clock.sleep(10.0)
    silences.look({"a": 1})
    for _ in range(100):
        clock.sleep(5.0)
        with pytest.raises(OSError, match="down"), silences.listening():
            _fail_late(clock)
    clock.sleep(1.0)
    with silences.listening():
        assert silences.look({"a": 1}) == {"a": 11.0}


def _fail_late(clock: ManualClock) -> None:
    clock.sleep(60.0)
    raise OSError("down")
