"""What a provider sells."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from spotweld.values.money import Money


class CapacityType(StrEnum):
    """How a machine is sold."""

    SPOT = "spot"
    ON_DEMAND = "on-demand"


class Disk(msgspec.Struct, frozen=True, order=True):
    """What a machine keeps its files on; it is charged as long as the machine."""

    size: int
    """Bytes."""
    monthly: Money
    """Of a GiB."""
    source: str
    """Where the price comes from."""


class Offer(msgspec.Struct, frozen=True, order=True):
    """One thing that can be rented, at the price asked now."""

    provider: str
    region: str
    zone: str
    machine_type: str
    capacity_type: CapacityType
    hourly: Money
    price_source: str
    """Where the price comes from, for the ledger: ``spotweld.yaml``, ``trace us-east-1a``, ..."""
    disk: Disk | None = None
    """What comes with the machine and is charged apart; None: its price has all that comes with it."""

    @property
    def place(self) -> str:
        """``local/a spot``: how progress lines name it."""
        return f"{self.zone} {self.capacity_type}"
