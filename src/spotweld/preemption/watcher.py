"""Listens to every source at once and says which notice stands."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

from spotweld.preemption.notices import Notice
from spotweld.preemption.standing import Standing, end, foremost, heard, standing
from spotweld.values.clocks import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from spotweld.preemption.notices import Source, Withdrawal
    from spotweld.values.clocks import Clock

_TURN = 60.0
"""Seconds that a source is given to wait at a time."""
_AFTER_A_FAULT = 1.0
_FAREWELL = 0.5
"""Seconds that ``stop`` waits for all threads together; they are daemons and die with the process in any case."""


class Watcher:
    """Listens from ``start`` until ``stop``; also a context manager. One daemon thread per source.

    Args:
        sources: to listen to; the watcher closes them.
        clock: whose monotonic time the deadlines are kept in.
        on_change: called with the notice that stands (None: none) whenever that changes, in a thread of the watcher's,
            one call at a time and in order. What it raises is logged and goes no further.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        clock: Clock | None = None,
        on_change: Callable[[Notice | None], object] | None = None,
    ) -> None:
        self._sources = tuple(sources)
        self._clock = clock or SystemClock()
        self._on_change = on_change
        self._standing: Standing = ()
        self._turn = threading.Lock()
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._listen, args=(source,), name=f"spotweld-{source.name}", daemon=True)
            for source in self._sources
        ]

    def start(self) -> None:
        """Begin to listen. Once."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Close all sources and listen no more; what stands goes on standing. A second call does nothing."""
        self._stopped.set()
        for source in self._sources:
            source.close()
        latest = time.monotonic() + _FAREWELL
        for thread in self._threads:
            if thread.is_alive() and thread is not threading.current_thread():
                thread.join(max(0.0, latest - time.monotonic()))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def current(self) -> Notice | None:
        """The notice that stands: the first that says terminate, else the first that says rebalance, else None."""
        return foremost(self._standing)

    def remaining(self) -> float | None:
        """Seconds until the machine goes, by the monotonic clock, never below 0; None: not known, perhaps at once.

        When several notices of the standing one's kind hold, the earliest of their deadlines counts, and one without a
        deadline before all others.
        """
        ends = end(self._standing)
        return None if ends is None else max(0.0, ends - self._clock.monotonic())

    def _listen(self, source: Source) -> None:
        while not self._stopped.is_set():
            try:
                event = source.wait(_TURN)
            except BaseException as fault:  # noqa: BLE001, a source that breaks its promise must not end the watch
                _report(f"the notice source {source.name} failed", fault)
                self._stopped.wait(_AFTER_A_FAULT)
            else:
                if event is not None and not self._stopped.is_set():
                    self._take(event)

    def _take(self, event: Notice | Withdrawal) -> None:
        arrived = self._clock.monotonic()
        with self._turn:
            before = foremost(self._standing)
            self._standing = standing(self._standing, heard(event, arrived) if isinstance(event, Notice) else event)
            after = foremost(self._standing)
            if after != before and self._on_change is not None:
                try:
                    self._on_change(after)
                except BaseException as fault:  # noqa: BLE001, somebody else's fault must not end the watch
                    _report("a callback for notices failed", fault)


def _report(what: str, fault: BaseException) -> None:
    import logging  # noqa: PLC0415, needed only when something is broken

    logging.getLogger("spotweld.preemption").error(what, exc_info=fault)
