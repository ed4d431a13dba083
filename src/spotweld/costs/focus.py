"""One row of the ledger in the column names of FOCUS 1.2, and as CSV."""

from __future__ import annotations

import csv
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

_OURS = ("run", "attempt", "work_kept", "work_lost", "price_source", "estimated", "machine_type")


def _column(field: str) -> str:
    """``billed_cost`` is ``BilledCost``; columns that FOCUS does not know start with ``x_``, as it asks."""
    return ("x_" if field in _OURS else "") + "".join(word.capitalize() for word in field.split("_"))


class Row(msgspec.Struct, frozen=True, rename=_column):
    """A charge period of a machine, of a disk, of what lies in a store, or of what moved between regions.

    Of a machine and its disk it is a stretch of time, in one hour, at one price, that was either kept or lost.

    Encoded (JSON, CSV), each field has its FOCUS name: ``billed_cost`` is ``BilledCost``. ``list_*`` is the on-demand
    price of the same machine, which is how the clouds fill it for spot; ``billed``, ``contracted`` and ``effective``
    are what is asked for this machine, for nothing is amortised.
    """

    billed_cost: Decimal
    billing_account_id: str
    billing_account_name: str
    billing_currency: str
    billing_period_end: datetime
    billing_period_start: datetime
    charge_category: Literal["Usage"]
    charge_class: None
    charge_description: str
    charge_frequency: Literal["Usage-Based"]
    charge_period_end: datetime
    charge_period_start: datetime
    consumed_quantity: Decimal
    consumed_unit: Literal["Seconds", "GiB-Months", "GiB"]
    contracted_cost: Decimal
    contracted_unit_price: Decimal
    effective_cost: Decimal
    invoice_issuer_name: str
    list_cost: Decimal
    list_unit_price: Decimal
    pricing_category: Literal["Dynamic", "Standard"]
    pricing_quantity: Decimal
    pricing_unit: Literal["Hours", "GiB-Months", "GiB"]
    provider_name: str
    publisher_name: str
    region_id: str | None
    availability_zone: str | None
    resource_id: str
    resource_type: str
    service_category: Literal["Compute", "Storage", "Networking"]
    service_name: str
    service_subcategory: str
    sku_id: str
    sku_price_id: str
    tags: dict[str, str]
    run: str
    attempt: int
    work_kept: Decimal
    """Seconds of this row whose work was kept; of what is no machine and no disk: 0."""
    work_lost: Decimal
    """Seconds of this row whose work was thrown away."""
    price_source: str
    estimated: bool
    """True while it still grows."""
    machine_type: str | None

    @property
    def key(self) -> tuple[str, str, int, str, datetime]:
        """What no other row of a ledger has: whose it is, of which machine, and from when."""
        return self.billing_account_id, self.run, self.attempt, self.resource_id, self.charge_period_start

    @property
    def rented(self) -> bool:
        """Whether it is a machine or comes with one: on demand it would be needed as well."""
        return self.resource_type in {"Machine", "Disk"}

    @property
    def lost(self) -> bool:
        """Whether this row is lost work."""
        return self.work_lost > 0


COLUMNS = tuple(field.encode_name for field in msgspec.structs.fields(Row))
"""The header line."""


def write_csv(rows: Iterable[Row], file: TextIO) -> None:
    """Write a header and one line for each row. Open ``file`` with ``newline=""``. Tags are a JSON object."""
    out = csv.writer(file, lineterminator="\n")
    out.writerow(COLUMNS)
    for row in rows:
        out.writerow([_cell(getattr(row, field)) for field in row.__struct_fields__])


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case Decimal():
            return plain(value)
        case datetime():
            return value.isoformat(timespec="microseconds").replace("+00:00", "Z")
        case dict():
            return msgspec.json.encode(value).decode()
        case _:
            return str(value)


def plain(amount: Decimal) -> str:
    """All digits that mean something, without an exponent: ``0.12``, ``1200``."""
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
