"""What a provider sells."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from spotweld.values.money import Money


class CapacityType(StrEnum):
    """How a machine is sold."""

    SPOT = "spot"
    ON_DEMAND = "on-demand"


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

    @property
    def place(self) -> str:
        """``local/a spot``: how progress lines name it."""
        return f"{self.zone} {self.capacity_type}"
