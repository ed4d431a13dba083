"""The ledger: every machine's time as rows in the column names of FOCUS 1.2, lost work in rows of its own.

FOCUS (the FinOps Open Cost and Usage Specification) asks that ``ListUnitPrice`` times ``PricingQuantity`` *equals*
``ListCost``. A third of an hour has no finite decimal, so time is counted in units of 1e-11 hours (36 ns). Then
quantities, products and sums are exact decimals, and kept plus lost is the whole to the last digit.
"""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from typing import TYPE_CHECKING

from spotweld.costs.billing import charged, is_free
from spotweld.costs.focus import Row
from spotweld.costs.periods import periods
from spotweld.values.offers import CapacityType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spotweld.costs.periods import Period
    from spotweld.costs.usage import Since, Usage
    from spotweld.values.money import Money

UNIT = Decimal("1e-11")
"""Hours: what machine time is counted in."""
EXACT = Context(prec=120, rounding=ROUND_HALF_EVEN)
"""Wide enough that no product or sum in a ledger is ever rounded."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def ledger(usages: Iterable[Usage]) -> list[Row]:
    """Price every machine's time: a row for each charge period, at least one for each machine.

    The lost part is the tail of the machine's time: what came after the state that a later attempt resumed from. The
    same machine may be given several times (it was still running when it was first looked at): the last word counts,
    that is what the provider says, else the closed one, else the one that reaches furthest. The order of ``usages``
    does not matter.

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
    return sorted(rows, key=lambda row: (row.charge_period_start, *row.key))


def cost(usage: Usage) -> Money:
    """What the rows of a machine's time come to, as billed. Exact.

    Raises:
        ValueError: its price changed its currency.
    """
    total = usage.offer.hourly * 0
    if is_free(usage):
        return total
    cut = periods(usage)
    with localcontext(EXACT):
        for period, units in zip(cut, charged(usage, cut), strict=True):
            total += period.price.hourly * (units * UNIT)
    return total


def _finality(usage: Usage) -> tuple[bool, bool, float, float, tuple[Since, ...]]:
    return usage.settled, usage.closed, usage.ended, usage.lost_seconds, tuple(sorted(usage.prices))


def _rows(usage: Usage) -> list[Row]:
    cut, free = periods(usage), is_free(usage)
    return [_row(usage, *one, free=free) for one in zip(cut, charged(usage, cut), strict=True)]


def _row(usage: Usage, period: Period, units: int, *, free: bool) -> Row:
    offer, price, lost = usage.offer, period.price, period.lost
    spot = offer.capacity_type is CapacityType.SPOT
    # Subtracting is how two amounts of money are checked to be in one currency.
    list_price = (price.on_demand_hourly - price.hourly * 0).amount
    unit_price = Decimal(0) if free else price.hourly.amount
    with localcontext(EXACT):
        quantity, seconds = units * UNIT, period.units * UNIT * 3600
        cost, list_cost = unit_price * quantity, list_price * quantity
    start = _moment(period.start)
    month = start.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    what = "work that was lost and done again" if lost else "work that was kept"
    if free:
        what += "; free, as the provider took the machine so early"
    return Row(
        billed_cost=cost,
        billing_account_id=usage.project,
        billing_account_name=usage.project,
        billing_currency=price.hourly.currency,
        billing_period_end=month + timedelta(days=calendar.monthrange(month.year, month.month)[1]),
        billing_period_start=month,
        charge_category="Usage",
        charge_class=None,
        charge_description=f"{offer.machine_type} {offer.capacity_type} in {offer.zone}: {what}",
        charge_frequency="Usage-Based",
        charge_period_end=_moment(period.end),
        charge_period_start=start,
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
        sku_price_id=f"{offer.zone}/{offer.machine_type}/{offer.capacity_type}",
        tags=dict(sorted(usage.labels.items())),
        run=usage.run,
        attempt=usage.attempt,
        work_kept=Decimal(0) if lost else seconds,
        work_lost=seconds if lost else Decimal(0),
        price_source=price.source,
        estimated=not usage.closed,
        machine_type=offer.machine_type,
    )


def _moment(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
