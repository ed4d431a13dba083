"""The catalogues of SkyPilot (skypilot-org/skypilot-catalog): one CSV a cloud, with on-demand and spot in each zone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from spotweld.costs.prices import cells as cell
from spotweld.costs.prices.gathering import Reading, csv_rows, gathered
from spotweld.costs.prices.table import Price

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

NEEDED = ("InstanceType", "vCPUs", "MemoryGiB", "AcceleratorName", "AcceleratorCount", "Region", "Price", "SpotPrice")
# Google's machine families that come with accelerators, whose price is listed in lines of their own.
_HOST = re.compile(r"(a[2-9]|g[2-9])x?-")
_STAND_IN = 700


def read_skypilot(content: bytes, file: str, provider: str, as_of: datetime | None, source: str) -> Reading:
    """The machines of a catalogue. All prices are in USD.

    Google's accelerators stand in lines without a machine type there, and hosts such as ``a2-highgpu-1g`` without the
    price of what is in them. Both are refused: half a machine's price is no machine's price. A TPU is a machine of its
    own: its machine type is its name.

    Raises:
        ValueError: its header lacks a column.
    """

    def price(cells: Mapping[str, str]) -> Price:
        accelerator, on_demand = cell.perhaps(cells, "AcceleratorName"), cell.hourly(cells, "Price")
        if accelerator and accelerator.startswith("tpu-"):
            if on_demand and on_demand.amount == _STAND_IN:
                raise cell.BadCell("Price", f"{_STAND_IN} stands there for TPUs of all sizes where no price is known")
            machine_type = accelerator
        elif accelerator and not cells["InstanceType"].strip():
            raise cell.BadCell("InstanceType", "the price of an accelerator alone, without a machine")
        else:
            machine_type = cell.name(cells, "InstanceType")
        if provider == "gcp" and accelerator is None and _HOST.match(machine_type):
            raise cell.BadCell("Price", "the price of the host alone, without its accelerators")
        vcpus, count = cell.amount(cells, "vCPUs"), cell.amount(cells, "AcceleratorCount")
        return Price(
            provider=provider,
            region=cell.name(cells, "Region"),
            zone=cell.perhaps(cells, "AvailabilityZone"),
            machine_type=machine_type,
            arch=cell.perhaps(cells, "Arch"),
            vcpus=None if vcpus is None else float(vcpus),
            memory=cell.memory(cells, "MemoryGiB"),
            accelerator=accelerator,
            accelerators=float(count) if accelerator and count is not None else 0 if accelerator is None else None,
            on_demand=on_demand,
            spot=cell.hourly(cells, "SpotPrice"),
            as_of=as_of,
            source=source,
        )

    return gathered(csv_rows(content, price, NEEDED), file)
