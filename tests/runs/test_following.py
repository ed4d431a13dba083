from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.runs.samples import attempt_opened, opened
from tests.runs.telling import ship
from tests.runs.world import ManualClock

from spotweld.checkpoint import events as told
from spotweld.errors import Unavailable
from spotweld.runs.events import AttemptEnded, Cause, Ended, Entry, MachineStarted, Outcome, Running
from spotweld.runs.following import Follower, Output, Told, _ordered
from spotweld.runs.log import EventLog
from spotweld.runs.reports import segment_key
from spotweld.runs.states import fold
from spotweld.store.opening import open_store
from spotweld.testing.stores import Call, Fault, FaultyObjects


class Run:
    """A log and a store, written by hand."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.clock.offset = 0.0
        self.log = EventLog(folder / "events.db", self.clock)
        self.store = open_store("memory:")
        self.down = False
        self.calls = 0
        self.objects = FaultyObjects(self.store, self._fault)
        self.log.open_run("r", opened())
        self.generation = self.log.take_over("r")

    def _fault(self, _: Call) -> Fault | None:
        self.calls += 1
        return Fault.NO_ANSWER if self.down else None

    def append(self, *events: object) -> None:
        for event in events:
            self.clock.elapsed += 1
            self.log.append("r", self.generation, event)  # type: ignore[arg-type]

    def begin(self, attempt: int) -> None:
        self.append(attempt_opened(attempt), MachineStarted(attempt, f"m-{attempt}", 1.0), Running(attempt))

    def end(self, attempt: int) -> None:
        self.append(AttemptEnded(attempt, Cause.PREEMPTED, "taken", self.clock.now()))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_both_streams_come_as_one_and_nothing_comes_twice(run: Run) -> None:
    follower = Follower("r", run.log, run.objects)
    assert [type(h).__name__ for h in follower.poll()] == ["Entry"]
    run.begin(1)
    ship(run.store, "r", 1, [told.Step(2.5, 1), told.Step(9.0, 2)])
    happenings = follower.poll()
    assert [h.time for h in happenings] == [1.0, 2.0, 2.5, 3.0, 9.0]
    assert follower.poll() == []
    ship(run.store, "r", 1, [told.Step(10.0, 3)], 2)
    assert follower.poll() == [Told(1, told.Step(10.0, 3))]


def test_while_the_store_is_down_nothing_is_given_and_nothing_is_lost(run: Run) -> None:
    follower = Follower("r", run.log, run.objects)
    run.begin(1)
    ship(run.store, "r", 1, [told.Step(2.5, 1)])
    run.end(1)
    run.append(Ended(Outcome.CANCELLED, ""))
    run.down = True
    for _ in range(3):
        with pytest.raises(Unavailable):
            follower.poll()
    run.down = False
    happenings = follower.poll()
    assert [h.event for h in happenings if isinstance(h, Told)] == [told.Step(2.5, 1)]
    assert [h.seq for h in happenings if isinstance(h, Entry)] == [1, 2, 3, 4, 5, 6]


def test_a_failure_in_the_middle_of_the_segments_loses_none(run: Run) -> None:
    follower = Follower("r", run.log, run.objects)
    run.begin(1)
    for number in range(1, 6):
        ship(run.store, "r", 1, [told.Step(float(number), number)], number)
    run.objects = FaultyObjects(run.store, lambda call: Fault.NO_ANSWER if call.number == 3 else None)
    follower._objects = run.objects
    with pytest.raises(Unavailable):
        follower.poll()
    assert [h.event.step for h in follower.poll() if isinstance(h, Told)] == [1, 2, 3, 4, 5]  # type: ignore[union-attr]


def test_attempts_that_are_over_are_not_asked_for_again(run: Run) -> None:
    follower = Follower("r", run.log, run.objects)
    for attempt in range(1, 6):
        run.begin(attempt)
        ship(run.store, "r", attempt, [told.Step(1.0, attempt)])
        run.end(attempt)
    assert sum(isinstance(h, Told) for h in follower.poll()) == 5
    before = run.calls
    assert follower.poll() == []
    assert run.calls == before


def test_lines_that_are_no_events_are_left_out(run: Run) -> None:
    follower = Follower("r", run.log, run.objects)
    run.begin(1)
    run.store.put(segment_key("r", 1, "events", 1), b'{"kind":"step","t":1.0,"step":4}\nhello\n{"kind":"new"}\n\xff\n')
    assert [h.event for h in follower.poll() if isinstance(h, Told)] == [told.Step(1.0, 4)]


times = st.lists(st.floats(-1e9, 1e9), max_size=12)


@given(log=times, processes=st.lists(times, max_size=3))
def test_no_clock_changes_the_order_within_a_stream(log: list[float], processes: list[list[float]]) -> None:
    entries = [Entry("r", seq, time, opened()) for seq, time in enumerate(log)]
    streams = [[Told(n, told.Step(t, s)) for s, t in enumerate(ts)] for n, ts in enumerate(processes, 1)]
    mixed = _ordered([*entries, *(happening for stream in streams for happening in stream)])
    assert [h for h in mixed if isinstance(h, Entry)] == entries
    for number, stream in enumerate(streams, 1):
        assert [h for h in mixed if isinstance(h, Told) and h.attempt == number] == stream


def test_output_is_read_once_over_all_attempts_or_of_one(run: Run) -> None:
    for attempt in (1, 2):
        run.begin(attempt)
        run.store.put(segment_key("r", attempt, "log", 1), b"one %d\n" % attempt)
        run.store.put(segment_key("r", attempt, "log", 2), b"two %d\n" % attempt)
        if attempt == 1:
            run.end(attempt)
    attempts = fold(run.log.entries("r")).attempts
    output = Output("r", run.objects)
    assert list(output.read(attempts)) == [(1, b"one 1\n"), (1, b"two 1\n"), (2, b"one 2\n"), (2, b"two 2\n")]
    before = run.calls
    assert list(output.read(attempts)) == []
    assert run.calls == before + 1
    assert list(Output("r", run.objects, 2).read(attempts)) == [(2, b"one 2\n"), (2, b"two 2\n")]
