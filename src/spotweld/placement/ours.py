"""Our policy: hold what is expected to cost least to the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spotweld.placement.guarding import away, refuge
from spotweld.placement.lives import HOUR
from spotweld.placement.outlook import Outlook, look_ahead
from spotweld.placement.pricewindows import PriceWindows
from spotweld.placement.seeing import NONE, Policy
from spotweld.placement.windows import DAY, DAYS, rhythm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spotweld.placement.lives import Lives
    from spotweld.placement.market import Bools, Floats, Ints, Market
    from spotweld.placement.outlook import Costs
    from spotweld.placement.seeing import Past, Seen, Task

RENEWAL = 48 * HOUR
"""Seconds between two moments at which the outlook is drawn up anew: lives change slowly."""
MEMORY = 14 * 24 * HOUR
"""Seconds for which the past counts."""
RHYTHM = 0.05
"""The share of the price that the time of day has to foretell for its hours to be worth more than the ages of zones."""
SCARCE = 4.0
"""Times the share of time without any capacity it has to be, too: a plan of hours needs capacity in them."""


class Ours(Policy):
    """The least expected cost, by an outlook on what the past has shown so far.

    How long capacity lasts is what counts where prices are steady. Where they come and go with the time of day, what
    counts is to run in the cheap hours, and price windows are what is looked for.
    """

    name = "ours"

    def __init__(self) -> None:
        self._known: tuple[Past, Task] | None = None
        self._outlooks: dict[int, Outlook | None] = {}
        self._windows = PriceWindows()

    def decide(self, seen: Seen) -> Ints:
        want = np.full(len(seen.tick), NONE, dtype=np.int64)
        drawn = list(self._drawn(seen))
        windows = self._windows.decide(seen) if any(outlook is None for _, outlook in drawn) else want
        for rows, outlook in drawn:
            want[rows] = windows[rows] if outlook is None else _best(seen, rows, outlook)
        return want

    def reckoned(self, seen: Seen) -> dict[int, float]:
        ((rows, outlook),) = self._drawn(seen)
        if outlook is None:
            return self._windows.reckoned(seen)
        none, firm, spot = expected(seen, rows, outlook)
        costs = {int(zone): float(spot[0, zone]) for zone in np.flatnonzero(seen.up[0])}
        return costs | {NONE: float(none[0]), int(refuge(seen)[0]): float(firm[0])}

    def _drawn(self, seen: Seen) -> Iterator[tuple[Ints, Outlook | None]]:
        """The rows of jobs, with the outlook of each; None: prices have a rhythm."""
        if self._known is None or self._known[0] is not seen.past or self._known[1] != seen.task:
            # What was reckoned before is no state: it would be reckoned again.
            self._known, self._outlooks = (seen.past, seen.task), {}
        every = max(1, round(RENEWAL / seen.gap))
        since = seen.tick // every * every
        # Time goes on in all rows at once: what lies before the first is not asked for again.
        self._outlooks = {tick: known for tick, known in self._outlooks.items() if tick >= since.min()}
        for tick in np.unique(since):
            rows = np.flatnonzero(since == tick)
            if tick not in self._outlooks:
                self._outlooks[tick] = _outlook(seen, int(tick))
            yield rows, self._outlooks[tick]


def _outlook(seen: Seen, tick: int) -> Outlook | None:
    past, gang = seen.past.before(tick + 1, MEMORY), seen.task.gang
    if _is_rhythmic(seen.past.before(tick + 1, DAYS * DAY), gang):
        return None
    on_demand = float(past.on_demand.min()) * gang
    return look_ahead(past.up(gang)[:-1], past.gap, past.spot[-1] * gang, on_demand, seen.task)


def _is_rhythmic(past: Market, gang: int) -> bool:
    """Whether the hours of the day say more of what is to be paid than the ages of zones do."""
    want = 1.0 - float(past.up(gang).any(axis=1).mean())
    return rhythm(past) > max(RHYTHM, SCARCE * want)


def _best(seen: Seen, rows: Ints, outlook: Outlook) -> Ints:
    """(R,): what to hold."""
    none, firm, spot = expected(seen, rows, outlook)
    zone = spot.argmin(axis=1)
    cheapest = spot[np.arange(len(rows)), zone]
    other = np.where(firm < none, refuge(seen)[rows], NONE)
    return np.where(cheapest < np.minimum(none, firm), zone, other)


def expected(seen: Seen, rows: Ints, outlook: Outlook) -> tuple[Floats, Floats, Floats]:
    """What is expected to be paid to the end, if until the next step this is held.

    Args:
        seen: J jobs in Z zones.
        rows: (R,): those of them that are asked about.
        outlook: what is expected after the step.

    Returns:
        (R,) for nothing, (R,) for on-demand, (R, Z) for spot; infinite where it cannot be had.
    """
    asked = _Asked(seen, rows, outlook)
    return asked.none(), asked.firm(), asked.spot()


class _Asked:
    """R jobs, and what each choice makes of them. Times are steps."""

    def __init__(self, seen: Seen, rows: Ints, outlook: Outlook) -> None:
        self._outlook, self._plans, self._lives = outlook, outlook.plans, outlook.lives
        self._hour, self._rollback = outlook.step / HOUR, seen.task.cadence / 2 / outlook.step
        self._held, self._warming = seen.held[rows], seen.warming[rows] / outlook.step
        self._changeover = np.full(len(rows), seen.task.changeover / outlook.step)
        self._work, left = seen.work[rows] / outlook.step, seen.time[rows] / outlook.step
        self._slack, self._after = left - self._work, np.maximum(left - 1.0, 0.0)
        self._up, self._age = seen.up[rows], seen.age[rows]
        self._turns = _turns(self._lives, self._up, self._age)
        self._spot, self._firm = seen.spot[rows], seen.on_demand[rows]
        self._egress = away(seen)[rows] * seen.task.moving
        self._haven = refuge(seen)[rows] - self._up.shape[1]
        self._zone = np.broadcast_to(np.arange(self._up.shape[1]), self._up.shape)

    def none(self) -> Floats:
        """(R,): for holding nothing."""
        best: Floats = self._planned(self._plans.none, self._plans.none_down, self._slack - 1.0).min(axis=1)
        return best

    def firm(self) -> Floats:
        """(R,): for on-demand."""
        rows, held = np.arange(len(self._held)), self._held >= self._up.shape[1]
        warming = np.where(held, self._warming, self._changeover)
        paid = self._firm[rows, self._haven] * self._hour * np.minimum(1.0, self._work + warming)
        paid = paid + np.where(held, 0.0, self._egress[rows, self._haven])
        later = self._planned(self._plans.firm, self._plans.firm_down, self._slack - warming).min(axis=1)
        costs: Floats = paid + later
        return costs

    def spot(self) -> Floats:
        """(R, Z): for spot."""
        same = self._held[:, None] == self._zone
        warming = np.where(same, self._warming[:, None], self._changeover[:, None])
        slack = self._slack[:, None] - warming
        paid = self._spot * self._hour * np.minimum(1.0, self._work[:, None] + warming)
        paid = paid + np.where(same, 0.0, self._egress)
        (_, _), (_, _), (_, lost) = self._turns
        later = lost * self._lost(same, slack - self._rollback)
        for age, share in self._turns[:2]:
            later = later + share * self._at(self._plans.spot, (self._zone, np.where(self._up, age, 0)), slack)
        costs: Floats = np.where(self._up, paid + later, np.inf)
        return costs

    def _lost(self, same: Bools, slack: Floats) -> Floats:
        """(R, Z): the gang in this zone is lost within the step, and the others are as they are now."""
        others = np.where(same, self._others(self._warming), self._others(self._changeover))
        gone = np.full(self._up.shape, len(self._lives.edges))
        costs = np.minimum(others, self._at(self._plans.none, (self._zone, gone), slack))
        alone = self._up.sum(axis=1, keepdims=True) == self._up
        first = self._at(self._plans.none_down, (np.zeros_like(gone),), slack)
        lost: Floats = np.where(alone, np.minimum(costs, first), costs)
        return lost

    def _others(self, warming: Floats) -> Floats:
        """(R, Z): nothing is held, and a zone other than this one is planned for; infinite if there is none."""
        costs = self._planned(self._plans.none, self._plans.none_down, self._slack - warming - self._rollback)
        two = np.partition(np.pad(costs, ((0, 0), (0, 1)), constant_values=np.inf), 1, axis=1)
        others: Floats = np.where(costs == two[:, :1], two[:, 1:2], two[:, :1])
        return others

    def _planned(self, plan: Costs, all_down: Costs, slack: Floats) -> Floats:
        """(R, Z): without spot, planning for each of the zones."""
        each = np.zeros(self._up.shape)
        for state, share in self._turns:
            each += share * self._at(plan, (self._zone, state), slack[:, None])
        age = self._outlook.all_zones.age(self._age.min(axis=1))[:, None]
        first = self._at(all_down, (age,), slack[:, None])
        planned: Floats = np.where(self._up.any(axis=1, keepdims=True), each, np.minimum(each, first))
        return planned

    def _at(self, plan: Costs, where: tuple[Ints, ...], slack: Floats) -> Floats:
        """After the step."""
        after = np.broadcast_to(self._after[:, None], slack.shape)
        return self._outlook.at(plan, after, slack, where)


def _turns(lives: Lives, up: Bools, age: Floats) -> tuple[tuple[Ints, Floats], ...]:
    """The zones' states (R, Z) a step later, each with its share: of the same age, of the next, turned."""
    count, zone, which = len(lives.edges), np.arange(up.shape[1])[None, :], lives.age(age)
    turned = np.where(up, lives.up[zone, which], lives.down[zone, which])
    state, older = np.where(up, which, count + which), lives.older[which]
    aged = state + (which < count - 1)
    return (
        (state, (1 - turned) * (1 - older)),
        (aged, (1 - turned) * older),
        (np.where(up, count, 0), turned),
    )
