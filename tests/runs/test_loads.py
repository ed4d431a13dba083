"""The machines that a project has used, from real logs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.runs.pasts import HOUR, Past

from spotweld.costs.loads import Span
from spotweld.errors import UsageError
from spotweld.runs.events import Cause
from spotweld.runs.loads import past_load

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def past(tmp_path: Path) -> Past:
    return Past(tmp_path / "events.db")


def test_what_ran_at_once_until_now(past: Past) -> None:
    past.attempt("a", 1, 5, Cause.PREEMPTED)
    past.attempt("b", 2, None, Cause.DONE, spot=False)
    past.refused("c", 3)
    spans, notes = past_load(past.states(), past.at(0), past.at(10))
    assert spans == [Span(HOUR, 1), Span(3 * HOUR, 2), Span(5 * HOUR, 1)]
    assert notes == ["the load of cloud machine in the last 9h 00m"]
    # Idle time is a part of the load: a commitment is paid then as well.
    past.attempt("d", 20, 21, Cause.DONE, provider="other")
    past.attempt("a", 20, 24, Cause.DONE)
    later, notes = past_load(past.states(), past.at(4), past.at(30))
    assert later == [Span(HOUR, 2), Span(15 * HOUR, 1), Span(4 * HOUR, 2), Span(6 * HOUR, 1)]
    assert notes[1:] == ["left out: other machine"]


def test_gaps_are_load_zero_and_nothing_is_refused(past: Past) -> None:
    past.attempt("a", 0, 2, Cause.DONE)
    past.attempt("b", 6, 8, Cause.DONE)
    spans, _ = past_load(past.states(), past.at(0), past.at(9))
    assert spans == [Span(2 * HOUR, 1), Span(4 * HOUR, 0), Span(2 * HOUR, 1), Span(HOUR, 0)]
    with pytest.raises(UsageError, match="no load to look at"):
        past_load(past.states(), past.at(8.5), past.at(9))
