"""How much of a run with a deadline is left, and how long its machines take to get to work: folded from what was told.

Work is measured in seconds that the program takes on a machine. A step that was reached twice counts once: what was
done between the step from which an attempt went on and its last one is added to what had been done at that step.
"""

from __future__ import annotations

from bisect import bisect_right
from statistics import median
from typing import TYPE_CHECKING

from spotweld.placement.placer import Standing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spotweld.runs.history import Progress
    from spotweld.runs.states import Attempt, RunState

REACTION = 1.0
"""Seconds of the deadline that are kept for the controller: to notice that a machine is gone, to ask for the next one,
and to see that the program has ended."""
_TRUSTED = 0.1
"""The share of the work from which on the pace of the steps is trusted more than what the project file says."""
_SOON = 2
"""Changeovers within which a program that saves has told so."""
_LAST = 0.01
"""The share of the work that is taken to be left as long as the program has not ended."""
_RECENT = 5
"""Machines whose starts count."""
_SAVES = 60.0
"""Seconds between two saves, where the program has not told how often it saves."""


def standing(state: RunState, history: Mapping[int, Progress], now: float) -> Standing | None:
    """How the run stands; None: it has no deadline.

    Args:
        state: the run.
        history: what its attempts told, as far as that has arrived.
        now: seconds since 1970 UTC.
    """
    job, deadline = state.job, state.deadline
    if job.work is None or deadline is None:
        return None
    done, step, unsaved = _done(state, history, now)
    total = next((history[number].total for number in sorted(history, reverse=True) if history[number].total), None)
    left = job.work - done
    if total and step and done >= _TRUSTED * job.work:
        left = done / step * max(0, total - step)
    starts = _starts(state, history)
    usual = median(starts)
    # Plans are made for the usual start; what the slowest took longer is kept from the deadline.
    return Standing(
        work=max(left, _LAST * job.work),
        time=deadline - now - REACTION - (max(starts) - usual),
        changeover=usual,
        cadence=_cadence(state, history, job.work, now),
        size=next((history[n].size or 0 for n in sorted(history, reverse=True) if history[n].size), 0),
        unsaved=unsaved,
    )


def working_since(attempt: Attempt, progress: Progress | None) -> float | None:
    """When the attempt's program had what it needed to go on; a program that tells nothing had it from the start."""
    if progress is not None:
        return progress.since
    return attempt.running


def _done(state: RunState, history: Mapping[int, Progress], now: float) -> tuple[float, int, float]:
    """Seconds of work that count, the step that they led to, and how many of them the loss of the machine would take.

    Of attempts that have ended it is what the next one went on from, or will: the newest step in the store.
    """
    steps, works = [0], [0.0]
    for attempt in state.attempts:
        progress = history.get(attempt.number)
        if progress is None or progress.first is None or progress.since is None:
            continue
        base = _at(steps, works, progress.first)
        cut = bisect_right(steps, progress.first)
        steps, works = [*steps[:cut], progress.first], [*works[:cut], base]
        for step, when in progress.marks:
            if step > steps[-1]:
                steps.append(step)
                works.append(base + max(0.0, when - progress.since))
    current = state.current
    if current is not None and current.number in history and history[current.number].first is not None:
        safe = history[current.number].safe or 0
        return works[-1], steps[-1], max(0.0, works[-1] - _at(steps, works, safe))
    if history:
        step = max((progress.safe for progress in history.values() if progress.safe is not None), default=0)
        return _at(steps, works, step), step, 0.0
    # A program that tells nothing begins anew on every machine.
    running = current.running if current is not None else None
    ran = max(0.0, now - running) if running is not None else 0.0
    return ran, 0, ran


def _at(steps: list[int], works: list[float], step: int) -> float:
    """The work that had been done when ``step`` was reached first."""
    return works[max(0, bisect_right(steps, step) - 1)]


def _cadence(state: RunState, history: Mapping[int, Progress], work: float, now: float) -> float:
    """Seconds between two saves.

    A program that has told nothing although it has run for a while keeps nothing: a loss costs it all that it did.
    """
    if history:
        plans = [attempt.cadence.interval for attempt in history.values() if attempt.cadence is not None]
        return (plans[-1] if plans else None) or min(_SAVES, work / 100)
    longest = max((_ran(attempt, now) for attempt in state.attempts), default=None)
    if longest is None:
        return min(_SAVES, work / 100)
    soon = _SOON * state.placement.changeover
    return work if longest > soon else min(work, 2 * soon)


def _ran(attempt: Attempt, now: float) -> float:
    if attempt.running is None:
        return 0.0
    return max(0.0, (attempt.ended if attempt.ended is not None else now) - attempt.running)


def _starts(state: RunState, history: Mapping[int, Progress]) -> list[float]:
    """Seconds that the latest machines took; before any has come up, what the project file says."""
    taken = []
    for attempt in state.attempts:
        since = working_since(attempt, history.get(attempt.number))
        if attempt.started is not None and since is not None:
            taken.append(max(0.0, since - attempt.started))
    return taken[-_RECENT:] or [state.placement.changeover]
