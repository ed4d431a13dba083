"""Sums over a ledger, one for each currency: what was paid, what of it was lost, and what on-demand would have cost."""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import TYPE_CHECKING

import msgspec

from spotweld.costs.charges import EXACT
from spotweld.values.money import Money

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spotweld.costs.focus import Row


class Total(msgspec.Struct, frozen=True):
    """What rows of one currency come to."""

    billed: Money
    """All that was paid."""
    kept: Money
    """What was paid for work that was kept."""
    lost: Money
    """What was paid for work that was thrown away. ``kept`` and ``lost`` are ``billed`` exactly."""
    spot: Money
    """The part of ``kept`` that went to spot machines."""
    on_demand: Money
    """What the kept time of machines and disks would have cost on demand, where nothing is interrupted and so nothing
    is lost, kept in a store or moved."""
    savings: Money
    """``on_demand`` less ``billed``: net of lost work. Below zero when interruptions ate up the discount."""
    seconds: Decimal
    """Machine time."""
    lost_seconds: Decimal
    estimated: bool
    """Whether something was still growing."""

    @property
    def saved_share(self) -> float | None:
        """The savings as a share of what on-demand would have cost; None: on-demand would have cost nothing."""
        return float(self.savings.amount / self.on_demand.amount) if self.on_demand.amount else None


def total(rows: Iterable[Row]) -> tuple[Total, ...]:
    """Sum up, by currency: amounts of different currencies never meet. No rows, no totals.

    What on-demand would have cost counts the restarts among the kept time, so it is slightly high for a run that was
    interrupted very often.
    """
    by_currency: dict[str, list[Row]] = {}
    for row in rows:
        by_currency.setdefault(row.billing_currency, []).append(row)
    with localcontext(EXACT):
        return tuple(_sum(currency, by_currency[currency]) for currency in sorted(by_currency))


def _sum(currency: str, rows: list[Row]) -> Total:
    def money(amounts: Iterable[Decimal]) -> Money:
        return Money(sum(amounts, Decimal(0)), currency)

    billed = money(row.billed_cost for row in rows)
    machines = [row for row in rows if row.consumed_unit == "Seconds"]
    on_demand = money(row.list_cost for row in rows if row.rented and not row.lost)
    return Total(
        billed=billed,
        kept=money(row.billed_cost for row in rows if not row.lost),
        lost=money(row.billed_cost for row in rows if row.lost),
        spot=money(row.billed_cost for row in rows if row.pricing_category == "Dynamic" and not row.lost),
        on_demand=on_demand,
        savings=on_demand - billed,
        seconds=sum((row.consumed_quantity for row in machines), Decimal(0)),
        lost_seconds=sum((row.work_lost for row in machines), Decimal(0)),
        estimated=any(row.estimated for row in rows),
    )
