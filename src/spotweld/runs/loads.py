"""How many machines a project has used over time, from its runs."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

from spotweld.costs.loads import Span
from spotweld.errors import UsageError
from spotweld.values.durations import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spotweld.runs.states import RunState


def past_load(states: Iterable[RunState], since: float, now: float) -> tuple[list[Span], list[str]]:
    """The machines that ran at once, spot and on-demand, from the first one until now.

    A commitment is to one machine type: the one whose machines ran longest is taken. Time is the log's own, on the
    local provider too: that is what is paid.

    Args:
        states: the runs of a project.
        since: seconds since 1970; what was before does not count.
        now: until when machines that have not ended have run.

    Returns:
        The spans, and notes for people.

    Raises:
        UsageError: no machine has run.
    """
    lives: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for attempt in (attempt for state in states for attempt in state.attempts):
        if attempt.started is not None:
            began, ended = max(since, attempt.started), now if attempt.ended is None else attempt.ended
            if ended > began:
                lives[f"{attempt.offer.provider} {attempt.offer.machine_type}"].append((began, ended))
    if not lives:
        why = f"no machine has run in the last {format_duration(now - since)}"
        raise UsageError("this project has no load to look at", why, "give one with --load, or look further: --since")
    kind = max(lives, key=lambda one: (sum(ended - began for began, ended in lives[one]), one))
    begin = min(began for began, _ in lives[kind])
    turns = sorted([(began, 1) for began, _ in lives[kind]] + [(ended, -1) for _, ended in lives[kind]])
    spans, running = [], 0
    for (at, turn), (until, _) in pairwise([*turns, (max(now, turns[-1][0]), 0)]):
        running += turn
        if until > at:
            spans.append(Span(until - at, running))
    others = sorted(name for name in lives if name != kind)
    left_out = [f"left out: {', '.join(others)}"] if others else []
    return spans, [f"the load of {kind} in the last {format_duration(now - begin)}", *left_out]
