"""What a process of its own does for one contender."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from checkpoints import contenders
from checkpoints.curve import Point, curve
from checkpoints.flips import Flip, flip
from checkpoints.loop import Driver, Save
from checkpoints.measuring import Peak, back_memory, digest, evict, memory, touch, warm
from checkpoints.states import KINDS, Training, size, trained

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


APART = 10


class Saved(msgspec.Struct, frozen=True):
    """What a process that saves has found."""

    first: Save
    later: list[Save]
    difference: int
    """Bytes that were written ``APART`` steps after the first save."""
    extra: int
    """The most bytes of memory above those before the first save."""
    state: int
    """Bytes of the state."""
    digest: str
    """Of the newest checkpoint's state."""


class Restored(msgspec.Struct, frozen=True):
    """One restore from the disk and one from the page cache; seconds until all state is in the training's objects."""

    cold: float
    warm: float
    first_step: float
    """From the start of the warm one to the end of the first step."""
    same: bool
    """The state that was saved, bit for bit."""


class Remote(msgspec.Struct, frozen=True):
    """What a process that saves to an object store has found."""

    first: Save
    later: list[Save]
    restore: float
    """Seconds to fetch the newest into a fresh training."""
    same: bool


def train(kind: str) -> None:
    """Make a state if there is none yet."""
    Training(KINDS[kind])


def save(kind: str, name: str, folder: Path, saves: int) -> Saved:
    """The first save, one whose bytes count, so many that are measured, and one whose memory is watched."""
    training = Training(KINDS[kind])
    for _ in range(3):
        training.step()
    back_memory(2 * trained(training.kind).stat().st_size)
    before = memory()
    chosen = contenders.contender(name, training, folder)
    driver = Driver(training, chosen)
    first = driver.save()
    difference = driver.unmeasured(APART)
    later = [driver.save() for _ in range(saves)]
    expect = digest(training.parts())
    with Peak() as peak:
        driver.unmeasured()
    chosen.close()
    return Saved(first, later, difference, peak.size - before, size(training.parts()), expect)


def restore(kind: str, name: str, folder: Path, expect: str, times: int) -> list[Restored]:
    """Each time from the disk into a fresh training, then from the page cache into another one, which makes a step."""
    found = []
    for _ in range(times):
        evict(folder)
        cold, same, _, close = _restore(kind, name, folder, expect)
        close()
        warm(folder)
        again, also, fresh, close = _restore(kind, name, folder, expect)
        began = time.perf_counter()
        fresh.step()
        found.append(Restored(cold, again, again + time.perf_counter() - began, same and also))
        close()
    return found


def _restore(
    kind: str, name: str, folder: Path, expect: str, *, remote: bool = False
) -> tuple[float, bool, Training, Callable[[], None]]:
    """Seconds until every page of the state is there, if it is what was saved, where it is, what ends the contender."""
    fresh = Training(KINDS[kind], fresh=True)
    back_memory(2 * trained(KINDS[kind]).stat().st_size)
    began = time.perf_counter()
    close = contenders.restore(name, fresh, folder, remote=remote)
    touch(fresh.parts())
    took = time.perf_counter() - began
    return took, digest(fresh.parts()) == expect, fresh, close


def remote(kind: str, name: str, folder: Path, saves: int) -> Remote:
    """A first save to the object store, so many that count, and a restore of the newest into a fresh training."""
    training = Training(KINDS[kind])
    chosen = contenders.contender(name, training, folder, remote=True)
    driver = Driver(training, chosen)
    driver.quiet(3)
    first = driver.save()
    later = [driver.save() for _ in range(saves)]
    expect = digest(training.parts())
    driver.unmeasured()
    chosen.close()
    took, same, _, _ = _restore(kind, name, folder, expect, remote=True)
    return Remote(first, later, took, same)


def cadences(kind: str, name: str, folder: Path) -> list[Point]:
    """Added training time by cadence."""
    training = Training(KINDS[kind])
    return curve(training, contenders.contender(name, training, folder))


def flipped(kind: str, name: str, folder: Path) -> Flip:
    """One flipped bit in the newest of two checkpoints."""
    begin = partial(contenders.contender, name, folder=folder, keep=2)
    return flip(kind, lambda training: begin(training=training), partial(contenders.restore, name, folder=folder))
