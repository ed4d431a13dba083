"""Google sells the parts of a machine: its price is vCPUs, memory and GPUs, each times what one of them costs.

Which parts a machine series is made of: https://cloud.google.com/compute/vm-instance-pricing; which machines come with
local SSDs: https://cloud.google.com/compute/docs/disks/local-ssd.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from spotweld.costs.prices.gathering import Reading, Refused
from spotweld.costs.prices.table import Price
from spotweld.values.money import Money
from spotweld.values.sizes import GIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime


class Part(msgspec.Struct, frozen=True):
    """Something that has a price of its own, as the catalogue names it: ``N1 Predefined Instance Core``."""

    name: str
    spot: bool


class Unpriced(msgspec.Struct, frozen=True):
    """Why a part has no price that counts."""

    reason: str


class _Series(msgspec.Struct, frozen=True):
    name: str
    gpu: str = ""


class _Contents(msgspec.Struct, frozen=True):
    vcpus: float | None
    memory: int | None
    accelerators: float


_SERIES = {
    "n1": _Series("N1 Predefined Instance"),
    "n2": _Series("N2 Instance"),
    "n2d": _Series("N2D AMD Instance"),
    "n4": _Series("N4 Instance"),
    "e2": _Series("E2 Instance"),
    "c2": _Series("Compute optimized"),
    "c2d": _Series("C2D AMD Instance"),
    "c3": _Series("C3 Instance"),
    "c3d": _Series("C3D Instance"),
    "c4": _Series("C4 Instance"),
    "t2a": _Series("T2A Arm Instance"),
    "t2d": _Series("T2D AMD Instance"),
    "a2": _Series("A2 Instance", "Nvidia Tesla A100 GPU"),
    "g2": _Series("G2 Instance", "Nvidia L4 GPU"),
}
# Neither custom machines, which cost more, nor such with a shared core (e2-medium), which are billed for a part of it,
# nor -metal and -lssd. a2-ultragpu has a local SSD for each GPU.
_PLAIN = re.compile("([a-z][0-9][a-z]?)-(?:standard|highmem|highcpu|highgpu|megagpu)-[0-9]+g?")
_WITH_SSD = re.compile("a2-ultragpu-.*|a3-.*|a4x?-.*|z3-.*|.*-lssd(?:-.*)?")


def composed(
    parts: Mapping[Part, Decimal | Unpriced],
    known: Iterable[Price],
    region: str,
    now: datetime,
    source: str,
    machine_type: str | None = None,
) -> Reading:
    """The prices of Google's machine types in a region. A type of which one part is not known is refused, by name.

    Args:
        parts: what an hour of a vCPU, of a GiB and of a GPU costs in the region, in USD.
        known: prices that say what is in machines.
        region: such as ``us-central1``.
        now: the time, which is the age of the prices.
        source: where the parts' prices come from.
        machine_type: only this one. None: all that are known.
    """
    contents: dict[str, set[_Contents]] = {} if machine_type is None else {machine_type: set()}
    for price in known:
        if price.provider == "gcp" and machine_type in {None, price.machine_type}:
            there = contents.setdefault(price.machine_type, set())
            # To an n1 any GPU can be attached; some lists then have it under the bare machine's name.
            if price.vcpus is not None and not (price.accelerators and price.machine_type.startswith("n1-")):
                there.add(_Contents(price.vcpus, price.memory, price.accelerators or 0))
    prices: list[Price] = []
    refused: list[Refused] = []
    for name, said in sorted(contents.items()):
        needed = _needed(name, said)
        if isinstance(needed, Unpriced):
            refused.append(Refused(source, name, needed.reason))
            continue
        on_demand, spot = (_sum(parts, needed, spot=spot) for spot in (False, True))
        refused += [
            Refused(source, f"{name}, {what}", half.reason)
            for what, half in (("on-demand", on_demand), ("spot", spot))
            if isinstance(half, Unpriced)
        ]
        halves = [None if isinstance(half, Unpriced) else half for half in (on_demand, spot)]
        if any(halves):
            prices.append(
                Price("gcp", region, None, name, on_demand=halves[0], spot=halves[1], as_of=now, source=source)
            )
    return Reading(tuple(prices), tuple(refused))


def _needed(name: str, said: set[_Contents]) -> dict[str, Decimal] | Unpriced:
    """How many of which part a machine type has, by the part's name."""
    if _WITH_SSD.fullmatch(name):
        return Unpriced("it comes with local SSDs, whose price is not put together here")
    found = _PLAIN.fullmatch(name)
    series = _SERIES.get(found[1]) if found else None
    if series is None:
        return Unpriced("nobody here knows of which parts of the catalogue it is made")
    if not said:
        return Unpriced("nobody says what is in it: keep a price list that does")
    if len(said) > 1:
        return Unpriced("what is in it is said in two ways")
    (inside,) = said
    if not inside.vcpus or not inside.memory:
        return Unpriced("its vCPUs or its memory are not known")
    if bool(inside.accelerators) != bool(series.gpu):
        return Unpriced(f"{inside.accelerators:g} accelerators are said to be in it, which cannot be")
    # Bytes are kept whole, while lists say GiB with a few digits: 1.8 GiB is no whole number of bytes.
    memory = round(Decimal(inside.memory) / GIB, 6)
    return dict(_counted(series, Decimal(str(inside.vcpus)), memory, Decimal(str(inside.accelerators))))


def _counted(series: _Series, vcpus: Decimal, memory: Decimal, gpus: Decimal) -> Iterator[tuple[str, Decimal]]:
    yield f"{series.name} Core", vcpus
    yield f"{series.name} Ram", memory
    if series.gpu:
        yield series.gpu, gpus


def _sum(parts: Mapping[Part, Decimal | Unpriced], needed: Mapping[str, Decimal], *, spot: bool) -> Money | Unpriced:
    total = Decimal(0)
    for name, count in needed.items():
        price = parts.get(Part(name, spot), Unpriced("the catalogue has no price there"))
        if isinstance(price, Unpriced):
            return Unpriced(f"{name}: {price.reason}")
        total += price * count
    return Money(total.normalize())
