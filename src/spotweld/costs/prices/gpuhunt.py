"""The catalogues of gpuhunt (dstackai/gpuhunt): a line for the on-demand price, and another for the spot price."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotweld.costs.prices import cells as cell
from spotweld.costs.prices.gathering import Reading, csv_rows, gathered
from spotweld.costs.prices.table import Price
from spotweld.values.recordings import region_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

NEEDED = ("instance_name", "location", "price", "cpu", "memory", "gpu_count", "gpu_name", "spot")


def read_gpuhunt(content: bytes, file: str, provider: str | None, as_of: datetime | None, source: str) -> Reading:
    """The machines of a catalogue. All prices are in USD; memory is in GiB.

    Args:
        content: the file's bytes.
        file: its name, for refusals.
        provider: where the file has no column ``provider``.
        as_of: when the catalogue was made, if anybody knows.
        source: what each price says of where it comes from.

    Raises:
        ValueError: its header lacks a column.
    """

    def price(cells: Mapping[str, str]) -> Price:
        spot = cells["spot"].strip().lower()
        if spot not in {"true", "false"}:
            raise cell.BadCell("spot", f"neither True nor False: {cells['spot'].strip()[:40]!r}")
        location = cell.name(cells, "location")
        region, hourly = region_of(location), cell.hourly(cells, "price")
        vcpus, count = cell.amount(cells, "cpu"), cell.amount(cells, "gpu_count")
        return Price(
            provider=provider or cell.name(cells, "provider"),
            region=region,
            zone=None if region == location else location,
            machine_type=cell.name(cells, "instance_name"),
            vcpus=None if vcpus is None else float(vcpus),
            memory=cell.memory(cells, "memory"),
            accelerator=cell.perhaps(cells, "gpu_name"),
            accelerators=None if count is None else float(count),
            on_demand=hourly if spot == "false" else None,
            spot=hourly if spot == "true" else None,
            as_of=as_of,
            source=source,
        )

    return gathered(csv_rows(content, price, NEEDED if provider else (*NEEDED, "provider")), file)
