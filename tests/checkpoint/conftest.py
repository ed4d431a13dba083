"""What the tests of the engine share: a clock that is set by hand, a store with faults, a source of notices."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from spotweld.preemption.notices import Kind, Notice, Source, Withdrawal
from spotweld.store.objects import Objects
from spotweld.store.opening import open_store
from spotweld.store.pieces import joined

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from spotweld.store.objects import Meta, Version
    from spotweld.store.pieces import Pieces
    from spotweld.values.digests import Data

# How long an example takes says more about who else uses the machine.
settings.register_profile("checkpoint", deadline=None)
settings.load_profile("checkpoint")


class HandClock:
    """Goes on only when it is told to, or slept on."""

    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> float:
        return 1_700_000_000.0 + self.at

    def monotonic(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds


class Watched(Objects):
    """A store that calls ``before`` and ``after`` around every verb; what they raise comes out of the verb."""

    def __init__(self, inner: Objects) -> None:
        self.inner = inner
        self.url = inner.url
        self.before: Callable[[str, str], None] = lambda _verb, _key: None
        self.after: Callable[[str, str], None] = lambda _verb, _key: None
        self.calls: list[tuple[str, str]] = []

    def _around(self, verb: str, key: str, call: Callable[[], Any]) -> Any:  # noqa: ANN401
        self.calls.append((verb, key))
        self.before(verb, key)
        result = call()
        self.after(verb, key)
        return result

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        return self._around("get", key, lambda: self.inner.get(key, start=start, length=length))

    def read(self, key: str) -> tuple[bytes, Version]:
        return self._around("read", key, lambda: self.inner.read(key))

    def put(self, key: str, data: Data) -> None:
        self._around("put", key, lambda: self.inner.put(key, data))

    def create(self, key: str, data: Pieces) -> None:
        # The memory store keeps the buffer that it is given, and the engine uses its buffers again.
        self._around("create", key, lambda: self.inner.create(key, bytes(joined(data))))

    def replace(self, key: str, data: Data, version: Version) -> None:
        self._around("replace", key, lambda: self.inner.replace(key, data, version))

    def list(self, prefix: str) -> Iterator[Meta]:
        return iter(self._around("list", prefix, lambda: list(self.inner.list(prefix))))

    def delete(self, key: str) -> None:
        self._around("delete", key, lambda: self.inner.delete(key))

    def keys(self, prefix: str = "") -> set[str]:
        return {meta.key for meta in self.inner.list(prefix)}


class Announcer(Source):
    """Says what the test tells it to, and returns once the watcher has heard it."""

    name = "test"

    def __init__(self, clock: HandClock) -> None:
        self.clock = clock
        self._queue: queue.SimpleQueue[Notice | Withdrawal | None] = queue.SimpleQueue()
        self._waiting = threading.Semaphore(0)

    def wait(self, timeout: float) -> Notice | Withdrawal | None:
        self._waiting.release()  # whatever was said before has been taken by now
        try:
            return self._queue.get(timeout=timeout)
        except queue.Empty:
            return None

    def close(self) -> None:
        self._queue.put(None)

    def say(self, event: Notice | Withdrawal) -> None:
        self._waiting.acquire(timeout=10)
        self._queue.put(event)
        self._waiting.acquire(timeout=10)
        self._waiting.release()

    def terminate(self, seconds: float | None, name: str = "n1") -> None:
        now = self.clock.now()
        self.say(Notice(name, Kind.TERMINATE, self.name, None if seconds is None else now + seconds, now))

    def rebalance(self, name: str = "r1") -> None:
        self.say(Notice(name, Kind.REBALANCE, self.name, None, self.clock.now()))

    def withdraw(self, name: str = "n1") -> None:
        self.say(Withdrawal(name, self.name))


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def store() -> Watched:
    return Watched(open_store("memory:", verify=False))


@pytest.fixture
def announcer(clock: HandClock) -> Announcer:
    return Announcer(clock)


@pytest.fixture(scope="session")
def new_clock() -> type[HandClock]:
    return HandClock


@pytest.fixture(scope="session")
def new_store() -> Callable[[], Watched]:
    """For tests that need many, such as Hypothesis's."""
    return lambda: Watched(open_store("memory:", verify=False))


@pytest.fixture
def no_thread_is_left() -> Iterator[None]:
    """Whatever the test started in the background ends by itself."""
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("spotweld"):
            thread.join(10)
            assert not thread.is_alive(), thread.name
