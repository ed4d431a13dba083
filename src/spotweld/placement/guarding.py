"""The guard: whatever a policy wants, the deadline is met, because on-demand machines can always be had.

It keeps one promise from tick to tick: *an on-demand machine that makes progress is held and will finish in time, or
one that is started now would.* A job begins so (``Task`` refuses others). A decision is let through only if the promise
would hold at the next tick even if a spot gang were lost by then, with what it loses; otherwise an on-demand machine is
started now, which the promise of this tick allows. So no deadline is ever missed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spotweld.placement.seeing import NONE

if TYPE_CHECKING:
    from spotweld.placement.market import Bools, Floats, Ints
    from spotweld.placement.seeing import Seen


def guard(seen: Seen, want: Ints) -> Ints:
    """(J,): ``want`` where it is safe, on-demand elsewhere: what is held, or else the cheapest to finish on.

    Where what was measured has broken the promise, so that on-demand would be late, what is held is kept if it could
    still be done in time.
    """
    safe = _safe(seen, want)
    if safe.all():
        return want
    in_time = (seen.held != NONE) & (seen.work + seen.warming <= seen.time)
    too_late = seen.work + seen.task.changeover > seen.time
    return np.where(safe, want, np.where(in_time & too_late, seen.held, refuge(seen)))


def refuge(seen: Seen) -> Ints:
    """(J,): the on-demand machine that is held, or else the one on which finishing costs least, egress included."""
    zones = seen.up.shape[1]
    cost = seen.on_demand * ((seen.work + seen.task.changeover) / 3600.0)[:, None]
    cost += away(seen) * seen.task.moving
    return np.where(seen.held >= zones, seen.held, zones + cost.argmin(axis=1))


def away(seen: Seen) -> Bools:
    """(J, Z): whether a start there would be in another region than the job's state is in."""
    home = seen.home[:, None]
    elsewhere: Bools = (seen.regions[None, :] != home) & (home != NONE)
    return elsewhere


def _safe(seen: Seen, want: Ints) -> Bools:
    zones, task = seen.up.shape[1], seen.task
    firm, started = want >= zones, want != seen.held
    warming = np.where(started, task.changeover, seen.warming)
    progress = np.maximum(seen.gap - warming, 0.0)
    left = seen.work - np.where(want == NONE, 0.0, progress)
    if task.cadence:
        left += np.where((want != NONE) & ~firm, _unsaved(seen, started, progress), 0.0)
    # Done before the tick ends, so that a loss at its end would come too late to matter.
    done = (want != NONE) & (seen.work + warming <= np.minimum(seen.gap, seen.time))
    later = left + task.changeover <= seen.time - seen.gap
    firm_ok = ~started | (seen.work + task.changeover <= seen.time)
    safe: Bools = np.where(firm, firm_ok, done | later)
    return safe


def _unsaved(seen: Seen, started: Bools, progress: Floats) -> Floats:
    """(J,): seconds of progress that a loss at the next tick would take."""
    if seen.unsaved is None:
        ran: Floats = np.where(started, 0.0, seen.ran) + progress
        return ran % seen.task.cadence
    # A save may come late, or fail: none is counted upon.
    unsaved: Floats = np.where(started, 0.0, seen.unsaved) + progress
    return unsaved
