"""The ledger: every machine's time as rows in the column names of FOCUS 1.2, lost work in rows of its own.

FOCUS (the FinOps Open Cost and Usage Specification) asks that ``ListUnitPrice`` times ``PricingQuantity`` *equals*
``ListCost``. A third of an hour has no finite decimal, so time is counted in units of 1e-11 hours (36 ns). Then
quantities, products and sums are exact decimals, and kept plus lost is the whole to the last digit.
"""

from __future__ import annotations

from decimal import localcontext
from typing import TYPE_CHECKING

from msgspec.structs import replace

from spotweld.costs.billing import charged, is_free
from spotweld.costs.charges import DISK, EXACT, MACHINE, UNIT, Charge, gib_months, row
from spotweld.costs.periods import periods
from spotweld.values.offers import CapacityType
from spotweld.values.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from spotweld.costs.focus import Row
    from spotweld.costs.periods import Period
    from spotweld.costs.usage import Since, Usage
    from spotweld.values.money import Money
    from spotweld.values.offers import Disk


def ledger(usages: Iterable[Usage]) -> list[Row]:
    """Price every machine's time, and its disk's: a row for each charge period, at least one for each machine.

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
    rows = [row(charge) for usage in last.values() for charge in _charges(usage)]
    return sorted(rows, key=lambda one: (one.charge_period_start, *one.key))


def cost(usage: Usage) -> Money:
    """What the rows of a machine's time come to, as billed. Exact.

    Raises:
        ValueError: its price changed its currency.
    """
    total = usage.offer.hourly * 0
    with localcontext(EXACT):
        for charge in _charges(usage):
            total += charge.price * (charge.units * UNIT)
    return total


def _finality(usage: Usage) -> tuple[bool, bool, float, float, tuple[Since, ...]]:
    return usage.settled, usage.closed, usage.ended, usage.lost_seconds, tuple(sorted(usage.prices))


def _charges(usage: Usage) -> Iterator[Charge]:
    cut, free = periods(usage), is_free(usage)
    for period, units in zip(cut, charged(usage, cut), strict=True):
        yield _machine(usage, period, units, free=free)
        if usage.offer.disk is not None:
            yield _disk(usage, usage.offer.disk, period)


def _machine(usage: Usage, period: Period, units: int, *, free: bool) -> Charge:
    offer, price = usage.offer, period.price
    what = "work that was lost and done again" if period.lost else "work that was kept"
    if free:
        what += "; free, as the provider took the machine so early"
    with localcontext(EXACT):
        seconds = period.units * UNIT * 3600
    return Charge(
        sort=MACHINE,
        start=period.start,
        end=period.end,
        units=units,
        price=price.hourly * 0 if free else price.hourly,
        list_price=price.on_demand_hourly,
        source=price.source,
        project=usage.project,
        run=usage.run,
        attempt=usage.attempt,
        resource=usage.machine,
        what=f"{offer.machine_type} {offer.capacity_type} in {offer.zone}: {what}",
        sku=f"{offer.machine_type}/{offer.capacity_type}",
        provider=offer.provider,
        region=offer.region,
        zone=offer.zone,
        labels=usage.labels,
        seconds=seconds,
        lost=period.lost,
        dynamic=offer.capacity_type is CapacityType.SPOT,
        estimated=not usage.closed,
        machine_type=offer.machine_type,
    )


def _disk(usage: Usage, disk: Disk, period: Period) -> Charge:
    """A disk is there as long as its machine, and charged even where that is free."""
    machine = _machine(usage, period, 0, free=False)
    return replace(
        machine,
        sort=DISK,
        units=gib_months(disk.size, period.start, period.end),
        price=disk.monthly,
        list_price=disk.monthly,
        source=disk.source,
        resource=f"{usage.machine}/disk",
        what=f"disk of {format_size(disk.size)} of a {machine.what}",
        sku="disk",
        dynamic=False,
    )
