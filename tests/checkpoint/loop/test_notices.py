"""What a loop does about a machine that will be taken."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.checkpoint.loop.program import Program, at, published, slow_store

from spotweld.checkpoint import events
from spotweld.checkpoint.saves import Saves
from spotweld.errors import Unavailable
from spotweld.project.nouns import CheckpointPolicy, Tier
from spotweld.store.local import LocalObjects

if TYPE_CHECKING:
    from pathlib import Path

    from tests.checkpoint.conftest import Announcer, HandClock, Watched

    from spotweld.store.pieces import Pieces


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


@pytest.mark.parametrize("when", ["waits for its turn", "is on its way to the tier"])
def test_what_a_tier_has_is_carried_before_the_machine_goes(
    store: Watched,
    clock: HandClock,
    told: Path,
    announcer: Announcer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    when: str,
) -> None:
    """No save would fit, by what the first one took; but the latest is in the tier, and the store is quick by now."""
    every = 3600.0 if when == "waits for its turn" else 0.0
    policy = CheckpointPolicy(tiers=(Tier(f"file:{tmp_path}/disk"),), store_every=every)
    monkeypatch.setenv("SPOTWELD_CHECKPOINT", msgspec.json.encode(policy).decode())
    slow_store(store, clock, 30.0)
    create, wait, may_write = LocalObjects.create, Saves.wait, threading.Event()
    may_write.set()

    def held_up(self: LocalObjects, key: str, data: Pieces) -> None:
        assert may_write.wait(20)
        create(self, key, data)

    def waited_for(self: Saves, timeout: float) -> None:
        may_write.set()
        wait(self, timeout)

    def body(program: Program, step: int) -> None:
        if step == 0:
            return
        saves = program.checkpointer._session._saves
        while step == 2 and saves.durable is None:  # it is known what one takes
            saves.wait(0.01)
            saves.settle()
        if step == 4:
            store.before = lambda _verb, _key: None
            if when == "is on its way to the tier":
                may_write.clear()
                program.patient = False
        if step == 5:
            announcer.terminate(20.0)

    monkeypatch.setattr(LocalObjects, "create", held_up)
    monkeypatch.setattr(Saves, "wait", waited_for)
    program = Program(store, clock, told, announcer, every=1)
    with pytest.raises(SystemExit) as caught:
        program.run(100, body)
    assert caught.value.code == 75
    assert [event.decision for event in program.of(events.Emergency)] == ["none"]
    assert published(store)[0] == 5
    assert "the checkpoint of step 5 stands" in program.of(events.Leaving)[0].why


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


def down(verb: str, key: str) -> None:
    if verb == "create" and "/packs/" in key:
        raise Unavailable("down")


def test_an_unknown_deadline_and_a_store_that_is_down_end_after_the_grace(
    store: Watched, clock: HandClock, told: Path, announcer: Announcer
) -> None:
    store.before = down
    program = Program(store, clock, told, announcer)
    with pytest.raises(SystemExit):
        program.run(100, at(2, lambda: announcer.terminate(None)))
    assert "no checkpoint yet" in program.of(events.Leaving)[0].why
    assert 1003 + 25 <= clock.at <= 1003 + 27


def test_a_notice_at_the_very_end_interrupts_a_final_save_that_cannot_succeed(
    store: Watched, clock: HandClock, told: Path, announcer: Announcer
) -> None:
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
