"""The ledger: every machine's time as rows in the column names of FOCUS 1.2, lost work in rows of its own.

FOCUS (the FinOps Open Cost and Usage Specification) asks that ``ListUnitPrice`` times ``PricingQuantity`` *equals*
``ListCost``. A third of an hour has no finite decimal, so time is counted in units of 1e-11 hours (36 ns, a sixth of
what a float can tell apart in today's seconds since 1970). Then quantities, products and sums are exact decimals, and
kept plus lost is the whole to the last digit.
"""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from typing import TYPE_CHECKING

from spotweld.costs.focus import Row
from spotweld.values.offers import CapacityType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spotweld.costs.usage import Usage

UNIT = Decimal("1e-11")
"""Hours: what machine time is counted in."""
EXACT = Context(prec=120, rounding=ROUND_HALF_EVEN)
"""Wide enough that no product or sum in a ledger is ever rounded."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def ledger(usages: Iterable[Usage]) -> list[Row]:
    """Price every machine's time: at most one row for what was kept and one for what was lost.

    The lost part is the tail of the machine's time: what came after the state that a later attempt resumed from. The
    same machine may be given several times (it was still running when it was first looked at): the last word counts,
    that is the closed one, else the one that reaches furthest. The order of ``usages`` does not matter.

    Clocks of different machines differ. A machine that ended before it started has used no time: it keeps one row of
    zero, so that it does not vanish. Lost time is never below zero nor above the machine's time.

    Raises:
        ValueError: a spot price and the on-demand price beside it are in different currencies.
    """
    last: dict[tuple[str, str, int, str], Usage] = {}
    for usage in usages:
        key = (usage.project, usage.run, usage.attempt, usage.machine)
        if key not in last or _finality(usage) > _finality(last[key]):
            last[key] = usage
    rows = [row for usage in last.values() for row in _rows(usage)]
    return sorted(rows, key=lambda row: (row.charge_period_start, row.run, row.attempt, row.resource_id, row.lost))


def hours(seconds: float) -> Decimal:
    """Seconds in hours, counted in ``UNIT``; below zero is zero."""
    with localcontext(EXACT):
        return max(Decimal(0), (Decimal(seconds) / 3600).quantize(UNIT))


def _finality(usage: Usage) -> tuple[bool, float, float]:
    return usage.closed, usage.ended, usage.lost_seconds


def _rows(usage: Usage) -> list[Row]:
    with localcontext(EXACT):
        whole = hours(usage.ended - usage.started)
        lost = min(hours(usage.lost_seconds), whole)
        kept = whole - lost
    end = max(usage.started, usage.ended)
    border = min(end, max(usage.started, end - usage.lost_seconds))
    rows = []
    if kept or not whole:
        rows.append(_row(usage, kept, usage.started, border, lost=False))
    if lost:
        rows.append(_row(usage, lost, border, end, lost=True))
    return rows


def _row(usage: Usage, quantity: Decimal, start: float, end: float, *, lost: bool) -> Row:
    offer = usage.offer
    spot = offer.capacity_type is CapacityType.SPOT
    # Subtracting is how two amounts of money are checked to be in one currency.
    unit_price, list_price = offer.hourly.amount, (usage.on_demand_hourly - offer.hourly * 0).amount
    with localcontext(EXACT):
        cost, list_cost, seconds = unit_price * quantity, list_price * quantity, quantity * 3600
    month = _moment(start).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    what = "work that was lost and done again" if lost else "work that was kept"
    return Row(
        billed_cost=cost,
        billing_account_id=usage.project,
        billing_account_name=usage.project,
        billing_currency=offer.hourly.currency,
        billing_period_end=month + timedelta(days=calendar.monthrange(month.year, month.month)[1]),
        billing_period_start=month,
        charge_category="Usage",
        charge_class=None,
        charge_description=f"{offer.machine_type} {offer.capacity_type} in {offer.zone}: {what}",
        charge_frequency="Usage-Based",
        charge_period_end=_moment(end),
        charge_period_start=_moment(start),
        consumed_quantity=seconds,
        consumed_unit="Seconds",
        contracted_cost=cost,
        contracted_unit_price=unit_price,
        effective_cost=cost,
        invoice_issuer_name=offer.provider,
        list_cost=list_cost,
        list_unit_price=list_price,
        pricing_category="Dynamic" if spot else "Standard",
        pricing_quantity=quantity,
        pricing_unit="Hours",
        provider_name=offer.provider,
        publisher_name=offer.provider,
        region_id=offer.region,
        availability_zone=offer.zone,
        resource_id=usage.machine,
        resource_type="Machine",
        service_category="Compute",
        service_name="Machines",
        service_subcategory="Virtual Machines",
        sku_id=f"{offer.machine_type}/{offer.capacity_type}",
        tags=dict(sorted(usage.labels.items())),
        run=usage.run,
        attempt=usage.attempt,
        work_kept=Decimal(0) if lost else seconds,
        work_lost=seconds if lost else Decimal(0),
        price_source=offer.price_source,
        estimated=not usage.closed,
    )


def _moment(seconds: float) -> datetime:
    return _EPOCH + timedelta(seconds=seconds)
