"""One attempt's work on a run: take over, restore, save, answer notices, leave. The decisions lie elsewhere."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn, TypeVar

from spotweld.checkpoint import cadence, emergency, events
from spotweld.checkpoint.cadence import Cost
from spotweld.checkpoint.emergency import Act
from spotweld.checkpoint.publishing import Publisher
from spotweld.checkpoint.restoring import find_newest
from spotweld.checkpoint.rng import restore_rng
from spotweld.checkpoint.saving import Saver
from spotweld.checkpoint.snapshot import Staging, capture, describe
from spotweld.checkpoint.state import put_back
from spotweld.checkpoint.voice import warn
from spotweld.errors import CheckpointError, Conflict, Corrupt, Fenced, SpotweldError, Unavailable
from spotweld.preemption.notices import Kind
from spotweld.store.heads import take_over
from spotweld.store.mending import mend_head

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from spotweld.checkpoint.events import EventFile
    from spotweld.checkpoint.saving import Outcome
    from spotweld.checkpoint.settings import Settings
    from spotweld.preemption.notices import Notice
    from spotweld.preemption.watcher import Watcher
    from spotweld.store.heads import HeadWriter
    from spotweld.store.objects import Objects
    from spotweld.values.clocks import Clock

T = TypeVar("T")

EX_TEMPFAIL = 75
"""Interrupted, but resumable."""
_TELL = 0.2
"""Seconds between two ``step`` events, at least."""
_STUBBORN = 900.0
"""Seconds that a silent store is waited for at the start and at the end, where nothing else can be done."""
_GLANCE = 0.1
"""Seconds between two looks at what is waited for."""
_FLUSH = 30.0
"""Seconds that a loop which was left early waits for the save that is running."""


class Session:
    """See the module. Its methods are for the training thread alone.

    Args:
        state: the program's parts.
        settings: what was asked for.
        objects: the store.
        watcher: hears notices; started and stopped by the caller.
        tell: where events go.
        clock: time.
    """

    def __init__(
        self,
        state: Mapping[str, object],
        settings: Settings,
        objects: Objects,
        watcher: Watcher,
        tell: EventFile,
        clock: Clock,
    ) -> None:
        self._state, self._settings, self._objects = state, settings, objects
        self._watcher, self._tell, self._clock = watcher, tell, clock
        self._staging = Staging()
        self._saver: Saver | None = None
        self._epoch = 0
        self._step = 0
        self._durable: int | None = None
        """The step whose state is published."""
        self._mark = (0, 0.0)
        """Step and time of the newest snapshot that has not failed; cadence counts from it."""
        self._former_mark = self._mark
        self._costs: tuple[Cost, ...] = ()
        self._failures, self._retry_at = 0, 0.0
        self._paces: tuple[float, ...] = ()
        self._edge_at = 0.0
        self._told_at = float("-inf")
        self._notice: Notice | None = None
        self._answered = False
        self._wanted = False
        self._left = False

    def begin(self) -> int:
        """Take the run over and restore its newest whole checkpoint; the number of steps that are finished.

        Raises:
            SystemExit: 75: a later attempt owns the run.
            NoWholeCheckpoint: every checkpoint is damaged.
            StateMismatch: the checkpoint does not fit the program.
            UnsupportedState: the state could never be saved.
            UnknownFormat: a newer Spotweld wrote the run.
            Unavailable: the store does not answer.
        """
        began = self._clock.monotonic()
        run = self._settings.run
        try:
            writer = self._persist(self._take_over)
            self._epoch = writer.head.epoch
            found = self._persist(lambda: find_newest(self._objects, run, writer.head.kept, epoch=self._epoch))
        except Fenced as error:
            self._fence(error)
        if found is None:
            describe(self._state)  # what can never be saved is told now, not at the first save
            self._tell.write(events.Fresh(self._clock.now()))
        else:
            for kept, why in found.damaged:
                warn(f"the checkpoint of step {kept.step} is damaged and passed over: {why}")
            put_back(self._state, found.state)
            restore_rng(found.rng)
            self._step = self._durable = found.manifest.step
            seconds = self._clock.monotonic() - began
            damaged = tuple(events.Damage(kept.step, why) for kept, why in found.damaged)
            self._tell.write(events.Restored(self._clock.now(), self._step, found.kept.key, seconds, damaged))
        publisher = Publisher(
            self._objects,
            run,
            writer,
            self._clock,
            keep_last=self._settings.policy.keep_last,
            keep_every=self._settings.policy.keep_every,
            whole=found.manifest if found else None,
            damaged=[kept.key for kept, _ in found.damaged] if found else (),
        )
        self._saver = Saver(publisher, self._clock)
        self._edge_at = self._clock.monotonic()
        self._mark = self._former_mark = (self._step, self._edge_at)
        return self._step

    def _take_over(self) -> HeadWriter:
        """Become the run's writer. A damaged head does not hold the run up: the manifests say all that it said."""
        run, attempt = self._settings.run, self._settings.attempt
        try:
            return take_over(self._objects, run, attempt)
        except Corrupt as error:
            warn(f"{error}; the head is made anew from the checkpoints that are whole")
            with suppress(Conflict):  # somebody else was first: theirs serves as well
                mend_head(self._objects, run)
            return take_over(self._objects, run, attempt)

    def want_save(self) -> None:
        """Save at the next edge, whatever the cadence says."""
        self._wanted = True

    def edge(self, step: int) -> None:
        """A step has ended, ``step`` are finished: look at everything, begin a save if one is due.

        Raises:
            SystemExit: 75: the machine is about to go, or a later attempt owns the run.
        """
        self._step = step
        now = self._clock.monotonic()
        self._paces = (*self._paces[-4:], now - self._edge_at)
        self._settle()
        if now - self._told_at >= _TELL:
            self._told_at = now
            self._tell.write(events.Step(self._clock.now(), step))
        notice = self._listen()
        if notice is not None and notice.kind is Kind.TERMINATE:
            self._answer_terminate()
        risky = notice is not None and notice.kind is Kind.REBALANCE
        if self._wanted:
            self._wanted = not self._save("request")
        elif risky and not self._answered:
            self._answered = self._save("rebalance")
        elif cadence.due(self._settings.policy.every, self._cadence(now, risky=risky)):
            self._save("cadence")
        self._edge_at = self._clock.monotonic()

    def finish(self) -> None:
        """Make the last state durable.

        Raises:
            SystemExit: 75: the machine goes first, or a later attempt owns the run.
            SpotweldError: it could not be stored, for a quarter of an hour.
        """
        give_up = self._clock.monotonic() + _STUBBORN
        while True:
            self._settle(give_up=give_up)
            if self._durable == self._step and not self._worker.busy:
                break
            notice = self._listen()
            if notice is not None and notice.kind is Kind.TERMINATE:
                self._last_save()
            elif self._worker.busy:
                self._worker.wait(_GLANCE)
            elif self._clock.monotonic() >= self._retry_at:
                self._save("final")
            else:
                self._clock.sleep(_GLANCE)
        self._tell.write(events.Step(self._clock.now(), self._step))
        self._tell.write(events.Finished(self._clock.now(), self._step))

    def end(self) -> None:
        """Let a running save come to its end, unless the process is leaving the machine."""
        if self._saver is not None and not self._left:
            self._saver.wait(_FLUSH)
            outcome = self._saver.collect()
            if outcome is not None:
                self._record(outcome)

    @property
    def _worker(self) -> Saver:
        if self._saver is None:
            msg = "begin() comes first"
            raise RuntimeError(msg)
        return self._saver

    def _persist(self, call: Callable[[], T]) -> T:
        """Call until the store answers."""
        give_up = self._clock.monotonic() + _STUBBORN
        for failures in range(1, 1000):
            try:
                return call()
            except Unavailable as error:
                wait = cadence.retry_after(failures)
                if self._clock.monotonic() + wait > give_up:
                    raise
                if failures == 1:
                    warn(f"the store does not answer, waiting for it: {error}")
                self._clock.sleep(wait)
        raise AssertionError

    def _save(self, reason: str, *, urgent: bool = False) -> bool:
        """Capture, and begin to publish; False if that has to wait."""
        now = self._clock.monotonic()
        if self._worker.busy or (now < self._retry_at and not urgent):
            return False
        self._settle()
        try:
            snapshot = capture(self._state, self._step, self._staging, self._clock)
        except Exception as error:
            if isinstance(error, CheckpointError) and reason == "final":
                raise
            self._fail(error)
            return False
        self._former_mark, self._mark = self._mark, (self._step, snapshot.began)
        self._tell.write(events.Saving(self._clock.now(), self._step, reason))
        self._worker.start(snapshot, reason)
        return True

    def _settle(self, *, give_up: float | None = None) -> None:
        """Take note of a save that has ended."""
        outcome = self._worker.collect()
        if outcome is None:
            return
        self._record(outcome)
        if isinstance(outcome.error, Fenced):
            self._fence(outcome.error)
        late = give_up is not None and self._clock.monotonic() > give_up
        if late and isinstance(outcome.error, SpotweldError):
            raise outcome.error

    def _record(self, outcome: Outcome) -> None:
        if outcome.kept is None:
            self._mark = self._former_mark
            if not isinstance(outcome.error, Fenced):
                self._fail(outcome.error)
            return
        if self._failures:
            warn(f"saving works again: step {outcome.step} is durable")
        self._failures, self._retry_at = 0, 0.0
        self._durable = outcome.step
        self._costs = cadence.latest(self._costs, Cost(outcome.stall, outcome.seconds))
        self._tell.write(
            events.Saved(
                self._clock.now(),
                outcome.step,
                outcome.reason,
                outcome.stall,
                outcome.seconds,
                outcome.size,
                outcome.kept.key,
            )
        )

    def _fail(self, error: Exception | None) -> None:
        self._failures += 1
        self._retry_at = self._clock.monotonic() + cadence.retry_after(self._failures)
        why = str(error) if isinstance(error, SpotweldError) else f"{type(error).__name__}: {error}"
        if self._failures == 1:
            warn(f"a save failed, training goes on and it is tried again: {why}")
        self._tell.write(events.SaveFailed(self._clock.now(), self._step, why, self._failures))

    def _listen(self) -> Notice | None:
        """The notice that stands; tells when it has changed."""
        notice, former = self._watcher.current(), self._notice
        if (notice and notice.id, notice and notice.kind) != (former and former.id, former and former.kind):
            self._notice, self._answered = notice, False
            if former is not None and (notice is None or notice.id != former.id):
                self._tell.write(events.Withdrawn(self._clock.now(), former.id))
            if notice is not None:
                self._tell.write(events.Noticed(self._clock.now(), notice))
        return notice

    def _answer_terminate(self) -> None:
        now = self._emergency()
        match emergency.decide(now):
            case Act.SAVE:
                self._answered = self._save("notice", urgent=True)
            case Act.LAST:
                self._last_save()
            case Act.LEAVE:
                if self._durable != self._step:
                    self._tell.write(events.Emergency(self._clock.now(), "none", emergency.typical(now), now.remaining))
                    self._worker.wait(now.remaining or 0.0)
                    self._settle()
                self._leave(self._standing_text())
            case Act.GO_ON:
                pass

    def _last_save(self) -> None:
        """Save and wait until it is durable, then leave; come back only if the notice is withdrawn meanwhile."""
        first = self._emergency()
        predicted = emergency.predicted(first) if first.costs else None
        self._tell.write(events.Emergency(self._clock.now(), "full", predicted, first.remaining))
        patience = self._clock.monotonic() + emergency.GRACE
        while self._durable != self._step or self._worker.busy:
            remaining = self._watcher.remaining()
            failures = self._failures
            if not self._worker.busy:
                self._save("emergency", urgent=True)
            # A running save is waited for even where no deadline is known: whoever kills us decides how long.
            self._worker.wait(_GLANCE if remaining is None else min(_GLANCE, remaining))
            self._settle()
            if self._failures > failures:
                self._clock.sleep(_GLANCE)
            over = patience < self._clock.monotonic() and not self._worker.busy if remaining is None else remaining <= 0
            if over:
                break
        notice = self._listen()
        if notice is not None and notice.kind is Kind.TERMINATE:
            self._leave(self._standing_text())

    def _standing_text(self) -> str:
        if self._durable == self._step:
            return f"the machine will be taken; the checkpoint of step {self._step} is durable"
        if self._durable is None:
            return "the machine will be taken before a save can be finished; there is no checkpoint yet"
        return f"the machine will be taken before a save can be finished; the checkpoint of step {self._durable} stands"

    def _emergency(self) -> emergency.Situation:
        worker = self._worker
        return emergency.Situation(
            remaining=self._watcher.remaining(),
            costs=self._costs,
            pace=max(self._paces, default=0.0),
            running=worker.elapsed if worker.busy else None,
            durable=self._durable == self._step,
            answered=self._answered,
        )

    def _cadence(self, now: float, *, risky: bool) -> cadence.Situation:
        return cadence.Situation(
            step=self._step,
            saved_step=self._mark[0],
            since=now - self._mark[1],
            costs=self._costs,
            hazard=self._settings.hazard,
            risky=risky,
        )

    def _fence(self, error: Fenced) -> NoReturn:
        self._tell.write(events.Fenced(self._clock.now(), self._epoch))
        self._leave(str(error))

    def _leave(self, why: str) -> NoReturn:
        self._left = True
        warn(f"leaving after step {self._step}: {why}")
        self._tell.write(events.Leaving(self._clock.now(), self._step, why))
        raise SystemExit(EX_TEMPFAIL)
