"""Saving beside the training: one snapshot at a time, in a thread that lives as long as its save."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec

from spotweld.checkpoint.publishing import Written
from spotweld.store.heads import Kept

if TYPE_CHECKING:
    from spotweld.checkpoint.publishing import Publishing
    from spotweld.checkpoint.snapshot import Snapshot
    from spotweld.values.clocks import Clock


class Outcome(msgspec.Struct, frozen=True):
    """How a save ended."""

    step: int
    reason: str
    stall: float
    """Seconds that training stood still."""
    seconds: float
    """From the start of the capture to the end of the save."""
    size: int
    """Bytes of the state."""
    kept: Kept | None
    """What is published now; None: the save failed."""
    error: Exception | None
    began: float
    """When the capture began, by the monotonic clock."""
    written: Written
    """What had to be written; as of the former save if this one failed."""


class Saver:
    """Runs a publisher in the background. Its methods are for the training thread alone."""

    def __init__(self, publisher: Publishing, clock: Clock) -> None:
        self._publisher, self._clock = publisher, clock
        self._thread: threading.Thread | None = None
        self._outcome: Outcome | None = None
        self._began = 0.0

    @property
    def busy(self) -> bool:
        """A save runs."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def elapsed(self) -> float:
        """Seconds since the running save began; 0 if none runs."""
        return self._clock.monotonic() - self._began if self.busy else 0.0

    def start(self, snapshot: Snapshot, reason: str) -> None:
        """Copy the snapshot's state, and publish it meanwhile and afterwards.

        No other save may run, and the former outcome must have been collected.

        Raises:
            RuntimeError: the machine gives no thread for it.
        """
        self._began = snapshot.began
        # A daemon: a store that never answers must not keep the process from leaving a machine that goes.
        thread = threading.Thread(target=self._run, args=(snapshot, reason), name="spotweld save", daemon=True)
        thread.start()
        self._thread = thread
        snapshot.copy(self._publisher.unchanged)

    def wait(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds of real time for the running save; True if none runs any more."""
        if self._thread is not None:
            self._thread.join(max(0.0, timeout))
        return not self.busy

    def collect(self) -> Outcome | None:
        """The outcome of a save that has ended, once."""
        if self.busy:
            return None
        self._thread = None
        outcome, self._outcome = self._outcome, None
        return outcome

    def _run(self, snapshot: Snapshot, reason: str) -> None:
        kept, error = None, None
        try:
            kept = self._publisher.publish(snapshot)
        except Exception as failure:  # noqa: BLE001 - whatever it is, training goes on and is told
            error = failure
        self.end(snapshot, reason, kept, error)

    def end(self, snapshot: Snapshot, reason: str, kept: Kept | None, error: Exception | None) -> None:
        """The save has ended so, or could not be started."""
        seconds, written = self._clock.monotonic() - snapshot.began, self._publisher.written
        self._outcome = Outcome(
            snapshot.step, reason, snapshot.stall, seconds, snapshot.size, kept, error, snapshot.began, written
        )
