"""The ``pricing.yml`` of google-cloud-pricing-cost-calculator: Google's machine types, each with a price a region."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from spotweld.costs.prices import cells as cell
from spotweld.costs.prices.gathering import Reading, Refused, gathered
from spotweld.costs.prices.table import Price

if TYPE_CHECKING:
    from collections.abc import Iterator

# The file is made by a program: maps of one scalar a line, two spaces a level. Read by lines, a refusal can name one,
# and half a file is good as far as it goes.
_LINE = re.compile(r"(?P<indent>(?:  )*)(?P<key>[A-Za-z0-9][A-Za-z0-9_.-]*):(?: +(?P<value>\S.*?))? *")
_ACCELERATOR = re.compile(r"[a-z]{1,2}[0-9]+(?:-.*)?")

Leaf = tuple[int, tuple[str, ...], str]
"""The line of a value, the keys above it, and its text."""


def read_gcosts(content: bytes, file: str, source: str, now: datetime) -> Reading:
    """The machines under ``compute.instance``: ``hour`` is on-demand, ``hour_spot`` is spot; all in USD.

    Their age is ``about.timestamp``.

    Raises:
        ValueError: it has no machines.
    """
    leaves, refused = _split(content, file)
    machines: dict[str, dict[str, str]] = {}
    places: dict[tuple[str, str], dict[str, str]] = {}
    lines: dict[tuple[str, str, str], int] = {}
    stamp = ""
    for line, path, text in leaves:
        match path:
            case ("about", "timestamp"):
                stamp = text
            case ("compute", "instance", machine, "cost", region, what):
                places.setdefault((machine, region), {})[what] = text
                lines[machine, region, what] = line
            case ("compute", "instance", machine, what):
                machines.setdefault(machine, {})[what] = text
    if not places:
        raise ValueError("it has no compute.instance with a cost")
    as_of = _moment(stamp, now)

    def rows() -> Iterator[tuple[str, Price | cell.BadCell]]:
        for (machine, region), hours in places.items():
            first = lines[machine, region, next(iter(hours))]
            try:
                yield f"line {first}", _price(machine, region, hours, machines.get(machine, {}), as_of, source)
            except cell.BadCell as bad:
                yield f"line {lines.get((machine, region, bad.column), first)}", bad

    found = gathered(rows(), file)
    return Reading(found.prices, (*refused, *found.refused))


def _split(content: bytes, file: str) -> tuple[list[Leaf], list[Refused]]:
    leaves: list[Leaf] = []
    refused: list[Refused] = []
    for line, path, text in _leaves(content):
        if text:
            leaves.append((line, path, text))
        elif path[:2] == ("compute", "instance"):
            refused.append(Refused(file, f"line {line}", "no whole key with a value"))
    return leaves, refused


def _leaves(content: bytes) -> Iterator[Leaf]:
    """Every value with the keys above it; a line below ``compute`` that is no such thing comes with an empty value."""
    above: list[str] = []
    *lines, half = content.decode("utf-8-sig", errors="replace").split("\n")
    for number, line in enumerate(lines, start=1):
        found = _LINE.fullmatch(line.rstrip("\r"))
        if found is None or len(found["indent"]) // 2 > len(above):
            if above[:1] == ["compute"] and line.strip():
                yield number, tuple(above), ""
            continue
        above = [*above[: len(found["indent"]) // 2], found["key"]]
        if found["value"]:
            yield number, tuple(above), found["value"]
            above = above[:-1]
    if half.strip() and above[:1] == ["compute"]:
        yield len(lines) + 1, tuple(above), ""


def _price(
    machine: str, region: str, hours: dict[str, str], about: dict[str, str], as_of: datetime | None, source: str
) -> Price:
    vcpus = cell.amount(about, "cpu")
    if vcpus is None:
        raise cell.BadCell("cpu", "the machine has none: the file may be cut off")
    accelerators = {key: count for key in about if _ACCELERATOR.fullmatch(key) and (count := cell.amount(about, key))}
    if len(accelerators) > 1:
        raise cell.BadCell(", ".join(accelerators), "accelerators of several kinds in one machine")
    kind, count = next(iter(accelerators.items()), ("", Decimal(0)))
    return Price(
        provider="gcp",
        region=cell.name({"region": region}, "region"),
        zone=None,
        machine_type=cell.name({"machine": machine}, "machine"),
        vcpus=float(vcpus),
        memory=cell.memory(about, "ram"),
        accelerator=kind.upper() or None,
        accelerators=float(count),
        on_demand=cell.hourly(hours, "hour"),
        spot=cell.hourly(hours, "hour_spot"),
        as_of=as_of,
        source=source,
    )


def _moment(stamp: str, now: datetime) -> datetime | None:
    """Seconds of Unix time that may be: a file from the future has no known age."""
    if not re.fullmatch("[0-9]{1,11}", stamp):
        return None
    found = datetime.fromtimestamp(int(stamp), tz=UTC)
    return found if found <= now else None
