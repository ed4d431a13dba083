"""The measured loop: undisturbed steps, a save, the steps until it is done, undisturbed steps again."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import msgspec

from checkpoints.measuring import listing, new_bytes, sync

if TYPE_CHECKING:
    from checkpoints.contender import Contender
    from checkpoints.states import Training

QUIET = 3
"""Undisturbed steps on each side of a save."""
LEAST = 3
"""Steps after the start of a save that are measured at least."""
PATIENCE = 120.0
"""Seconds after which a save that has not ended has failed."""


class Save(msgspec.Struct, frozen=True):
    """What one save cost. Seconds, and bytes."""

    added: float
    """How much longer its steps took, together with the save itself, than as many undisturbed ones."""
    stall: float
    """Of that, what the training thread spent in the call, or waiting for the copy before an update."""
    finished: float
    """From its start to its end as the contender sees it."""
    synced: float
    """What fsync of all its files took afterwards: nearly nothing if the contender did so itself."""
    step: float
    """An undisturbed step, the median of those before and after."""
    steps: int
    """How many steps were measured."""
    size: int
    """Bytes of the files that it wrote."""
    cpu: float
    """Seconds of processor time above that of as many undisturbed steps, of this process and not of its children."""


class Driver:
    """Steps a training on, with a contender that saves it."""

    def __init__(self, training: Training, contender: Contender) -> None:
        self._training, self._contender = training, contender
        self._held_up = 0.0
        self._steps = 0
        """Since the latest save."""

    def quiet(self, steps: int = QUIET) -> list[float]:
        """Seconds of each of so many steps."""
        return [self._step() for _ in range(steps)]

    def save(self) -> Save:
        """One save, measured from its start until a whole step after its end."""
        spent = time.process_time()
        before = self.quiet()
        spent = (time.process_time() - spent) / QUIET
        held = listing(self._contender.newest())
        self._held_up = 0.0
        used, began = time.process_time(), time.perf_counter()
        self._begin()
        stall = time.perf_counter() - began
        steps, done = 0, -1
        while steps < LEAST or done in {-1, steps}:
            self._step()
            steps += 1
            if done < 0 and self._contender.finished() is not None:
                done = steps
            if time.perf_counter() - began > PATIENCE:
                raise TimeoutError(f"a save has not ended after {PATIENCE:.0f} s")
        took, used = time.perf_counter() - began, time.process_time() - used
        synced = self.settle()
        step = statistics.median(before + self.quiet())
        return Save(
            added=took - steps * step,
            stall=stall + self._held_up,
            finished=self._contender.finished() or 0.0,
            synced=synced,
            step=step,
            steps=steps,
            size=new_bytes(held, listing(self._contender.newest())),
            cpu=used - steps * spent,
        )

    def unmeasured(self, later: int = 0) -> int:
        """A save of which only the bytes count, at least so many steps after the one before."""
        self.quiet(max(0, later - self._steps))
        held = listing(self._contender.newest())
        self._begin()
        began = time.perf_counter()
        while self._contender.finished() is None:
            self._step()
            if time.perf_counter() - began > PATIENCE:
                raise TimeoutError(f"a save has not ended after {PATIENCE:.0f} s")
        self.settle()
        return new_bytes(held, listing(self._contender.newest()))

    def settle(self) -> float:
        """Bring everything to the disk, so that nothing of it is left for later; the seconds that took."""
        began = time.perf_counter()
        sync(self._contender.newest())
        took = time.perf_counter() - began
        self._contender.tidy()
        return took

    def _begin(self) -> None:
        self._steps = 0
        self._contender.begin()

    def _step(self) -> float:
        self._steps += 1
        began = time.perf_counter()
        self._training.step(self._before_update)
        self._contender.after_step()
        return time.perf_counter() - began

    def _before_update(self) -> None:
        began = time.perf_counter()
        self._contender.before_update()
        self._held_up += time.perf_counter() - began
