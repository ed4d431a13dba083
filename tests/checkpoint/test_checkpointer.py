"""The loop: what a program sees, step by step, with the clock, the store and the notices in the test's hand."""

from __future__ import annotations

import random
import threading
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from spotweld import Checkpointer
from spotweld.checkpoint import events
from spotweld.checkpoint.cadence import Rule
from spotweld.checkpoint.events import parse_event
from spotweld.errors import Fenced, StateMismatch, Unavailable, UnsupportedState, UsageError
from spotweld.store.heads import read_head, take_over

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Announcer, HandClock, Watched

    Body = Callable[["Program", int], None]


class Program:
    """A training loop that adds up its steps; each takes a second."""

    def __init__(
        self,
        store: Watched,
        clock: HandClock,
        told: Path,
        announcer: Announcer | None = None,
        *,
        every: Any = 1000,  # noqa: ANN401
        patient: bool = True,
        max_lost_work: float | str | None = None,
    ) -> None:
        self.clock, self.patient, self.told = clock, patient, told
        self.beside = threading.Event()
        """Set while a step waits for the save beside it."""
        self.told.unlink(missing_ok=True)
        self.weights = np.zeros(3)
        self.log: dict[str, Any] = {"steps": []}
        self.checkpointer = Checkpointer(
            {"weights": self.weights, "log": self.log},
            store=store,
            every=every,
            max_lost_work=max_lost_work,
            notices=[announcer] if announcer else [],
            clock=clock,
        )

    def run(self, total: int, body: Body = lambda _program, _step: None) -> Program:
        for step in self.checkpointer.steps(total):
            if self.patient:  # let a save end before the clock goes on, so that what is due is never put off
                self.beside.set()
                self.wait()
                if step < total - 1:
                    self.beside.clear()
            self.weights += step
            self.log["steps"].append(step)
            self.clock.sleep(1.0)
            body(self, step)
        return self

    def wait(self) -> None:
        self.checkpointer._session._saves.wait(10)

    @property
    def events(self) -> list[Any]:
        return [parse_event(line) for line in self.told.read_bytes().splitlines()]

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def saved(self) -> list[tuple[int, str]]:
        return [(event.step, event.reason) for event in self.of(events.Saved)]

    def is_whole(self, total: int) -> bool:
        return self.log["steps"] == list(range(total)) and self.weights.tolist() == [sum(range(total))] * 3


@pytest.fixture(autouse=True)
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "events.jsonl"
    monkeypatch.setenv("SPOTWELD_EVENTS_FILE", str(path))
    monkeypatch.setenv("SPOTWELD_HAZARD", "0.3125")  # once in 3.2 h, at every age
    monkeypatch.setenv("SPOTWELD_MACHINE_STARTED", "1700000000")
    return path


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("spotweld")]
    assert left == []


def at(step: int, act: Callable[[], object]) -> Body:
    def body(_: Program, now: int) -> None:
        if now == step:
            act()

    return body


def kill() -> None:
    raise KeyboardInterrupt


def published(store: Watched) -> list[int]:
    head = read_head(store, "default")
    assert head is not None
    return [kept.step for kept in head.kept]


def test_a_fresh_run_does_every_step_and_ends_durable(store: Watched, clock: HandClock, told: Path) -> None:
    program = Program(store, clock, told).run(5)
    assert program.is_whole(5)
    assert published(store) == [5]
    kinds = [type(event).__name__ for event in program.events if not isinstance(event, events.Step)]
    assert kinds == ["Start", "Fresh", "Saving", "Saved", "Finished"]
    assert program.checkpointer.step == 5


def test_a_finished_run_gives_no_step_and_its_state(store: Watched, clock: HandClock, told: Path) -> None:
    Program(store, clock, told).run(5)
    again = Program(store, clock, told).run(5, lambda _program, _step: pytest.fail("a step was given"))
    assert again.is_whole(5)
    assert [type(event).__name__ for event in again.events] == ["Start", "Restored", "Step", "Finished"]
    assert published(store) == [5]


