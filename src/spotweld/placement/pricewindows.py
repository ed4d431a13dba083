"""Price windows: run in the cheap hours of a market whose prices come and go with the time of day."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from spotweld.placement.baselines import Greedy, UniformProgress
from spotweld.placement.guarding import away, refuge
from spotweld.placement.seeing import NONE, Policy
from spotweld.placement.windows import DAY, DAYS, STEPS, Days, Windows, days_of, look

if TYPE_CHECKING:
    from spotweld.placement.market import Floats, Ints
    from spotweld.placement.seeing import Past, Seen, Task

RENEWAL = 4 * 3600.0
"""Seconds between two moments at which the past is looked at anew."""
TRIFLE = 1e-3
"""The share of the cost to the end for which nobody waits."""
_MOST = 2_000_000
"""Numbers of a plan at one moment that are reckoned at once."""


class _Drawn(NamedTuple):
    """When the past was looked at for a job, and what the answer depends on besides."""

    tick: int
    ticks: int
    """Until the deadline."""
    home: int


class _Place(NamedTuple):
    """A job's row in an outlook."""

    days: Days
    windows: Windows
    row: int


class PriceWindows(Policy):
    """A machine is held while it costs no more than the work that it does is worth, by the prices of the last days.

    What an hour of work is worth is what it would cost at another time before the deadline, at the best that the past
    leads to expect, with the changeover of a start. To stop, or to move, has to save more than the next start costs.
    """

    name = "price-windows"

    def __init__(self) -> None:
        self._known: tuple[Past, Task] | None = None
        self._places: dict[_Drawn, _Place | None] = {}

    def decide(self, seen: Seen) -> Ints:
        moments = self._look(seen)
        want = Greedy().decide(seen)
        alike: dict[tuple[int, int], list[int]] = {}
        for row, one in enumerate(moments):
            place = self._places[one]
            if place is not None:
                alike.setdefault((id(place.windows), int(seen.tick[row]) - one.tick), []).append(row)
        for (_, since), rows in alike.items():
            places = [place for row in rows if (place := self._places[moments[row]]) is not None]
            want[rows] = _best(seen, np.array(rows), places, since)
        return want

    def reckoned(self, seen: Seen) -> dict[int, float]:
        (one,) = self._look(seen)
        place = self._places[one]
        if place is None:
            return {}
        none, firm, spot = _expected(seen, np.array([0]), [place], int(seen.tick[0]) - one.tick)
        costs = {int(zone): float(spot[0, zone]) for zone in np.flatnonzero(seen.up[0])}
        return costs | {NONE: float(none[0]), int(refuge(seen)[0]): float(firm[0])}

    def _look(self, seen: Seen) -> list[_Drawn]:
        """(J,): when the past was looked at for each job; what was seen then is kept."""
        if self._known is None or self._known[0] is not seen.past or self._known[1] != seen.task:
            # What was reckoned before is no state: it would be reckoned again.
            self._known, self._places = (seen.past, seen.task), {}
        moments = _moments(seen)
        self._places = {one: self._places[one] for one in moments if one in self._places}
        _learn(seen, moments, self._places)
        return moments


def _moments(seen: Seen) -> list[_Drawn]:
    """(J,): when the past is to be looked at, which a job's row alone says."""
    every = max(1, round(RENEWAL / seen.gap))
    passed = np.rint((seen.task.deadline - seen.time) / seen.gap).astype(np.int64)
    since = np.minimum(passed % every, seen.tick)
    ticks = np.ceil(seen.time / seen.gap).astype(np.int64) + since
    home = seen.home if seen.task.moving else np.full(len(since), NONE)
    return [_Drawn(*one) for one in zip((seen.tick - since).tolist(), ticks.tolist(), home.tolist(), strict=True)]


