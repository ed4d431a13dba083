"""What the sources that have to ask again and again share: the pace, the patience with errors, and what is news."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections import deque
from typing import TYPE_CHECKING, TypeAlias

from spotweld.preemption.notices import Notice, Source, Withdrawal
from spotweld.values.clocks import SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from spotweld.values.clocks import Clock

Told: TypeAlias = dict[str, Notice]
"""The notices that hold according to a source, by id."""

LONGEST_PAUSE = 15.0
"""Seconds between tries of a source that only gets errors: half of the shortest lead that a cloud gives."""


def news(before: Told, heard: Iterable[Notice]) -> Iterator[Notice | Withdrawal]:
    """What is new when ``before`` held and now ``heard`` does; notices first, so that none is missed in between."""
    now = {notice.id: notice for notice in heard}
    for notice in now.values():
        if notice.id not in before or before[notice.id].kind != notice.kind:
            yield notice
    for notice in before.values():
        if notice.id not in now:
            yield Withdrawal(notice.id, notice.source)


def pause(interval: float, failures: int) -> float:
    """Seconds until the next question after so many failures in a row: doubled each time, up to ``LONGEST_PAUSE``."""
    return max(interval, min(interval * 2.0 ** min(failures, 10), LONGEST_PAUSE))


class PolledSource(Source):
    """Looks every ``interval`` seconds and tells what has changed.

    Args:
        interval: seconds from the beginning of one look to the next.
        clock: by which it paces itself and stamps what it hears.
    """

    def __init__(self, interval: float, clock: Clock | None) -> None:
        self.interval = interval
        self.clock = clock or SystemClock()
        self._told: Told = {}
        self._news: deque[Notice | Withdrawal] = deque()
        self._due = self.clock.monotonic()
        self._failures = 0
        self._closed = threading.Event()

    @abstractmethod
    def look(self, timeout: float) -> list[Notice] | None:
        """Every notice that holds now; None if that could not be heard.

        Args:
            timeout: seconds that a source which can wait for a change may wait for it.
        """

    def wait(self, timeout: float) -> Notice | Withdrawal | None:
        """See ``Source``; asks at most once, so that None may come early."""
        if not self._news:
            self._closed.wait(min(max(0.0, self._due - self.clock.monotonic()), timeout))
            if not self._closed.is_set() and self.clock.monotonic() >= self._due:
                self._learn(timeout)
        return self._news.popleft() if self._news else None

    def _learn(self, timeout: float) -> None:
        begun = self.clock.monotonic()
        heard = self.look(timeout)
        if heard is None:
            self._failures += 1
            self._due = self.clock.monotonic() + pause(self.interval, self._failures)
            return
        self._failures = 0
        self._due = begun + self.interval
        self._news.extend(news(self._told, heard))
        self._told = {notice.id: notice for notice in heard}

    def close(self) -> None:
        self._closed.set()