def test_a_finished_run_can_be_made_longer(store: Watched, clock: HandClock, told: Path) -> None:
    Program(store, clock, told).run(5)
    assert Program(store, clock, told).run(8).is_whole(8)


def test_a_killed_run_repeats_and_skips_nothing(store: Watched, clock: HandClock, told: Path) -> None:
    for step in (4, 7, 7, 11):
        with pytest.raises(KeyboardInterrupt):
            Program(store, clock, told, every=3).run(13, at(step, kill))
    program = Program(store, clock, told, every=3).run(13)
    assert program.of(events.Restored)[0].step == 9
    assert program.is_whole(13)


def test_an_exception_saves_no_torn_state(store: Watched, clock: HandClock, told: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Program(store, clock, told, every=2).run(9, at(5, kill))
    assert published(store) == [4, 2]


def test_break_saves_no_more_but_lets_a_running_save_end(store: Watched, clock: HandClock, told: Path) -> None:
    gate = threading.Event()
    store.before = lambda verb, key: gate.wait(10) if (verb, "/packs/" in key) == ("create", True) else None
    program = Program(store, clock, told, every=2, patient=False)
    for step in program.checkpointer.steps(9):
        if step == 3:
            gate.set()
            break
    assert published(store) == [2]
    assert program.saved == [(2, "cadence")]


def test_cadence_in_steps(store: Watched, clock: HandClock, told: Path) -> None:
    program = Program(store, clock, told, every=3).run(10)
    assert program.saved == [(3, "cadence"), (6, "cadence"), (9, "cadence"), (10, "final")]


def test_cadence_in_seconds(store: Watched, clock: HandClock, told: Path) -> None:
    assert [step for step, _ in Program(store, clock, told, every="4s").run(10).saved] == [4, 8, 10]


def test_cadence_by_cost(store: Watched, clock: HandClock, told: Path) -> None:
    program = Program(store, clock, told, every="auto")

    def slow(verb: str, key: str) -> None:
        if verb == "create" and "/packs/" in key:
            program.beside.wait(10)
            clock.sleep(0.4)

    store.before = slow
    steps = [step for step, _ in program.run(500).saved]
    assert steps[0] == 1  # soon, to know the cost
    gaps = [later - earlier for earlier, later in pairwise(steps[:-1])]
    assert set(gaps[:3]) <= {48, 49}  # a quarter of it is assumed: sqrt(2 * 0.1 s * 3.2 h) = 48 s
    assert set(gaps[3:]) <= {95, 96}  # all of it was measured: sqrt(2 * 0.4 s * 3.2 h) = 96 s
    first, *_, last = [event.plan for event in program.of(events.Cadence)]
    assert (first.rule, first.measured, first.interference) == (Rule.LEAST_LOSS, False, pytest.approx(0.1))
    assert (last.measured, last.interference, last.durable) == (True, pytest.approx(0.4), pytest.approx(0.4))
    assert 500 // 61 <= len(program.of(events.Cadence)) <= 500 // 60 + 2  # once a minute, and at once when it changed


def test_lost_work_is_bounded_whatever_was_asked_for(store: Watched, clock: HandClock, told: Path) -> None:
    slow_store(store, clock, 2.0)
    program = Program(store, clock, told, every=1000, max_lost_work="20s").run(100)
    gaps = [later - earlier for earlier, later in pairwise([0, *(step for step, _ in program.saved)])]
    assert max(gaps) * 1.0 + 2.0 + 2.0 <= 20.0  # a step takes a second, and two more while a save runs beside it
    assert min(gaps[1:-1]) > 10
    assert program.of(events.Cadence)[0].plan.rule is Rule.MAX_LOST_WORK


def test_a_bound_that_cannot_be_kept_is_told_once(
    store: Watched, clock: HandClock, told: Path, caplog: pytest.LogCaptureFixture
) -> None:
    slow_store(store, clock, 30.0)
    program = Program(store, clock, told, every="auto", max_lost_work=20.0).run(30)
    assert caplog.text.count("max_lost_work 20.0 s cannot be kept, since a save takes 30.0 s") == 1
    assert {event.plan.kept for event in program.of(events.Cadence)} == {False}
    assert program.is_whole(30)


def test_a_machine_of_a_dangerous_age_is_saved_more_often(
    store: Watched, clock: HandClock, told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPOTWELD_HAZARD", "[[0, 0.3125], [300, 31.25]]")
    monkeypatch.setenv("SPOTWELD_MACHINE_STARTED", str(clock.now() - 100))
    slow_store(store, clock, 0.4)
    steps = [step for step, _ in Program(store, clock, told, every="auto").run(400).saved]
    gaps = [later - earlier for earlier, later in pairwise(steps[:-1])]
    assert min(gap for gap, step in zip(gaps, steps, strict=False) if 1 < step < 140) > 40
    assert max(gap for gap, step in zip(gaps, steps, strict=False) if step > 210) < 15


def test_the_risk_is_told_at_a_steps_edge_and_its_callbacks_harm_nobody(
    store: Watched,
    clock: HandClock,
    told: Path,
    announcer: Announcer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("SPOTWELD_MACHINE_STARTED", str(clock.now() - 60))
    program = Program(store, clock, told, announcer)
    checkpointer = program.checkpointer
    assert (checkpointer.risk.level, checkpointer.risk.hazard) == ("low", 0.0)
    heard: list[tuple[int, str]] = []

    def broken(_: object) -> None:
        raise ZeroDivisionError

    checkpointer.on_risk(broken)
    checkpointer.on_risk(lambda risk: heard.append((checkpointer.step, risk.level)))

    def body(_: Program, step: int) -> None:
        if step == 2:
            assert checkpointer.risk.hazard == 0.3125
            announcer.rebalance()
            assert checkpointer.risk.level == "high"
            assert checkpointer.risk.notice.source == "test"
        if step == 4:
            announcer.withdraw("r1")
        if step == 6:
            announcer.terminate(4.0)
            assert checkpointer.risk.left == pytest.approx(4.0 - 1.0, abs=1.1)

    with pytest.raises(SystemExit):
        program.run(60, body)
    assert heard == [(3, "high"), (5, "low"), (7, "leaving")]
    assert [(event.level, event.hazard) for event in program.of(events.Risk)] == [
        ("high", 6.0), ("low", 0.3125), ("leaving", 0.3125),
    ]  # fmt: skip
    assert caplog.text.count("a callback for risks failed, training goes on: ZeroDivisionError") == 3


def test_a_machine_that_is_riskier_than_usual_from_the_start(
    store: Watched, clock: HandClock, told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPOTWELD_HAZARD", "30")
    program = Program(store, clock, told)
    heard: list[tuple[int, str]] = []
    program.checkpointer.on_risk(lambda risk: heard.append((program.checkpointer.step, risk.level)))
    program.run(4)
    assert heard == [(1, "elevated")]


def test_a_save_on_request(store: Watched, clock: HandClock, told: Path) -> None:
    program = Program(store, clock, told)
    program.run(6, at(2, program.checkpointer.save))
    assert program.saved == [(3, "request"), (6, "final")]


def test_a_save_that_is_due_while_another_runs_waits_for_it(store: Watched, clock: HandClock, told: Path) -> None:
    gate = threading.Event()
    store.before = lambda verb, key: gate.wait(10) if (verb, "/packs/" in key) == ("create", True) else None
    program = Program(store, clock, told, every=1, patient=False)

    def body(program: Program, step: int) -> None:
        if step == 4:
            gate.set()
            program.wait()

    program.run(6, body)
    assert [step for step, _ in program.saved][:2] == [1, 5]


def test_a_store_that_is_down_stops_nobody(
    store: Watched, clock: HandClock, told: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tries = []

    def down(verb: str, key: str) -> None:
        if verb == "create" and "/packs/" in key:
            tries.append(clock.at)
            if len(tries) <= 3:
                raise Unavailable("The disk is full", "No space left on device")

    store.before = down
    program = Program(store, clock, told, every=1).run(12)
    assert program.is_whole(12)
    failed = program.of(events.SaveFailed)
    assert [event.attempts for event in failed] == [1, 2, 3]
    assert "No space left on device" in failed[0].why
    gaps = [later - earlier for earlier, later in pairwise(tries)]
    assert gaps[:3] == [2.0, 3.0, 5.0]  # one step to hear of it, then 1, 2 and 4 seconds of back-off
    assert caplog.text.count("a save failed") == 1
    assert caplog.text.count("saving works again") == 1
    assert program.saved[-1][0] == 12


def test_a_fault_of_our_own_stops_nobody_either(store: Watched, clock: HandClock, told: Path) -> None:
    def broken(verb: str, key: str) -> None:
        if verb == "create" and "/manifests/" in key and clock.at < 1005:
            raise ZeroDivisionError

    store.before = broken
    program = Program(store, clock, told, every=1).run(9)
    assert program.is_whole(9)
    assert program.of(events.SaveFailed)[0].why.startswith("ZeroDivisionError")


def test_a_run_does_not_end_before_its_last_state_is_durable(store: Watched, clock: HandClock, told: Path) -> None:
    start = clock.at

    def down(verb: str, key: str) -> None:
        if verb == "create" and "/packs/" in key and clock.at < start + 300:
            raise Unavailable("down")

    store.before = down
    program = Program(store, clock, told).run(3)
    assert program.saved == [(3, "final")]
    assert clock.at > start + 300


def test_a_store_that_never_comes_back_is_an_error_at_the_end(store: Watched, clock: HandClock, told: Path) -> None:
    def down(verb: str, key: str) -> None:
        if verb == "create" and "/packs/" in key:
            raise Unavailable("down")

    store.before = down
    with pytest.raises(Unavailable):
        Program(store, clock, told).run(3)


def test_the_start_waits_for_the_store(store: Watched, clock: HandClock, told: Path) -> None:
    Program(store, clock, told).run(3)
    start = clock.at

    def down(_verb: str, _key: str) -> None:
        if clock.at < start + 100:
            raise Unavailable("down")

    store.before = down
    assert Program(store, clock, told).run(4).is_whole(4)
    store.before = lambda _verb, _key: (_ for _ in ()).throw(Unavailable("down"))
    with pytest.raises(Unavailable):
        Program(store, clock, told).run(5)


def test_a_state_that_can_never_be_saved_is_told_before_the_first_step(clock: HandClock, store: Watched) -> None:
    checkpointer = Checkpointer({"x": {"f": print}}, store=store, notices=[], clock=clock)
    with pytest.raises(UnsupportedState, match=r"x\.f cannot be saved"):
        next(checkpointer.steps(3))


def test_a_state_that_cannot_be_saved_any_more_is_reported(store: Watched, clock: HandClock, told: Path) -> None:
    program = Program(store, clock, told, every=1)

    def body(program: Program, step: int) -> None:
        program.log.pop("bad", None)
        if step == 2:
            program.log["bad"] = {1, 2}

    program.run(9, body)
    assert [(event.step, event.why) for event in program.of(events.SaveFailed)] == [
        (3, "log.bad cannot be saved: it is a builtins.set")
    ]
    assert program.saved[-1][0] == 9
    with pytest.raises(UnsupportedState):
        Program(store, clock, told).run(11, lambda program, _: program.log.update(bad={1}))


def test_a_later_attempt_fences_this_one(store: Watched, clock: HandClock, told: Path) -> None:
    program = Program(store, clock, told, every=2)

    def body(_: Program, step: int) -> None:
        if step == 4:
            Program(store, clock, told.with_name("other")).run(30)

    with pytest.raises(SystemExit) as caught:
        program.run(20, body)
    assert caught.value.code == 75
    assert program.of(events.Fenced)[0].epoch == 1
    assert isinstance(program.events[-1], events.Leaving)
    assert published(store)[0] == 30


def test_an_attempt_that_comes_late_is_fenced_at_once(
    store: Watched, clock: HandClock, told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_over(store, "default", 5)
    monkeypatch.setenv("SPOTWELD_ATTEMPT", "4")
    program = Program(store, clock, told)
    with pytest.raises(SystemExit) as caught:
        program.run(3, lambda _program, _step: pytest.fail("a step was given"))
    assert caught.value.code == 75
    assert [type(event).__name__ for event in program.events] == ["Start", "Fenced", "Leaving"]


def test_a_notice_with_time_saves_at_once_and_again_as_late_as_is_safe(
    store: Watched, clock: HandClock, told: Path, announcer: Announcer
) -> None:
    program = Program(store, clock, told, announcer, every=2)
    with pytest.raises(SystemExit) as caught:
        program.run(100, at(2, lambda: announcer.terminate(20.0)))
    assert caught.value.code == 75
    assert (3, "notice") in program.saved
    # Said in the third step at second 3, so gone at 23; a step takes 1 s and the margin 0.5 s.
    assert program.saved[-1] == (22, "emergency")
    assert published(store)[0] == 22
    kinds = [type(event).__name__ for event in program.events]
    assert kinds[-4:] == ["Emergency", "Saving", "Saved", "Leaving"]
    resumed = Program(store, clock, told).run(40)
    assert resumed.of(events.Restored)[0].step == 22
    assert resumed.is_whole(40)


def test_a_notice_without_a_deadline_saves_and_leaves_at_once(
    store: Watched, clock: HandClock, told: Path, announcer: Announcer
) -> None:
    program = Program(store, clock, told, announcer)
    with pytest.raises(SystemExit) as caught:
        program.run(100, at(2, lambda: announcer.terminate(None)))
    assert caught.value.code == 75
    assert program.saved == [(3, "emergency")]
    assert program.of(events.Emergency) == [events.Emergency(clock.now(), "full", None, None)]


def slow_store(store: Watched, clock: HandClock, seconds: float) -> None:
    def slow(verb: str, key: str) -> None:
        if verb == "create" and "/packs/" in key:
            clock.sleep(seconds)

    store.before = slow


def test_a_notice_too_short_for_a_save_leaves_and_says_so(
    store: Watched, clock: HandClock, told: Path, announcer: Announcer
) -> None:
    slow_store(store, clock, 30.0)
    program = Program(store, clock, told, announcer, every=4)
    with pytest.raises(SystemExit) as caught:
        program.run(100, at(6, lambda: announcer.terminate(20.0)))
    assert caught.value.code == 75
    assert published(store) == [4]
    (emergency,) = program.of(events.Emergency)
    assert (emergency.decision, emergency.predicted, emergency.remaining) == ("none", 30.0, 20.0)
    (leaving,) = program.of(events.Leaving)
    assert leaving.step == 7
    assert "the checkpoint of step 4 stands" in leaving.why


def test_a_withdrawn_notice_is_forgotten(store: Watched, clock: HandClock, told: Path, announcer: Announcer) -> None:
    program = Program(store, clock, told, announcer, every=3)

    def body(_: Program, step: int) -> None:
        if step == 2:
            announcer.terminate(30.0)
        if step == 5:
            announcer.withdraw()

    assert program.run(60, body).is_whole(60)
    assert [event.id for event in program.of(events.Withdrawn)] == ["n1"]
    assert len(program.of(events.Noticed)) == 1
    assert program.of(events.Emergency) == []


def test_a_second_notice_after_a_withdrawn_one_is_answered(
    store: Watched, clock: HandClock, told: Path, announcer: Announcer
) -> None:
    program = Program(store, clock, told, announcer)

    def body(_: Program, step: int) -> None:
        if step == 2:
            announcer.terminate(30.0)
        if step == 5:
            announcer.withdraw()
        if step == 9:
            announcer.terminate(10.0, "n2")

    with pytest.raises(SystemExit):
        program.run(60, body)
    assert [event.notice.id for event in program.of(events.Noticed)] == ["n1", "n2"]
    assert program.saved[-1] == (19, "emergency")


def test_a_machine_at_risk_is_saved_at_once_and_more_often(
    store: Watched, clock: HandClock, told: Path, announcer: Announcer
) -> None:
    slow_store(store, clock, 0.4)
    program = Program(store, clock, told, announcer)
    program.run(40, at(4, announcer.rebalance))
    steps = [step for step, _ in program.saved]
    assert program.saved[0] == (5, "rebalance")
    assert len(steps) > 3  # every sqrt(2 * 0.1 s * 600 s) = 11 s


def test_a_notice_while_the_store_is_down_ends_in_time(
    store: Watched, clock: HandClock, told: Path, announcer: Announcer
) -> None:
    program = Program(store, clock, told, announcer, every=2)

    def body(_: Program, step: int) -> None:
        if step == 2:
            store.before = lambda verb, _key: (_ for _ in ()).throw(Unavailable("down")) if verb == "create" else None
            announcer.terminate(8.0)

    with pytest.raises(SystemExit) as caught:
        program.run(100, body)
    assert caught.value.code == 75
    assert "the checkpoint of step 2 stands" in program.of(events.Leaving)[0].why
    assert clock.at <= 1000 + 3 + 8.2


def test_an_unknown_deadline_and_a_store_that_is_down_end_after_the_grace(
    store: Watched, clock: HandClock, told: Path, announcer: Announcer
) -> None:
    def down(verb: str, key: str) -> None:
        if verb == "create" and "/packs/" in key:
            raise Unavailable("down")

    store.before = down
    program = Program(store, clock, told, announcer)
    with pytest.raises(SystemExit):
        program.run(100, at(2, lambda: announcer.terminate(None)))
    assert "no checkpoint yet" in program.of(events.Leaving)[0].why
    assert 1003 + 25 <= clock.at <= 1003 + 27


def test_a_notice_at_the_very_end_interrupts_a_final_save_that_cannot_succeed(
    store: Watched, clock: HandClock, told: Path, announcer: Announcer
) -> None:
    def down(verb: str, key: str) -> None:
        if verb == "create" and "/packs/" in key:
            raise Unavailable("down")

    store.before = down
    program = Program(store, clock, told, announcer)
    with pytest.raises(SystemExit) as caught:
        program.run(3, at(2, lambda: announcer.terminate(60.0)))
    assert caught.value.code == 75


@pytest.mark.parametrize("seconds", [None, 5.0, 600.0])
def test_a_notice_in_the_last_step_does_not_keep_the_run_from_being_finished(
    store: Watched, clock: HandClock, told: Path, announcer: Announcer, seconds: float | None
) -> None:
    program = Program(store, clock, told, announcer).run(3, at(2, lambda: announcer.terminate(seconds)))
    assert program.saved == [(3, "final")]
    assert isinstance(program.events[-1], events.Finished)


def test_a_last_state_that_cannot_even_be_captured_is_an_error(store: Watched, clock: HandClock) -> None:
    class Broken:
        def state_dict(self) -> dict[str, int]:
            if checkpointer.step:
                raise ZeroDivisionError
            return {}

        def load_state_dict(self, _: object) -> None: ...

    checkpointer = Checkpointer({"x": Broken()}, store=store, notices=[], clock=clock)
    with pytest.raises(ZeroDivisionError):
        list(checkpointer.steps(2))


def test_a_damaged_newest_checkpoint_is_passed_over_loudly(
    store: Watched, clock: HandClock, told: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(KeyboardInterrupt):
        Program(store, clock, told, every=2).run(9, at(5, kill))
    newest = read_head(store, "default").kept[0]
    store.inner.put(newest.key, b"x")
    program = Program(store, clock, told, every=2).run(9)
    (restored,) = program.of(events.Restored)
    assert (restored.step, [damage.step for damage in restored.damaged]) == (2, [4])
    assert "the checkpoint of step 4 is damaged" in caplog.text
    assert program.is_whole(9)
    assert published(store) == [9, 8, 6]


def test_a_damaged_head_is_made_anew_from_its_manifests(
    store: Watched, clock: HandClock, told: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(KeyboardInterrupt):
        Program(store, clock, told, every=2).run(9, at(5, kill))
    head = bytearray(store.inner.get("runs/default/head"))
    head[len(head) // 2] ^= 1
    store.inner.put("runs/default/head", bytes(head))
    program = Program(store, clock, told, every=2).run(9)
    assert program.of(events.Restored)[0].step == 4
    assert "the head is made anew" in caplog.text
    assert program.is_whole(9)


def test_another_program_is_refused(store: Watched, clock: HandClock, told: Path) -> None:
    Program(store, clock, told).run(2)
    other = Checkpointer({"weights": np.zeros(4), "log": {}}, store=store, notices=[], clock=clock)
    with pytest.raises(StateMismatch, match="weights"):
        next(other.steps(3))


def test_saving_leaves_no_trace_in_the_generators(store: Watched, clock: HandClock, told: Path) -> None:
    def draws(every: int) -> list[float]:
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        torch.manual_seed(1)
        drawn: list[float] = []
        program = Program(store, clock, told, every=every)
        program.checkpointer._settings = type(program.checkpointer._settings)(
            "memory:", f"run-{every}", 0, program.checkpointer._settings.policy, None, str(told)
        )
        program.run(
            6,
            lambda _program, _step: drawn.extend([random.random(), np.random.rand(), torch.rand(1).item()]),  # noqa: NPY002
        )
        return drawn

    assert draws(1) == draws(1000)


def test_figures_are_logged_with_the_step_they_belong_to(store: Watched, clock: HandClock, told: Path) -> None:
    program = Program(store, clock, told)
    loss = torch.tensor(0.5, requires_grad=True)
    program.run(2, lambda p, step: p.checkpointer.log(loss=loss, rate=np.float32(2), bad=float("nan"), at=step))
    program.checkpointer.log(late=1)
    assert [(event.step, event.values) for event in program.of(events.Metrics)] == [
        (0, {"loss": 0.5, "rate": 2.0, "bad": None, "at": 0.0}),
        (1, {"loss": 0.5, "rate": 2.0, "bad": None, "at": 1.0}),
        (2, {"late": 1.0}),
    ]


def test_steps_is_for_one_loop(store: Watched, clock: HandClock, told: Path) -> None:
    program = Program(store, clock, told).run(1)
    with pytest.raises(UsageError, match="twice"):
        program.run(2)
    with pytest.raises(UsageError, match="negative"):
        Program(store, clock, told).run(-1)


def test_a_run_of_no_steps_is_finished(store: Watched, clock: HandClock, told: Path) -> None:
    assert Program(store, clock, told).run(0).saved == [(0, "final")]


def test_as_a_context_it_closes_what_it_opened(store: Watched, clock: HandClock) -> None:
    with Checkpointer({"x": {}}, store=store, notices=[], clock=clock) as checkpointer:
        steps = checkpointer.steps(5)
        assert next(steps) == 0
    assert checkpointer._session is None
    checkpointer.close()


def test_what_the_environment_says_is_used(tmp_path: Path, clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOTWELD_STORE", f"file:{tmp_path}/store")
    monkeypatch.setenv("SPOTWELD_RUN_ID", "a-run")
    monkeypatch.setenv("SPOTWELD_ATTEMPT", "2")
    for _ in Checkpointer({"x": {}}, notices=[], clock=clock).steps(2):
        pass
    assert (tmp_path / "store" / "runs" / "a-run" / "head").exists()


def test_fenced_is_exit_75() -> None:
    assert Fenced.exit_status == 75
