"""Signals: how schedulers, kubelets and supervisors say that it is over.

The handler only puts the signal's number into a queue that a thread waits at. ``SimpleQueue.put`` may interrupt itself,
so that a handler can call it wherever the main thread happens to be. ``signal.set_wakeup_fd`` is left to event loops.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
from signal import SIGTERM, SIGUSR1, Signals
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from spotweld.errors import UsageError
from spotweld.preemption.notices import Kind, Notice, Source
from spotweld.values.clocks import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from spotweld.preemption.notices import Withdrawal
    from spotweld.values.clocks import Clock

    Handler: TypeAlias = Callable[[int, FrameType | None], object] | int | None


class Rules(msgspec.Struct, frozen=True):
    """What each signal means here."""

    name: str
    """The source's name in its notices."""
    leads: dict[Signals, float | None]
    """For every signal that means the end: seconds from its arrival to the end; None: unknown."""


PLAIN = Rules("signal", {SIGTERM: None})
"""Any supervisor: TERM, and nobody knows how long it waits before KILL."""


def slurm(*, warning: float = 60.0, kill_wait: float = 30.0) -> Rules:
    """Slurm's signals.

    Before a time limit or a preemption comes what ``--signal=B:USR1@SECONDS`` asked for, up to a minute early, so that
    the end is taken to be as near as it can be. At the end comes CONT, which means nothing by itself, and TERM, then
    ``KillWait`` seconds later KILL.

    Args:
        warning: the seconds in ``--signal``; 60 is Slurm's own default.
        kill_wait: ``KillWait`` of slurm.conf, or the partition's ``GraceTime`` if that is what counts.
    """
    return Rules("slurm", {SIGUSR1: warning, SIGTERM: kill_wait})


def kubernetes(*, grace: float = 30.0, pre_stop: float = 0.0) -> Rules:
    """The kubelet's signal.

    Args:
        grace: ``terminationGracePeriodSeconds``, or what a node that goes leaves to its pods, if that is less.
        pre_stop: seconds that the pod's preStop hook takes; it runs before TERM and inside the same grace period.
    """
    return Rules("kubernetes", {SIGTERM: max(0.0, grace - pre_stop)})


class SignalSource(Source):
    """Turns signals into notices. From now until ``close`` these signals are this source's alone.

    A process forked meanwhile does not inherit that: the first such signal that it gets puts the earlier handler back
    and is delivered again. The same happens here when another thread than the main one has closed the source, because
    only the main thread may change handlers.

    Args:
        rules: which signals, and what they mean.
        clock: by which it stamps what it hears.

    Raises:
        UsageError: not in the main thread.
    """

    def __init__(self, rules: Rules = PLAIN, *, clock: Clock | None = None) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise UsageError(
                "signals can be heard only from the main thread",
                "Python lets no other thread install signal handlers",
                "create the SignalSource in the main thread, or do without it",
            )
        self.name = rules.name
        self._rules = rules
        self._clock = clock or SystemClock()
        self._heard: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._told: dict[int, Notice] = {}
        self._closed = False
        self._pid = os.getpid()
        self._earlier: dict[int, Handler] = {}
        for number in rules.leads:
            self._earlier[number] = signal.signal(number, self._hear)

    def _hear(self, number: int, _: FrameType | None) -> None:
        if self._closed or os.getpid() != self._pid:
            self._restore(number)
            os.kill(os.getpid(), number)
        else:
            self._heard.put(number)

    def _restore(self, number: int) -> None:
        earlier = self._earlier[number]
        # None stands for a handler that no Python code installed; there is no way to put that back.
        signal.signal(number, signal.SIG_DFL if earlier is None else earlier)

    def wait(self, timeout: float) -> Notice | Withdrawal | None:
        try:
            number = self._heard.get(timeout=timeout)
        except queue.Empty:
            return None
        if not number:
            return None
        if number not in self._told:
            now = self._clock.now()
            lead = self._rules.leads[Signals(number)]
            name = f"{self.name}-{Signals(number).name}-{self._pid}-{now:.3f}"
            deadline = None if lead is None else now + lead
            self._told[number] = Notice(name, Kind.TERMINATE, self.name, deadline, now)
        return self._told[number]

    def close(self) -> None:
        """Put the earlier handlers back, at once in the main thread, else when the next such signal comes."""
        if self._closed:
            return
        self._closed = True
        self._heard.put(0)
        if threading.current_thread() is threading.main_thread():
            for number in self._earlier:
                if signal.getsignal(number) == self._hear:
                    self._restore(number)
