"""What was spent of a budget, moment after moment: pure, on rows of the ledger."""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import TYPE_CHECKING

import msgspec

from spotweld.costs.budgets import Standing, standing, within
from spotweld.costs.charges import EXACT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from spotweld.costs.focus import Row
    from spotweld.project.nouns import Budget
    from spotweld.values.money import Money


class Burndown(msgspec.Struct, frozen=True):
    """How a budget came to stand as it does."""

    stands: Standing
    now: float
    """Seconds since 1970 UTC, as all moments here."""
    points: tuple[tuple[float, Decimal], ...]
    """Moments, and what was spent until then in the budget's currency; both rise. The first is 0, the last is
    ``stands.spent`` exactly, now."""
    stops: tuple[float, ...]
    """When rounds of this period stopped runs."""

    @property
    def at_end(self) -> Money | None:
        """What will be left when the period ends, at the rate of now; None: it does not end."""
        if self.stands.until is None:
            return None
        with localcontext(EXACT):
            hours = Decimal(self.stands.until - self.now) / 3600
            return self.stands.left - self.stands.hourly * hours


def burndown(budget: Budget, rows: Sequence[Row], rounds: Iterable[float], now: float) -> Burndown:
    """A budget over its present period, or over its life if that never ends.

    Args:
        budget: which.
        rows: those that it covers, as for ``standing``.
        rounds: when it stopped runs, in any period.
        now: seconds since 1970 UTC.
    """
    stands = standing(budget, rows, now)
    stops = tuple(sorted(at for at in rounds if stands.since is None or at >= stands.since))
    return Burndown(stands, now, _points(stands, rows, now), stops)


def _points(stands: Standing, rows: Iterable[Row], now: float) -> tuple[tuple[float, Decimal], ...]:
    """A row is spent at the end of its charge period, so that no digit is lost in cutting it.

    The line between two points is as steep as money was spent, but for machines that began or ended within an hour of
    one another. Where nothing ran it is level.
    """
    spans = []
    with localcontext(EXACT):
        for row in rows:
            cost = within(row, stands.since, stands.until)
            if row.billing_currency == stands.spent.currency and cost:
                start, end = row.charge_period_start.timestamp(), row.charge_period_end.timestamp()
                if stands.since is not None:
                    start, end = max(start, stands.since), max(end, stands.since)
                # Clocks of machines differ from ours: nothing is drawn after now.
                spans.append((min(start, now), min(end, now), cost))
        spans.sort()
        began = stands.since if stands.since is not None else (spans[0][0] if spans else now)
        spent: dict[float, Decimal] = {began: Decimal(0)}
        reach = began
        for start, end, cost in spans:
            if start > reach:
                spent[start] = Decimal(0)
            spent[end] = spent.get(end, Decimal(0)) + cost
            reach = max(reach, end)
        spent.setdefault(now, Decimal(0))
        points, total = [], Decimal(0)
        for at in sorted(spent):
            total += spent[at]
            points.append((at, total))
    # What was spent in no time, at the very beginning, is a step there.
    return tuple(points) if not points[0][1] else ((began, Decimal(0)), *points)
