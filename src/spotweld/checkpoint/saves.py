"""All saves of one attempt: begins them, takes note of how they end, and remembers what they cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotweld.checkpoint import cadence, events
from spotweld.checkpoint.cadence import Cost
from spotweld.checkpoint.saving import Saver
from spotweld.checkpoint.snapshot import capture, describe
from spotweld.checkpoint.staging import FEWEST, Staging
from spotweld.checkpoint.voice import warn
from spotweld.errors import Fenced, SpotweldError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spotweld.checkpoint.events import EventFile
    from spotweld.checkpoint.publishing import Publisher
    from spotweld.checkpoint.saving import Outcome
    from spotweld.values.clocks import Clock


class Saves:
    """For the training thread alone.

    Args:
        state: the program's parts.
        publisher: where snapshots go.
        tell: where events go.
        clock: time.
        durable: the step whose state is published already; None: none is.
    """

    def __init__(
        self, state: Mapping[str, object], publisher: Publisher, tell: EventFile, clock: Clock, durable: int | None
    ) -> None:
        self._state, self._tell, self._clock = state, tell, clock
        self._saver = Saver(publisher, clock)
        self._staging = Staging()
        self.durable = durable
        """The newest step whose state is published; None: none is."""
        self.mark = (durable or 0, clock.monotonic())
        """Step and time of the newest snapshot that has not failed; the cadence counts from it."""
        self._former_mark = self.mark
        self.costs: tuple[Cost, ...] = ()
        """Of the latest saves."""
        self.failures = 0
        """In a row."""
        self._retry_at = 0.0

    @property
    def running(self) -> float | None:
        """Seconds since the save that is running began; None: none runs."""
        return self._saver.elapsed if self._saver.busy else None

    def begin(self, step: int, reason: str, *, urgent: bool = False) -> bool:
        """Capture the state, and begin to publish it.

        Args:
            step: steps finished.
            reason: for the events; ``final``: an error is raised, since training is over.
            urgent: do not wait for the back-off after a failure.

        Returns:
            False if it could not be begun now.

        Raises:
            Fenced: a later attempt owns the run.
        """
        if self._saver.busy or (self._clock.monotonic() < self._retry_at and not urgent):
            return False
        self.settle()
        try:
            self._staging.reserve(FEWEST)
            snapshot = capture(self._state, step, self._staging, self._clock)
        except Exception as error:
            if reason == "final":
                raise
            self._fail(step, error)
            return False
        self._former_mark, self.mark = self.mark, (step, snapshot.began)
        self._tell.write(events.Saving(self._clock.now(), step, reason))
        self._saver.start(snapshot, reason)
        return True

    def prepare(self) -> None:
        """Make staging memory for the state as it is now, beside the training.

        Raises:
            UnsupportedState: the state could never be saved.
        """
        self._staging.grow(len(describe(self._state).layout.chunks))

    def end(self) -> None:
        """No save will be begun any more."""
        self._staging.close()

    def wait(self, timeout: float) -> None:
        """Wait for the running save, at most so many seconds of real time."""
        self._saver.wait(timeout)

    def settle(self) -> Exception | None:
        """Take note of a save that has ended; the error if it failed.

        Raises:
            Fenced: a later attempt owns the run.
        """
        outcome = self._saver.collect()
        if outcome is None:
            return None
        if isinstance(outcome.error, Fenced):
            raise outcome.error
        if outcome.kept is None:
            self.mark = self._former_mark
            self._fail(outcome.step, outcome.error)
            return outcome.error
        self._succeed(outcome, outcome.kept.key)
        return None

    def _succeed(self, outcome: Outcome, manifest: str) -> None:
        if self.failures:
            warn(f"saving works again: step {outcome.step} is durable")
        self.failures, self._retry_at = 0, 0.0
        self.durable = outcome.step
        self.costs = cadence.latest(self.costs, Cost(outcome.stall, outcome.seconds))
        now, size = self._clock.now(), outcome.size
        self._tell.write(
            events.Saved(now, outcome.step, outcome.reason, outcome.stall, outcome.seconds, size, manifest)
        )

    def _fail(self, step: int, error: Exception | None) -> None:
        self.failures += 1
        self._retry_at = self._clock.monotonic() + cadence.retry_after(self.failures)
        why = str(error) if isinstance(error, SpotweldError) else f"{type(error).__name__}: {error}"
        if self.failures == 1:
            warn(f"a save failed, training goes on and it is tried again: {why}")
        self._tell.write(events.SaveFailed(self._clock.now(), step, why, self.failures))
