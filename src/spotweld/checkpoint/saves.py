"""All saves of one attempt: begins them, takes note of how they end, and remembers what they cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import astuple

from spotweld.checkpoint import cadence, events
from spotweld.checkpoint.cadence import Cost
from spotweld.checkpoint.saving import Saver
from spotweld.checkpoint.snapshot import capture
from spotweld.checkpoint.staging import Staging
from spotweld.checkpoint.voice import warn
from spotweld.errors import Corrupt, Fenced, NotFound, SpotweldError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spotweld.checkpoint.events import EventFile
    from spotweld.checkpoint.routes import Route
    from spotweld.checkpoint.saving import Outcome
    from spotweld.checkpoint.snapshot import Snapshot
    from spotweld.store.heads import Kept
    from spotweld.values.clocks import Clock


_PATIENCE = 2
"""Saves in a row that may fail before the fast tiers are given up and checkpoints go straight to the store."""


class Saves:
    """For the training thread alone.

    Args:
        state: the program's parts.
        route: how checkpoints get to where they are durable.
        tell: where events go.
        clock: time.
        restored: the step that was restored; None: none was.
        memory: bytes that the copy of the state may use; None: as many as the state has.
    """

    _hopeless: tuple[type[Exception], ...] = ()
    """Errors of a capture after which no save can be begun any more."""
    _bearable: tuple[type[Exception], ...] = (RuntimeError,)
    """Errors of a start after which a later save may well be begun: there was no thread for it."""

    def __init__(
        self,
        state: Mapping[str, object],
        route: Route,
        tell: EventFile,
        clock: Clock,
        restored: int | None,
        memory: int | None = None,
    ) -> None:
        self._state, self._tell, self._clock = state, tell, clock
        self._route = route
        self._saver = Saver(route.first, clock)
        self._staging = Staging(memory)
        self.saved = restored
        """The newest step whose state is saved, if only in a fast tier; None: none is."""
        self.durable = route.published
        """The newest step whose state is published in the store; None: none is."""
        self.mark = (restored or 0, clock.monotonic())
        """Step and time of the newest snapshot that has not failed; the cadence counts from it."""
        self._former_mark = self.mark
        self.costs: tuple[Cost, ...] = ()
        """Of the latest saves."""
        self.deliveries: tuple[Cost, ...] = ()
        """The same, but until they were durable in the store."""
        self.efforts: tuple[Cost, ...] = ()
        """The same without the time that they waited for former ones, or for the store's turn: what a save needs that
        nothing is in the way of."""
        self.whole = 0
        """Bytes that the latest of them which stands alone had to write; 0: not known."""
        self.differences = False
        """The next may be stored as differences from one that is in the store."""
        self.alone = False
        """What is begun from now on is to depend on no other checkpoint in the store."""
        self._alone = False
        """So is the latest that was begun."""
        self.failures = 0
        """In a row."""
        self._retry_at = 0.0
        self._unreadable = False
        """What was written to the first tier cannot be read there."""

    @property
    def running(self) -> float | None:
        """Seconds since the save that is running began; None: none runs."""
        return self._saver.elapsed if self._saver.busy else None

    @property
    def active(self) -> bool:
        """A save runs, or something is on its way to a slower tier."""
        return self._saver.busy or self._route.busy

    @property
    def under_way(self) -> tuple[float, bool] | None:
        """What a new save would have to wait for on its way to the store; None: for nothing.

        Seconds since it began, and whether it depends on no other checkpoint there.
        """
        carries, running = self._route.carries, self.running
        if carries is not None:
            since, load = carries
            return self._clock.monotonic() - since, load.alone or not self.differences
        return None if running is None else (running, self._alone or not self.differences)

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
        if urgent or reason == "final":
            self.hurry()
        if self._saver.busy or (self._clock.monotonic() < self._retry_at and not urgent):
            return False
        carrying = self._route.busy
        self.settle()
        if not self._route.ready or (
            self.saved == step and (carrying or self.durable == step) and not self._route.direct
        ):
            return False
        self._alone = self.alone
        if self._alone:
            self._route.stand_alone()
        try:
            snapshot = self._capture(step)
            self._staging.grow(snapshot.content.sizes)
        except Exception as error:
            if reason == "final" or isinstance(error, self._hopeless):
                raise
            self._fail(step, error)
            return False
        self._former_mark, self.mark = self.mark, (step, snapshot.began)
        self._tell.write(events.Saving(self._clock.now(), step, reason))
        try:
            self._saver.start(snapshot, reason)
        except self._bearable as error:
            self._saver.end(snapshot, reason, None, error)
        return True

    def _capture(self, step: int) -> Snapshot:
        return capture(self._state, step, self._staging, self._clock)

    def prepare(self) -> None:
        """Make staging memory for the state as it is now, beside the training.

        Raises:
            UnsupportedState: the state could never be saved.
        """
        self._staging.grow(self._capture(0).content.sizes)

    def end(self) -> None:
        """No save will be begun any more."""
        self._staging.close()

    def hurry(self) -> None:
        """What waits for its turn is carried to the store at once."""
        self._route.hurry()

    def calm(self) -> None:
        """What is carried to the store waits for its turn again."""
        self._route.calm()

    def close(self) -> None:
        """Nothing will be carried to the store any more."""
        self._route.close()

    def wait(self, timeout: float) -> None:
        """Wait for the running save, or for what is on its way to the store, at most so many seconds of real time."""
        if self._saver.busy:
            self._saver.wait(timeout)
        else:
            self._route.wait(timeout)

    def settle(self) -> Exception | None:
        """Take note of a save that has ended; the error if it failed.

        Raises:
            Fenced: a later attempt owns the run.
        """
        idle = not self._saver.busy
        error = self._settle()
        if idle and self._unreadable:
            self._give_up_tiers()
        return error

    def _settle(self) -> Exception | None:
        error = self._take_note_of_the_carried()
        outcome = self._saver.collect()
        if outcome is None:
            return error
        if isinstance(outcome.error, Fenced):
            raise outcome.error
        if outcome.kept is None:
            self.mark = self._former_mark
            self._fail(outcome.step, outcome.error)
            if self.failures >= _PATIENCE:
                self._give_up_tiers()
            return outcome.error
        self._succeed(outcome, outcome.kept)
        return error

    def _take_note_of_the_carried(self) -> Exception | None:
        """Take note of what has come to slower tiers; the error if the store did not take it."""
        error = None
        for store, carried in self._route.collect():
            if store == self._route.store:
                self.differences = carried.differences
            if isinstance(carried.error, Fenced):
                raise carried.error
            step = carried.load.kept.step
            if carried.kept is not None:
                published, (size, delta) = store == self._route.store, astuple(carried.written)
                if published:
                    self.durable = step
                    stall, first = (self.costs[-1].stall, self.costs[-1].seconds) if self.costs else (0.0, 0.0)
                    self.deliveries = cadence.latest(self.deliveries, Cost(stall, carried.seconds, size, delta))
                    self._note(Cost(stall, first + carried.carrying, size, delta))
                self._tell.write(
                    events.Carried(
                        self._clock.now(), step, store, carried.seconds, carried.kept.key, published, size, delta
                    )
                )
            else:
                if store == self._route.store:
                    error = carried.error
                if carried.failures == 1:
                    warn(f"step {step} did not get to {store}, training goes on and it is tried again: {carried.error}")
                why = f"{carried.error} (on the way to {store})"
                self._tell.write(events.SaveFailed(self._clock.now(), step, why, carried.failures))
                # What was written to the tier cannot be read there; the state itself is still at hand.
                if isinstance(carried.error, (Corrupt, NotFound)) and carried.failures >= _PATIENCE:
                    self._unreadable = True
        return error

    def _note(self, effort: Cost) -> None:
        """So much did it take until it was in the store."""
        self.efforts = cadence.latest(self.efforts, effort)
        if not effort.delta:
            self.whole = effort.size

    def _give_up_tiers(self) -> bool:
        """False: they had been given up before."""
        given_up = self._route.give_up_tiers()
        if given_up:
            self.differences = False
            self._saver = Saver(self._route.first, self._clock)
        return given_up

    def _succeed(self, outcome: Outcome, kept: Kept) -> None:
        if self.failures:
            warn(f"saving works again: step {outcome.step} is durable")
        self.failures, self._retry_at = 0, 0.0
        self.saved = outcome.step
        self._route.saved(kept, outcome.began, alone=self._alone)
        if self._route.direct:
            self.durable = outcome.step
        cost = Cost(outcome.stall, outcome.seconds, *astuple(outcome.written))
        self.costs = cadence.latest(self.costs, cost)
        if self._route.direct:
            self.deliveries = self.costs
            self._note(cost)
        now, size, tier = self._clock.now(), outcome.size, self._route.tier
        self._tell.write(
            events.Saved(now, outcome.step, outcome.reason, outcome.stall, outcome.seconds, size, kept.key, tier)
        )

    def _fail(self, step: int, error: Exception | None) -> None:
        self.failures += 1
        self._retry_at = self._clock.monotonic() + cadence.retry_after(self.failures)
        why = str(error) if isinstance(error, SpotweldError) else f"{type(error).__name__}: {error}"
        if self.failures == 1:
            warn(f"a save failed, training goes on and it is tried again: {why}")
        self._tell.write(events.SaveFailed(self._clock.now(), step, why, self.failures))