def _learn(seen: Seen, moments: list[_Drawn], places: dict[_Drawn, _Place | None]) -> None:
    """Look at the past for those jobs for which that was not done yet."""
    missing = {one: row for row, one in enumerate(moments) if one not in places}
    days = {tick: days_of(seen.past.before(tick, DAYS * DAY), seen.task.gang) for tick in {one.tick for one in missing}}
    groups: dict[tuple[int, int], list[tuple[_Drawn, Days]]] = {}
    for one in missing:
        known = days[one.tick]
        if known is None:
            places[one] = None
        else:
            groups.setdefault((one.ticks, len(known.up)), []).append((one, known))
    firm, starts = _prices(seen)
    for (ticks, ways), group in groups.items():
        each = max(1, _MOST // (ways * seen.up.shape[1] * min(ticks, STEPS)))
        for begin in range(0, len(group), each):
            part = group[begin : begin + each]
            rows = [missing[one] for one, _ in part]
            windows = look(
                [known for _, known in part],
                seen.task,
                seen.gap,
                ticks * seen.gap,
                RENEWAL + seen.gap,
                (firm[rows], starts[rows]),
            )
            places.update({one: _Place(known, windows, row) for row, (one, known) in enumerate(part)})


def _prices(seen: Seen) -> tuple[Floats, Floats]:
    """(J,) of the on-demand machine to finish on, and (J, Z + 1) of a start in each zone and on demand: egress."""
    rows, zones = np.arange(len(seen.tick)), seen.up.shape[1]
    haven = refuge(seen) - zones
    egress = away(seen) * seen.task.moving
    return seen.on_demand[rows, haven], np.concatenate([egress, egress[rows, haven][:, None]], axis=1)


def _expected(seen: Seen, rows: Ints, places: list[_Place], since: int) -> tuple[Floats, Floats, Floats]:
    """What is expected to be paid to the end: (R,) with nothing, (R,) on demand, (R, Z) with spot, were it there.

    Args:
        seen: J jobs in Z zones.
        rows: (R,): those of them that are asked about.
        places: (R,): of one outlook.
        since: ticks since it was drawn up.
    """
    windows, zones, task = places[0].windows, seen.up.shape[1], seen.task
    own = np.array([place.row for place in places])
    later = windows.of(own, (since + 1) * seen.gap / windows.step)
    step, hour = windows.step, 3600.0
    held, warming, work = seen.held[rows], seen.warming[rows], seen.work[rows]
    slack, changeover = (seen.time[rows] - work) / step, np.full(len(rows), task.changeover)
    haven = refuge(seen)[rows]
    firm, starts = _prices(seen)
    none = later.cost(later.none, slack - seen.gap / step)

    same = held == haven
    warm = np.where(same, warming, changeover)
    paid = firm[rows] * np.minimum(seen.gap, work + warm) / hour + np.where(same, 0.0, starts[rows, -1])
    on_demand = paid + later.cost(later.firm, slack - warm / step)

    same = held[:, None] == np.arange(zones)
    warm = np.where(same, warming[:, None], changeover[:, None])
    paid = seen.spot[rows] * np.minimum(seen.gap, work[:, None] + warm) / hour + np.where(same, 0.0, starts[rows, :-1])
    after = slack[:, None] - warm / step
    lost = np.stack([place.days.lost for place in places])
    gone = later.cost(later.none, after - task.cadence / 2 / step)
    spot = paid + (1 - lost) * later.cost(later.spot, after) + lost * gone
    return none, on_demand, spot


def _best(seen: Seen, rows: Ints, places: list[_Place], since: int) -> Ints:
    """(R,): what to hold: what is expected to cost least to the end; see ``_expected``."""
    none, on_demand, spot = _expected(seen, rows, places, since)
    same = seen.held[rows][:, None] == np.arange(seen.up.shape[1])
    haven, count = refuge(seen)[rows], np.arange(len(rows))
    missed = np.where(seen.up[rows], np.inf, spot).min(axis=1)
    spot = np.where(seen.up[rows], spot, np.inf)
    # Of two that cost the same, the one that is held.
    zone = np.where(same, spot * (1 - 1e-6), spot).argmin(axis=1)
    cheapest = spot[count, zone]
    some = np.where(cheapest <= on_demand, zone, haven)
    want: Ints = np.where(none < (1 - TRIFLE) * np.minimum(cheapest, on_demand), NONE, some)
    # It would run now, if there were capacity. How long there will be none, prices do not say: it is no time to wait.
    missed = (1 - TRIFLE) * missed
    short = (missed <= none) & (missed <= on_demand) & ((want == NONE) | ~seen.up[rows].any(axis=1))
    return np.where(short, UniformProgress().decide(seen)[rows], want)
