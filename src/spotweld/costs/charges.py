"""What is charged for, in the words of FOCUS 1.2, and how a charge becomes a row of the ledger.

Quantities are counted in units of 1e-11: of an hour (36 ns), of a GiB (a hundredth of a byte) and of a GiB and month.
So quantities, products and sums are exact decimals.
"""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from typing import Literal

import msgspec

from spotweld.costs.focus import Row
from spotweld.values.money import Money
from spotweld.values.sizes import GIB

UNIT = Decimal("1e-11")
"""What quantities are counted in: of hours, GiB, and GiB and months."""
EXACT = Context(prec=120, rounding=ROUND_HALF_EVEN)
"""Wide enough that no product or sum in a ledger is ever rounded."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PER_UNIT = 10**11


class Sort(msgspec.Struct, frozen=True):
    """A sort of things that are charged for."""

    resource: str
    category: Literal["Compute", "Storage", "Networking"]
    service: str
    subcategory: str
    unit: Literal["Hours", "GiB-Months", "GiB"]


MACHINE = Sort("Machine", "Compute", "Machines", "Virtual Machines", "Hours")
DISK = Sort("Disk", "Storage", "Disks", "Block Storage", "GiB-Months")
STORE = Sort("Store", "Storage", "Stores", "Object Storage", "GiB-Months")
REGISTRY = Sort("Registry", "Storage", "Registries", "Storage Platform", "GiB-Months")
EGRESS = Sort("Egress", "Networking", "Egress", "Network Connectivity", "GiB")


class Charge(msgspec.Struct, frozen=True):
    """One row, before it is priced."""

    sort: Sort
    start: int
    """Microseconds since 1970 UTC."""
    end: int
    units: int
    """The quantity, in ``UNIT``."""
    price: Money
    """Of a whole unit of the sort."""
    list_price: Money
    source: str
    project: str
    run: str
    attempt: int
    resource: str
    what: str
    """For people."""
    sku: str
    provider: str
    region: str | None
    zone: str | None
    labels: dict[str, str]
    seconds: Decimal = Decimal(0)
    """Of machine time."""
    lost: bool = False
    dynamic: bool = False
    estimated: bool = False
    machine_type: str | None = None


def row(charge: Charge) -> Row:
    """Price a charge.

    Raises:
        ValueError: price and list price are in different currencies.
    """
    # Subtracting is how two amounts of money are checked to be in one currency.
    unit_price, list_price = charge.price.amount, (charge.list_price - charge.price * 0).amount
    with localcontext(EXACT):
        quantity = charge.units * UNIT
        cost, list_cost = unit_price * quantity, list_price * quantity
    start = _moment(charge.start)
    month = start.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    sort = charge.sort
    return Row(
        billed_cost=cost,
        billing_account_id=charge.project,
        billing_account_name=charge.project,
        billing_currency=charge.price.currency,
        billing_period_end=month + timedelta(days=calendar.monthrange(month.year, month.month)[1]),
        billing_period_start=month,
        charge_category="Usage",
        charge_class=None,
        charge_description=charge.what,
        charge_frequency="Usage-Based",
        charge_period_end=_moment(charge.end),
        charge_period_start=start,
        consumed_quantity=charge.seconds if sort is MACHINE else quantity,
        consumed_unit="Seconds" if sort.unit == "Hours" else sort.unit,
        contracted_cost=cost,
        contracted_unit_price=unit_price,
        effective_cost=cost,
        invoice_issuer_name=charge.provider,
        list_cost=list_cost,
        list_unit_price=list_price,
        pricing_category="Dynamic" if charge.dynamic else "Standard",
        pricing_quantity=quantity,
        pricing_unit=sort.unit,
        provider_name=charge.provider,
        publisher_name=charge.provider,
        region_id=charge.region,
        availability_zone=charge.zone,
        resource_id=charge.resource,
        resource_type=sort.resource,
        service_category=sort.category,
        service_name=sort.service,
        service_subcategory=sort.subcategory,
        sku_id=charge.sku,
        sku_price_id=f"{charge.zone or charge.region or charge.provider}/{charge.sku}",
        tags=dict(sorted(charge.labels.items())),
        run=charge.run,
        attempt=charge.attempt,
        work_kept=Decimal(0) if charge.lost else charge.seconds,
        work_lost=charge.seconds if charge.lost else Decimal(0),
        price_source=charge.source,
        estimated=charge.estimated,
        machine_type=charge.machine_type,
    )


def gib(size: int) -> int:
    """Bytes in ``UNIT`` of a GiB, to the nearest."""
    return (size * _PER_UNIT + GIB // 2) // GIB


def gib_months(size: int, start: int, end: int) -> int:
    """So many bytes for a while, in ``UNIT`` of a GiB and month, months as long as they are.

    What a while within a month is cut into adds up to the whole.

    Args:
        size: bytes.
        start: microseconds since 1970 UTC.
        end: in the same month, or its end.
    """
    first = _moment(start).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    begin = round((first - _EPOCH) / timedelta(microseconds=1))
    month = calendar.monthrange(first.year, first.month)[1] * 86_400_000_000

    def until(moment: int) -> int:
        return size * (moment - begin) * _PER_UNIT // (GIB * month)

    return until(end) - until(start)


def _moment(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
