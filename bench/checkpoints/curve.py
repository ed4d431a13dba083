"""What saving every so many steps adds to each step."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import msgspec

from checkpoints.loop import Driver

if TYPE_CHECKING:
    from checkpoints.contender import Contender
    from checkpoints.states import Training

LENGTHS = {1: 8, 10: 20}
"""Steps that are measured, by the steps between two saves. Further apart, saves do not know of each other any more."""


class Point(msgspec.Struct, frozen=True):
    """One cadence."""

    every: int
    added: float
    """Seconds that a step takes longer than one without saves."""
    step: float
    """Seconds of a step without saves."""
    saves: int
    """How many were begun. One that is due while the former still runs begins when that has ended, for everybody."""


def curve(training: Training, chosen: Contender) -> list[Point]:
    """All cadences, each between undisturbed steps."""
    driver = Driver(training, chosen)
    driver.quiet(3)
    driver.unmeasured()
    driver.unmeasured()
    return [_point(driver, chosen, every, steps) for every, steps in LENGTHS.items()]


def _point(driver: Driver, chosen: Contender, every: int, steps: int) -> Point:
    before = driver.quiet()
    saves, due, busy = 0, False, False
    began = time.perf_counter()
    for step in range(steps):
        due = due or step % every == 0
        busy = busy and chosen.finished() is None
        if due and not busy:
            chosen.begin()
            saves, due, busy = saves + 1, False, True
        driver.quiet(1)
    took = time.perf_counter() - began
    while busy and chosen.finished() is None:
        driver.quiet(1)
    driver.settle()
    step_alone = statistics.median(before + driver.quiet())
    return Point(every, took / steps - step_alone, step_alone, saves)
