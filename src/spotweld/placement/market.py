"""A market: what spot and on-demand machines could be had over time, in zones that share one clock."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from spotweld.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from spotweld.values.recordings import Recording

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]

SECOND = 1024
"""All durations are whole multiples of 1/1024 s: their sums and differences are exact in binary floating point, so that
no deadline is met or missed by a rounding."""


def exact(seconds: float) -> float:
    """``seconds`` rounded to a multiple of 1/1024 s."""
    return round(seconds * SECOND) / SECOND


@dataclass(frozen=True, eq=False)
class Market:
    """Zones over ticks. Prices are per machine and hour, in one currency.

    Args:
        zones: the names of Z zones.
        regions: the region of each.
        gap: seconds of a tick.
        capacity: (T, Z): how many spot machines can be had at each tick.
        spot: (T, Z): their price.
        on_demand: (Z,): the price of a machine that can always be had.
        start: when the first tick began, if it is known.
        notes: what was mended on the way, for people.
    """

    zones: tuple[str, ...]
    regions: tuple[str, ...]
    gap: float
    capacity: Ints
    spot: Floats
    on_demand: Floats
    currency: str = "USD"
    start: datetime | None = None
    notes: tuple[str, ...] = ()
    region: Ints = field(init=False, repr=False)
    """(Z,): the regions as numbers from 0 on."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "gap", exact(self.gap))
        names = sorted(set(self.regions))
        object.__setattr__(self, "region", np.array([names.index(name) for name in self.regions], dtype=np.int64))

    @property
    def ticks(self) -> int:
        """T."""
        return len(self.capacity)

    def up(self, gang: int) -> Bools:
        """(T, Z): whether ``gang`` machines can be had at once."""
        return self.capacity >= gang

    def capped(self, price: float) -> Market:
        """The same, without spot where it costs more than ``price`` per machine and hour."""
        return replace(self, capacity=np.where(self.spot <= price, self.capacity, 0))

    def between(self, first: int, last: int) -> Market:
        """The ticks from ``first`` to ``last``, the latter not included; ``first`` becomes tick 0."""
        start = None if self.start is None else self.start + timedelta(seconds=first * self.gap)
        return self._with(self.capacity[first:last], self.spot[first:last], range(len(self.zones)), start)

    def only(self, zones: Sequence[int]) -> Market:
        """Some of the zones, by their places."""
        return self._with(self.capacity[:, zones], self.spot[:, zones], zones, self.start)

    def _with(self, capacity: Ints, spot: Floats, zones: Sequence[int], start: datetime | None) -> Market:
        return Market(
            zones=tuple(self.zones[z] for z in zones),
            regions=tuple(self.regions[z] for z in zones),
            gap=self.gap,
            capacity=capacity,
            spot=spot,
            on_demand=self.on_demand[list(zones)],
            currency=self.currency,
            start=start,
            notes=self.notes,
        )


def ages(up: Bools, gap: float) -> Floats:
    """(T, Z): seconds since ``up`` last changed; at the beginning, since the recording began."""
    ticks = np.arange(len(up), dtype=np.int64)[:, None]
    changed = np.zeros(up.shape, dtype=np.int64)
    changed[1:] = np.where(up[1:] != up[:-1], ticks[1:], 0)
    since: Floats = (ticks - np.maximum.accumulate(changed, axis=0)) * np.float64(gap)
    return since


def market_of(
    recordings: Sequence[Recording], *, spot_price: float | None = None, on_demand_price: float | None = None
) -> Market:
    """One market from recordings of its zones.

    Recordings that begin at different ticks, or end at different ticks, are cut to what all of them cover, with a note.

    Args:
        recordings: at least one.
        spot_price: per machine and hour, where a recording has no prices.
        on_demand_price: likewise.

    Raises:
        UsageError: they have different gaps or currencies, nothing in common, two have one name, or a price is missing.
    """
    recordings = sorted(recordings, key=lambda one: one.zone)
    names = [one.zone for one in recordings]
    for before, after in pairwise(names):
        if before == after:
            raise UsageError(f"two recordings are of the zone {before}", "", "give each zone once")
    for what, values in (("gaps", {one.gap for one in recordings}), ("currencies", _currencies(recordings))):
        if len(values) > 1:
            found = ", ".join(str(value) for value in sorted(values))
            raise UsageError(f"the recordings have different {what}", found, "simulate them apart, or convert them")
    if not recordings:
        raise UsageError("there is no recording", "", "name at least one file, or a folder that holds some")
    offsets, notes = _offsets(recordings)
    ends = [offset + len(one.capacity) for offset, one in zip(offsets, recordings, strict=True)]
    first, last = max(offsets), min(ends)
    if first >= last:
        raise UsageError("the recordings have no time in common", "", "simulate them apart")
    if min(offsets) != first or max(ends) != last:
        notes.append(f"the recordings differ in start or length: only the {last - first} ticks that all have are used")
    cuts = [slice(first - offset, last - offset) for offset in offsets]
    spot = [np.array(_spot(one, spot_price)[cut], dtype=np.float64) for one, cut in zip(recordings, cuts, strict=True)]
    capacity = [np.array(one.capacity[cut], dtype=np.int64) for one, cut in zip(recordings, cuts, strict=True)]
    start = recordings[offsets.index(first)].start
    return Market(
        zones=tuple(names),
        regions=tuple(one.region for one in recordings),
        gap=recordings[0].gap,
        capacity=np.stack(capacity, axis=1),
        spot=np.stack(spot, axis=1),
        on_demand=np.array([_on_demand(one, on_demand_price) for one in recordings], dtype=np.float64),
        currency=next(iter(_currencies(recordings)), "USD"),
        start=start,
        notes=(*(f"{one.zone}: {note}" for one in recordings for note in one.notes), *notes),
    )


def _currencies(recordings: Sequence[Recording]) -> set[str]:
    return {one.currency for one in recordings if one.currency is not None}


def _offsets(recordings: Sequence[Recording]) -> tuple[list[int], list[str]]:
    """How many ticks after the earliest each of them begins, and notes on what was rounded or assumed."""
    known = [one.start for one in recordings if one.start is not None]
    if len(known) < len(recordings):
        some = "some recordings do not say when they begin: all are taken to begin together"
        return [0] * len(recordings), [some] if known else []
    gap, earliest = recordings[0].gap, min(known)
    late = [(start - earliest).total_seconds() / gap for start in known]
    notes = [
        f"{one.zone}: begins between two ticks of the others, moved by {abs(ticks - round(ticks)) * gap:.1f} s"
        for one, ticks in zip(recordings, late, strict=True)
        if abs(ticks - round(ticks)) > 1e-3
    ]
    return [round(ticks) for ticks in late], notes


def _spot(one: Recording, fallback: float | None) -> Sequence[float]:
    if one.prices:
        return one.prices
    if fallback is None:
        raise UsageError(f"the recording of {one.zone} has no spot prices", "", "give one: --spot-price 0.90")
    return [fallback] * len(one.capacity)


def _on_demand(one: Recording, fallback: float | None) -> float:
    price = one.on_demand if one.on_demand is not None else fallback
    if price is None:
        raise UsageError(f"the recording of {one.zone} has no on-demand price", "", "give one: --on-demand-price 3.06")
    return price
