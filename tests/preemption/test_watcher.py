"""The watcher: many sources, one standing notice, and nothing that ends it but ``stop``."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from spotweld.preemption import watcher as watching
from spotweld.preemption.gcp import GcpSource
from spotweld.preemption.notices import Kind, Notice, Source, Withdrawal
from spotweld.preemption.watcher import Watcher

if TYPE_CHECKING:
    from conftest import HandClock
    from spotweld.preemption.metadata_server import MetadataServer


class Told(Source):
    """Says what a test puts in; raises it if it is an exception."""

    name = "told"

    def __init__(self) -> None:
        self.says: queue.SimpleQueue[Notice | Withdrawal | Exception | None] = queue.SimpleQueue()
        self.closings = 0

    def wait(self, timeout: float) -> Notice | Withdrawal | None:
        said = self.says.get(timeout=timeout)
        if isinstance(said, Exception):
            raise said
        return said

    def close(self) -> None:
        self.closings += 1
        self.says.put(None)


def notice(name: str, kind: Kind = Kind.TERMINATE, lead: float | None = 30.0, received: float = 1000.0) -> Notice:
    return Notice(name, kind, "told", None if lead is None else received + lead, received)


class Changes:
    """Collects what ``on_change`` is told."""

    def __init__(self) -> None:
        self._told: queue.SimpleQueue[Notice | None] = queue.SimpleQueue()

    def __call__(self, standing: Notice | None) -> None:
        self._told.put(standing)

    def next(self) -> Notice | None:
        return self._told.get(timeout=20)

    def rest(self) -> int:
        return self._told.qsize()


def test_before_anything_is_heard_nothing_stands(clock: HandClock) -> None:
    with Watcher([Told()], clock=clock) as watcher:
        assert watcher.current() is None
        assert watcher.remaining() is None


def test_a_wall_clock_that_jumps_changes_nothing(clock: HandClock) -> None:
    source, changes = Told(), Changes()
    with Watcher([source], clock=clock, on_change=changes) as watcher:
        source.says.put(notice("a", received=clock.now()))
        changes.next()
        clock.wall -= 86_400
        clock.steady += 10
        assert watcher.remaining() == 20
        clock.wall += 7 * 86_400
        assert watcher.remaining() == 20
        clock.steady += 100
        assert watcher.remaining() == 0


def test_repetitions_are_dropped_terminate_wins_and_a_withdrawal_lifts(clock: HandClock) -> None:
    source, other, changes = Told(), Told(), Changes()
    with Watcher([source, other], clock=clock, on_change=changes) as watcher:
        source.says.put(notice("risk", Kind.REBALANCE, None))
        assert changes.next() == notice("risk", Kind.REBALANCE, None)
        assert watcher.remaining() is None
        for _ in range(5):
            source.says.put(notice("risk", Kind.REBALANCE, None))
        other.says.put(notice("end"))
        assert changes.next() == notice("end")
        source.says.put(notice("later", lead=5))
        source.says.put(Withdrawal("end", "told"))
        assert changes.next() == notice("later", lead=5)
        other.says.put(Withdrawal("later", "told"))
        assert changes.next() == notice("risk", Kind.REBALANCE, None)
        other.says.put(Withdrawal("risk", "told"))
        assert changes.next() is None
        assert watcher.current() is None
    assert changes.rest() == 0


@pytest.mark.parametrize("fault", [ValueError("mine"), SystemExit(3)])
def test_a_callback_that_fails_is_logged_and_does_not_end_the_watch(
    clock: HandClock, fault: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    source, changes = Told(), Changes()

    def fail(standing: Notice | None) -> None:
        changes(standing)
        raise fault

    with Watcher([source], clock=clock, on_change=fail):
        source.says.put(notice("a"))
        assert changes.next() == notice("a")
        source.says.put(Withdrawal("a", "told"))
        assert changes.next() is None
    assert "a callback for notices failed" in caplog.text


def test_a_source_that_fails_is_heard_again(
    clock: HandClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watching, "_AFTER_A_FAULT", 0)
    source, changes = Told(), Changes()
    with Watcher([source], clock=clock, on_change=changes):
        source.says.put(RuntimeError("broken"))
        source.says.put(notice("a"))
        assert changes.next() == notice("a")
    assert "the notice source told failed" in caplog.text


def test_stop_closes_the_sources_ends_the_threads_and_may_be_repeated(clock: HandClock) -> None:
    source, changes = Told(), Changes()
    watcher = Watcher([source], clock=clock, on_change=changes)
    watcher.start()
    source.says.put(notice("a"))
    changes.next()
    watcher.stop()
    watcher.stop()
    assert source.closings == 2
    assert not any(thread.is_alive() for thread in watcher._threads)
    assert watcher.current() == notice("a")


def test_a_callback_may_stop_the_watcher(clock: HandClock) -> None:
    source, stopped = Told(), threading.Event()

    def stop(_: Notice | None) -> None:
        watcher.stop()
        stopped.set()

    watcher = Watcher([source, Told()], clock=clock, on_change=stop)
    watcher.start()
    source.says.put(notice("a"))
    assert stopped.wait(20)
    for thread in watcher._threads:
        thread.join(20)
        assert not thread.is_alive()


def test_stop_does_not_wait_for_a_long_poll(server: MetadataServer) -> None:
    watcher = Watcher([GcpSource(server.url, interval=0)])
    watcher.start()
    while not any("timeout_sec=60" in asked for asked in server.asked):
        threading.Event().wait(0.01)
    watcher.stop()
    assert not any(thread.is_alive() for thread in watcher._threads)


def test_importing_it_brings_in_nothing_heavy() -> None:
    program = (
        "import sys, spotweld.preemption.watcher, spotweld.preemption.detect\n"
        "heavy = {'ssl', 'email', 'http', 'logging', 'socket', 'click', 'rich', 'ruamel', 'torch', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
