"""What a run, and those before it, have seen of their market: sightings as a recording."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from spotweld.placement.market import Market
from spotweld.placement.placer import Sighting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotweld.placement.market import Bools, Floats


class Stretch(msgspec.Struct, frozen=True):
    """A time in which somebody looked."""

    sightings: tuple[Sighting, ...]
    """Oldest first, none later than ``until``."""
    until: float
    """Seconds since 1970 UTC."""


def recorded(
    stretches: Sequence[Stretch],
    zones: Sequence[str],
    regions: Sequence[str],
    on_demand: Sequence[float],
    *,
    gap: float,
    pace: float,
) -> Market:
    """What was seen, on ticks; the stretches follow each other as if no time had passed between them.

    What nobody had seen yet is taken to be as it was when it was seen first, and up if it never was.

    Args:
        stretches: oldest first. Each begins on a tick and has one at least, if it holds a sighting.
        zones: Z names, each once.
        regions: the region of each.
        on_demand: the price of each.
        gap: seconds of a tick, of the market's time.
        pace: seconds of the market's time that pass in a second.
    """
    parts = [_ticks(one, zones, gap / pace) for one in stretches if one.sightings]
    none = np.zeros((0, len(zones)))
    up = np.concatenate([part[0] for part in parts]) if parts else none.astype(np.bool_)
    prices = np.concatenate([part[1] for part in parts]) if parts else none
    return Market(tuple(zones), tuple(regions), gap, up.astype(np.int64), prices, np.array(on_demand))


def _ticks(stretch: Stretch, zones: Sequence[str], gap: float) -> tuple[Bools, Floats]:
    """(T, Z) each."""
    begin = stretch.sightings[0].time
    count = int(max(0.0, stretch.until - begin) / gap) + 1
    up, prices = np.ones((count, len(zones)), dtype=np.bool_), np.zeros((count, len(zones)))
    sightings = stretch.sightings
    for zone, name in enumerate(zones):
        # A tick counts as up if all of it was: a loss stands from its beginning, a return from the next one on.
        turns = [(one.time, one.up[name]) for one in sightings if name in one.up]
        _hold(
            up[:, zone], [((math.ceil if is_up else math.floor)((time - begin) / gap), is_up) for time, is_up in turns]
        )
        moves = [(one.time, one.prices[name]) for one in sightings if name in one.prices]
        _hold(prices[:, zone], [(math.ceil((time - begin) / gap), price) for time, price in moves])
    return up, prices


def _hold(column: Bools | Floats, known: Sequence[tuple[int, float]]) -> None:
    """Every value holds on until the next, and the first one before it as well; the last stands at the last tick."""
    for place, (at, value) in enumerate(known):
        # A clock that was set back must not put a sighting before the first one.
        column[max(0, min(at, len(column) - 1)) if place else 0 :] = value
