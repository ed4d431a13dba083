"""How much capacity a zone has over time: from a recording, or drawn from a seed.

Times here are whole milliseconds of *trace time* since the trace began, so that looking a moment up and computing the
moment of a change never disagree by a rounding.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from bisect import bisect_right
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from spotweld.errors import ProjectError
from spotweld.values.recordings import FORM, content_of, decode_recording

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SIGMA = 1.8
"""Spread of the seeded up-times (lognormal): the median is a fifth of the mean. In spot availability recorded on AWS in
2023 (9 zones, 1106 up-times) the median was 0.18 of the mean and the 90th percentile 2.2 times the mean; with this
spread they are 0.20 and 2.0."""


class Drop(msgspec.Struct, frozen=True):
    """Capacity goes down."""

    at: int
    """Milliseconds of trace time."""
    level: int
    """What is left from then on."""
    ordinal: int
    """Its number: every drop has its own, the same for ever."""


class Timeline(ABC):
    """Capacity over trace time. The same answers for the same questions, for ever."""

    @abstractmethod
    def level(self, at: int) -> int:
        """How many can be had at ``at``: 0 none, 1 some, or a count, as the recording has it."""

    @abstractmethod
    def drop(self, after: int, ceiling: int) -> Drop | None:
        """The first drop later than ``after`` that leaves at most ``ceiling``; None: there never is one."""

    def price(self, at: int) -> Decimal | None:
        """The recorded spot price at ``at`` per machine and hour; None: not recorded."""
        del at
        return None


class Recorded(Timeline):
    """A recording, which begins anew when it ends.

    Args:
        levels: capacity at each tick; not empty.
        gap: milliseconds between ticks, at least 1.
        prices: spot price at each tick, or empty.
    """

    def __init__(self, levels: Sequence[int], gap: int, prices: Sequence[Decimal] = ()) -> None:
        self._levels = levels
        self._gap = gap
        self._prices = prices
        # Tick i against the one before it; for i = 0 that is the last one, at the seam between two repetitions.
        self._drops = [i for i, level in enumerate(levels) if level < levels[i - 1]]

    def level(self, at: int) -> int:
        return self._levels[at // self._gap % len(self._levels)]

    def drop(self, after: int, ceiling: int) -> Drop | None:
        turn, tick = divmod(after // self._gap, len(self._levels))
        first = turn * len(self._drops) + bisect_right(self._drops, tick)
        for ordinal in range(first, first + len(self._drops)):
            turn, index = divmod(ordinal, len(self._drops))
            tick = self._drops[index]
            if self._levels[tick] <= ceiling:
                at = (turn * len(self._levels) + tick) * self._gap
                return Drop(at=at, level=self._levels[tick], ordinal=ordinal)
        return None

    def price(self, at: int) -> Decimal | None:
        return self._prices[at // self._gap % len(self._prices)] if self._prices else None


class Seeded(Timeline):
    """Capacity that comes and goes at random: up-times lognormal and so heavy-tailed, down-times exponential.

    It begins with capacity, and is drawn as far as somebody asks.

    Args:
        seed: another text gives another, independent stream.
        up: mean up-time, milliseconds of trace time.
        down: mean down-time, likewise.
    """

    def __init__(self, seed: str, *, up: float, down: float) -> None:
        self._random = random.Random(seed)  # noqa: S311 reproducible, and no secret
        self._centre = math.log(up) - SIGMA**2 / 2
        self._down = down
        # Alternating ends of up-times (even) and of down-times (odd).
        self._changes = [self._up_time()]

    def level(self, at: int) -> int:
        self._draw(at)
        return 1 - bisect_right(self._changes, at) % 2

    def drop(self, after: int, ceiling: int) -> Drop | None:
        if ceiling < 0:
            return None
        self._draw(after)
        change = bisect_right(self._changes, after)
        change += change % 2
        return Drop(at=self._changes[change], level=0, ordinal=change // 2)

    def _draw(self, past: int) -> None:
        """Know at least two changes later than ``past``."""
        while len(self._changes) < 2 or self._changes[-2] <= past:
            up = len(self._changes) % 2 == 0
            self._changes.append(self._changes[-1] + (self._up_time() if up else self._down_time()))

    def _up_time(self) -> int:
        return max(1, round(self._random.lognormvariate(self._centre, SIGMA)))

    def _down_time(self) -> int:
        return max(1, round(self._random.expovariate(1 / self._down))) if self._down else 1


def read_trace(path: Path, *, currency: str) -> Recorded:
    """A recording in the format of ``spotweld.values.recordings``.

    Args:
        path: the file.
        currency: what the zone's prices are in. A recording that names another is refused.

    Raises:
        ProjectError: there is no such file, or it is not such a recording.
    """
    try:
        found = decode_recording(content_of(path), path.stem)
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise ProjectError(f"the trace {path} cannot be used", str(error), f"a recording is {FORM}") from error
    if found.currency not in {None, currency}:
        why = f"its prices are in {found.currency}, the zone's in {currency}"
        raise ProjectError(f"the trace {path} cannot be used", why, "write the zone's prices in the same currency")
    return Recorded(found.capacity, round(found.gap * 1000), [Decimal(str(price)) for price in found.prices])
