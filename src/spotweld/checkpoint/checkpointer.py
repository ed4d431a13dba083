"""The engine's face: everything that a training loop needs in order to survive its machine."""

from __future__ import annotations

import atexit
import math
import os
import signal
import threading
from typing import TYPE_CHECKING, Self, SupportsFloat

from spotweld.checkpoint import events
from spotweld.checkpoint.events import EventFile
from spotweld.checkpoint.generators import with_generators
from spotweld.checkpoint.risk import UNKNOWN
from spotweld.checkpoint.session import Session, patiently
from spotweld.checkpoint.settings import settings
from spotweld.checkpoint.state import check_parts
from spotweld.checkpoint.voice import warn
from spotweld.errors import UsageError
from spotweld.preemption.detect import sources_here
from spotweld.preemption.watcher import Watcher
from spotweld.store.opening import open_store
from spotweld.values.clocks import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from spotweld.checkpoint.risk import Risk
    from spotweld.preemption.notices import Source
    from spotweld.project.nouns import Every, Tier
    from spotweld.store.objects import Objects
    from spotweld.values.clocks import Clock


class Checkpointer:
    """Makes a training loop resume where it was, bit for bit, whenever and however its machine goes.

    ::

        sampler = Sampler(len(data), batch_size=32, seed=1)
        checkpointer = Checkpointer({"model": model, "optimizer": optimizer, "sampler": sampler})
        for step in checkpointer.steps(1000):
            loss = train(model, optimizer, data[sampler.next()])
            checkpointer.log(loss=loss)

    The state of all parts and of the random number generators (Python's, NumPy's, PyTorch's on CPU and GPUs) is saved
    between steps, in the background. An argument that is left out comes from the environment that ``spotweld launch``
    sets, else it has the default named here.

    Args:
        state: by name: objects with ``state_dict`` and ``load_state_dict`` (modules, optimizers, schedulers, a
            ``Sampler``), tensors and arrays, dicts and lists of such and of plain values. All are restored in place.
        store: URL of the store, or an opened one; ``file:.spotweld/store``.
        run: the name under which the run resumes; ``default``.
        every: ``"auto"`` (Young/Daly), a number of steps, or a duration such as ``"30s"``.
        keep_last: how many of the newest checkpoints are kept; 3.
        keep_every: of the older ones every so manieth is kept too; 0: none.
        max_lost_work: seconds of work, or a duration such as ``"5m"``, that losing the machine may cost at most: saves
            come so often, whatever ``every`` says, unless they take too long for it. No bound unless it is given.
        tiers: URLs of stores near the machine, fastest first, such as ``file:/dev/shm/spotweld`` or a folder on a local
            disk: saves go there first and are carried to ``store`` in the background. None unless they are given.
        compress: ``"auto"`` (where that makes checkpoints durable sooner), ``"bytes"`` (as small as can be) or
            ``"none"``.
        staging_memory: bytes, or a size such as ``"2GB"``, that the copy of the state may use, 12 MiB at least. With
            less than the state has, a save holds the training up until the rest is on its way. No bound unless given.
        notices: where warnings come from; by default everything that can be heard on this machine.
        clock: for tests.

    Raises:
        UsageError: an argument makes no sense, or a part of the state could not be restored in place.
    """

    def __init__(
        self,
        state: Mapping[str, object],
        *,
        store: str | Objects | None = None,
        run: str | None = None,
        every: Every | int | str | None = None,
        keep_last: int | None = None,
        keep_every: int | None = None,
        max_lost_work: float | str | None = None,
        tiers: Sequence[str | Tier] | None = None,
        compress: str | None = None,
        staging_memory: int | str | None = None,
        notices: Sequence[Source] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._state = with_generators(state)
        check_parts(self._state)
        self._objects: Objects | None = None if store is None or isinstance(store, str) else store
        self._settings = settings(
            os.environ,
            store=store if isinstance(store, str) else None,
            run=run,
            every=every,
            keep_last=keep_last,
            keep_every=keep_every,
            max_lost_work=max_lost_work,
            tiers=tiers,
            compress=compress,
            staging_memory=staging_memory,
        )
        self._sources = notices
        self._clock = clock or SystemClock()
        self._step = self._total = 0
        self._tell = EventFile(None)
        self._session: Session | None = None
        self._watcher: Watcher | None = None
        self._on_risk: list[Callable[[Risk], object]] = []
        self._used = False
        self._pid = os.getpid()

    @property
    def step(self) -> int:
        """Steps finished. Inside the loop's body: the step that ``steps`` gave."""
        return self._step

    @property
    def risk(self) -> Risk:
        """The risk that this machine will be taken, as it stands now; ``low`` before the loop has begun."""
        return self._session.risk if self._session is not None else UNKNOWN

    def on_risk(self, callback: Callable[[Risk], object]) -> None:
        """Have ``callback`` called whenever the risk's level changes, in the training thread between two steps.

        The level is taken to be ``low`` at first, so that a machine which is at risk from the beginning is told of
        after the first step. What the callback raises is told and goes no further. While a machine is being taken, the
        time that a callback needs is taken from what is left for the last save.
        """
        self._on_risk.append(callback)

    def steps(self, total: int) -> Iterator[int]:
        """The steps that are still to do, counted from 0: restores first, then gives one after another.

        When the loop ends by itself, be it because of ``finish``, the last state is durable. A loop that is left by
        ``break`` or by an exception saves no more: in the middle of a step the state is torn. A run that has done all
        its steps gives none.

        Args:
            total: steps of the whole run.

        Raises:
            SystemExit: with status 75, after a step: the machine will be taken, or a later attempt owns the run.
            UsageError: called twice, or ``total`` is negative.
            SpotweldError: whatever ``Session`` cannot get over.
        """
        if total < 0:
            raise UsageError("A run has no negative number of steps", f"steps({total})")
        if self._used:
            raise UsageError("steps() was called twice", "", "Make a Checkpointer with another run name for each loop.")
        self._used, self._total = True, total
        try:
            session = self._open(total)
            self._step = session.step
            if self._step >= total > 0 and isinstance(session, Session):  # of a group, one rank says it
                warn(
                    f"the run {self._settings.run} has all its {total} steps already: its state is restored, and "
                    "nothing is done; to train anew, or something else, name another: Checkpointer(..., run='second')"
                )
            while self._step < self._total:
                yield self._step
                self._step = min(self._step + 1, self._total)
                if self._step < self._total:
                    session.edge(self._step)
                    if session.over:
                        return
            session.finish(self._step)
        except GeneratorExit:
            if self._total < total:
                warn("the loop was left before its body had come to its end: finish() is not heeded, nothing is saved")
            raise
        except SystemExit:
            # A machine that goes sends TERM, often while the interpreter shuts down. Nothing is left to be saved then,
            # and a process that is killed in its last moment would not end with the status that says why.
            atexit.register(_ignore_term)
            raise
        finally:
            self.close()

    def log(self, **metrics: SupportsFloat) -> None:
        """Record figures of the current step, such as ``loss=0.1``; anything that ``float`` takes."""
        values = {name: _plain(value) for name, value in metrics.items()}
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._tell.write(events.Metrics(self._clock.now(), self._step, finite))

    def save(self) -> None:
        """Save when the current step has ended, whatever the cadence says. Does not wait for it."""
        if self._session is not None:
            self._session.want_save()

    def finish(self, steps: int | None = None) -> None:
        """End the run early: when the current step has ended, the last state is made durable, and the loop ends.

        To be called in the loop's body, which has to come to its end: a ``break`` would leave the loop without a save.
        A program that is started again after that gets the steps that are left of ``total``: only its own state can
        say why it was over.

        Args:
            steps: finished in all; None: this one is the last. As many as ``step`` says: nothing was done in this one.

        Raises:
            UsageError: the loop has not begun, or the run cannot have so many steps.
        """
        if not self._used:
            raise UsageError("finish() was called before the loop", "there is nothing to finish yet")
        if self._session is None:
            return
        end = self._step + 1 if steps is None else steps
        if not self._step <= end <= self._total:
            why = f"{self._step} of {self._total} are finished"
            raise UsageError(f"The run cannot be over after {end} steps", why)
        self._total = end

    def close(self) -> None:
        """Wait for a save that is running and stop listening. ``steps`` does it by itself; it may be called twice."""
        if os.getpid() != self._pid:
            return  # A fork that ends: it would go on with the other process's saves, and fence it off.
        atexit.unregister(self.close)
        session, self._session = self._session, None
        watcher, self._watcher = self._watcher, None
        if session is not None:
            session.end()
        if watcher is not None:
            watcher.stop()
        self._tell.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, total: int) -> Session:
        self._pid = os.getpid()
        self._tell = EventFile(self._settings.events)
        self._tell.write(events.Start(self._clock.now(), total, os.getpid()))
        sources = sources_here(os.environ) if self._sources is None else self._sources
        self._watcher = Watcher(sources, clock=self._clock)
        self._watcher.start()
        # An exception's traceback keeps the loop's frame alive, and with it this generator, until the interpreter ends.
        atexit.register(self.close)
        if self._objects is None:
            url = self._settings.store
            self._objects = patiently(lambda: open_store(url), self._clock)
        self._session = Session(
            self._state, self._settings, self._objects, self._watcher, self._tell, self._clock, self._tell_risk
        )
        return self._session

    def _tell_risk(self, risk: Risk) -> None:
        for callback in self._on_risk:
            try:
                callback(risk)
            except Exception as error:  # noqa: BLE001 - whatever it is, training goes on
                warn(f"a callback for risks failed, training goes on: {type(error).__name__}: {error}")


def _ignore_term() -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _plain(value: SupportsFloat) -> float:
    """A tensor that requires a gradient warns when it is made a float directly."""
    item = getattr(value, "item", None)
    return float(item() if item else value)
