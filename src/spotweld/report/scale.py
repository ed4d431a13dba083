"""Axes: from values to a share of the drawing's width or height, with round tick marks."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from spotweld.values.durations import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# A logarithmic axis once half of the values lie in this part of a straight one, at its foot, where nothing can be seen.
_FOOT = 0.05
_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


class Scale(msgspec.Struct, frozen=True):
    """An axis from ``low`` to ``high``."""

    low: float
    high: float
    log: bool = False

    def share(self, value: float) -> float:
        """Where ``value`` lies between the ends, 0 to 1; values outside lie at the nearer end."""
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, max(value, self.low)))
        # Halves, so that the difference of two huge values does not overflow.
        width = high / 2 - low / 2
        return min(1.0, (value / 2 - low / 2) / width) if width > 0 else 0.5


def value_scale(values: Iterable[float]) -> Scale:
    """An axis that shows all finite values, logarithmic when a straight one would squash most of them."""
    finite = sorted(value for value in values if math.isfinite(value))
    if not finite:
        return Scale(0.0, 1.0)
    low, middle, high = finite[0], finite[len(finite) // 2], finite[-1]
    if low == high:
        margin = abs(low) / 10 or 1.0
        return Scale(low - margin, high + margin)
    if low > 0 and high / 2 >= low and middle / 2 - low / 2 < (high / 2 - low / 2) * _FOOT:
        return Scale(low / 1.15, min(high * 1.15, 1.7e308), log=True)
    margin = (high / 2 - low / 2) * 0.12
    return Scale(low - margin, high + margin)


def value_ticks(scale: Scale, most: int = 5) -> list[float]:
    """Round values on the axis: 1, 2, 2.5 and 5 times a power of ten, or the powers alone on a long logarithmic one."""
    if scale.log:
        first, last = math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high))
        every = max(1, math.ceil((last - first) / most))
        digits = (1, 2, 5) if scale.high / scale.low <= 200 else (1,)
        ticks = [digit * 10.0**power for power in range(first, last + 1, every) for digit in digits]
        return [tick for tick in ticks if scale.low <= tick <= scale.high]
    raw = (scale.high / most) - (scale.low / most)
    if not 1e-300 < raw < 1e300:
        return [scale.low, scale.high]
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * digit for digit in (1, 2, 2.5, 5, 10) if power * digit >= raw * 0.999)
    first = math.ceil(scale.low / step)
    ticks = [index * step for index in range(first, first + most + 2)]
    return [tick for tick in ticks if scale.low <= tick <= scale.high]


def step_ticks(last: int, most: int = 6) -> list[int]:
    """Round step numbers from 0 on, and ``last`` itself unless a round one is too close to it."""
    whole = value_ticks(Scale(0.0, float(max(last, 1))), most)
    ticks = sorted({round(tick) for tick in whole if tick == round(tick)})
    gap = last / most / 2
    return [tick for tick in ticks if tick == 0 or last - tick >= gap] + ([last] if last else [])


def time_ticks(seconds: float, most: int = 6) -> list[float]:
    """Round durations from 0 on."""
    step = next((float(step) for step in _SECONDS if seconds / step <= most), 0.0)
    if seconds <= 1:
        step = 10.0 ** math.floor(math.log10(seconds)) if seconds > 0 else 1.0
        step *= 1 if seconds / step <= most else 2
    if not step:
        step = 86400.0 * math.ceil(seconds / 86400 / most)
    return [index * step for index in range(int(seconds / step) + 1)]


def tick_words(seconds: float) -> str:
    """A tick of a time axis: ``0``, ``30 s``, ``5m``, ``1h 30m``."""
    if seconds == 0:
        return "0"
    text = format_duration(seconds).removesuffix(" 00s").removesuffix(" 00m").removesuffix(" 00h")
    return text.replace(".0 s", " s")


def thin(points: Sequence[tuple[float, float]], buckets: int = 700) -> list[list[tuple[float, float]]]:
    """Lines that look like all of ``points`` and have few: the lowest and the highest of each of ``buckets``.

    Args:
        points: (x, y) by rising x; a y that is not finite interrupts the line.
        buckets: stretches of equal width that x is cut into; one or two points each are kept.

    Returns:
        One list of points for each uninterrupted stretch.
    """
    if not points:
        return []
    first, last = points[0][0], points[-1][0]
    width = (last - first) / buckets or 1.0
    lines: list[list[tuple[float, float]]] = [[]]
    bucket: dict[int, list[tuple[float, float]]] = {}
    for x, y in points:
        bucket.setdefault(min(int((x - first) / width), buckets - 1), []).append((x, y))
    for at, inside in bucket.items():
        good = [point for point in inside if math.isfinite(point[1])]
        if not good:
            lines.append([])
            continue
        keep = {min(good, key=_height), max(good, key=_height)}
        if at == 0:
            keep.add(good[0])
        if at == max(bucket):
            keep.add(good[-1])
        lines[-1].extend(sorted(keep))
        if not math.isfinite(inside[-1][1]):
            lines.append([])
    return [line for line in lines if line]


def spread(places: Iterable[float], gap: float) -> list[bool]:
    """For rising places of labels: which of them may be shown so that no two are closer than ``gap``."""
    shown: list[bool] = []
    last = -math.inf
    for place in places:
        shown.append(place - last >= gap)
        if shown[-1]:
            last = place
    return shown


def runs_of(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Stretches of consecutive numbers, first and last included, of distinct numbers in any order."""
    ordered = sorted(set(numbers))
    if not ordered:
        return []
    breaks = [index for index, (a, b) in enumerate(pairwise(ordered), 1) if b - a > 1]
    return [
        (ordered[start], ordered[end - 1]) for start, end in zip([0, *breaks], [*breaks, len(ordered)], strict=True)
    ]


def _height(point: tuple[float, float]) -> float:
    return point[1]
