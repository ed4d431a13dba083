"""What a loop does about a store that fails, damage, and another attempt."""

from __future__ import annotations

import threading
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.checkpoint.loop.program import Program, at, kill, published

from spotweld import Checkpointer
from spotweld.checkpoint import events
from spotweld.errors import Unavailable, UnsupportedState
from spotweld.project.nouns import CheckpointPolicy, Tier
from spotweld.store.heads import read_head, take_over

if TYPE_CHECKING:
    from pathlib import Path

    from tests.checkpoint.conftest import HandClock, Watched


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


@pytest.mark.parametrize("name", ["spotweld staging", "spotweld save", "spotweld relay"])
def test_a_machine_that_gives_no_threads_for_a_while_stops_nobody(
    store: Watched, clock: HandClock, told: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    start, refused = threading.Thread.start, list[str]()

    def short(thread: threading.Thread) -> None:
        if thread.name == name and len(refused) < 2:
            refused.append(name)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", short)
    tiers = (Tier(f"file:{tmp_path}/disk"),)
    monkeypatch.setenv("SPOTWELD_CHECKPOINT", msgspec.json.encode(CheckpointPolicy(tiers=tiers)).decode())
    program = Program(store, clock, told, every=1).run(12)
    assert program.is_whole(12)
    assert "can't start new thread" in program.of(events.SaveFailed)[0].why
    assert published(store)[0] == 12


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
            program.log["bad"] = 1j

    program.run(9, body)
    assert [(event.step, event.why) for event in program.of(events.SaveFailed)] == [
        (3, "log.bad cannot be saved: it is a builtins.complex")
    ]
    assert program.saved[-1][0] == 9
    with pytest.raises(UnsupportedState):
        Program(store, clock, told).run(11, lambda program, _: program.log.update(bad=1j))


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
