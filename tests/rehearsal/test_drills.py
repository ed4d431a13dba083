"""The drills' parts, on a run that exists only in the log and the store."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.runs.samples import OFFERS, attempt_opened, opened
from tests.runs.telling import saved, ship, training
from tests.runs.world import ManualClock

from spotweld import Checkpointer
from spotweld.checkpoint import events as told
from spotweld.checkpoint.restoring import read_manifest
from spotweld.errors import ProviderError, RunError
from spotweld.providers.provider import Boot
from spotweld.rehearsal.drills import Drill, Range, Struck, damage_newest, rehearse
from spotweld.runs.events import AttemptEnded, Cause, Ended, MachineStarted, Outcome, Running
from spotweld.runs.log import EventLog
from spotweld.store.heads import read_head
from spotweld.store.opening import open_store
from spotweld.testing.providers import ScriptedProvider

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LABELS = {"run": "r"}


class Ground:
    """A run whose attempts end when they are struck, each followed by another one, until ``lives`` are used up."""

    def __init__(self, folder: Path, lives: int = 10, cause: Cause = Cause.PREEMPTED_UNNOTICED) -> None:
        self.folder, self.lives, self.cause = folder, lives, cause
        self.clock = ManualClock()
        self.clock.passing = self._pass
        self.log = EventLog(folder / "events.db", self.clock)
        self.objects = open_store(f"file:{folder / 'store'}")
        self.provider = ScriptedProvider(OFFERS, [], self.clock)
        self.log.open_run("r", opened())
        self.generation = self.log.take_over("r")
        self.attempt = 0
        self.begin()

    def under_fire(self) -> Range:
        return Range("r", self.log, self.objects, self.provider, lambda _: self.folder / "events.jsonl", self.clock)

    def begin(self) -> None:
        self.attempt += 1
        machine = self.provider.start(OFFERS[0], Boot((), {}), token=f"t-{self.attempt}", labels=LABELS)
        for event in (
            attempt_opened(self.attempt),
            MachineStarted(self.attempt, machine.id, machine.started),
            Running(self.attempt),
        ):
            self.log.append("r", self.generation, event)
        ship(self.objects, "r", self.attempt, training(self.clock.now(), 0, 15))

    def _pass(self) -> None:
        state = self.log.state("r")
        if state.current is None or state.outcome is not None:
            return
        machine = next(m for m in self.provider.machines(LABELS) if m.id == state.current.machine)
        if machine.ended is None:
            return
        self.log.append("r", self.generation, AttemptEnded(self.attempt, self.cause, "", self.clock.now()))
        if self.attempt < self.lives:
            self.begin()
        else:
            self.log.append("r", self.generation, Ended(Outcome.DONE, ""))

    def checkpoints(self, saves: int = 2) -> np.ndarray:
        """Real checkpoints in the run's store."""
        weights = np.zeros(100_000)
        checkpointer = Checkpointer({"w": weights}, store=self.objects, run="r", every=1, keep_last=5, notices=[])
        for _ in checkpointer.steps(saves):
            weights += 1
        return weights


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    return Ground(tmp_path)


def test_each_drill_strikes_an_attempt_of_its_own(ground: Ground) -> None:
    ground.checkpoints()
    struck = list(rehearse(ground.under_fire(), [Drill.NOTICE, Drill.SHORT_NOTICE, Drill.KILL, Drill.DAMAGE]))
    assert [one.drill for one in struck] == [Drill.NOTICE, Drill.SHORT_NOTICE, Drill.KILL, Drill.DAMAGE]
    assert [one.attempt for one in struck] == [1, 2, 3, 4]
    assert all(one.step == 15 for one in struck)
    ends = {m.token: m for m in ground.provider.machines(LABELS)}
    assert ends["t-1"].noticed is not None
    assert ends["t-3"].noticed is None


def test_a_run_that_ends_first_ends_the_rehearsal(tmp_path: Path) -> None:
    ground = Ground(tmp_path, lives=2)
    assert len(list(rehearse(ground.under_fire(), [Drill.KILL] * 5))) == 2


def test_a_strike_that_hit_no_interruption_is_tried_again_and_not_for_ever(tmp_path: Path) -> None:
    ground = Ground(tmp_path, lives=8, cause=Cause.FAILED)
    struck = list(rehearse(ground.under_fire(), [Drill.KILL]))
    assert [one.attempt for one in struck] == [1, 2, 3, 4, 5]
    assert {one.missed for one in struck} == {"the attempt ended as failed"}


def test_nobody_is_struck_who_has_nothing_to_lose(tmp_path: Path) -> None:
    ground = Ground(tmp_path, lives=1)
    under_fire = ground.under_fire()
    ship(ground.objects, "r", 1, [saved(1.0, 15)], 2)
    seen: list[Struck] = []
    threading.Thread(target=lambda: seen.extend(rehearse(under_fire, [Drill.KILL])), daemon=True)

    def more() -> None:
        if ground.clock.elapsed > 5:
            ground.clock.passing = ground._pass
            assert not any(call.startswith("interrupt") for call in ground.provider.calls)
            ship(ground.objects, "r", 1, [told.Step(20.0, 16)], 3)

    ground.clock.passing = more
    assert [one.step for one in rehearse(under_fire, [Drill.KILL])] == [16]


def test_a_machine_that_went_by_itself_is_no_error(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt = ground.provider.interrupt
    tries = 0

    def first_too_late(machine: str, *, notice: float | None) -> None:
        nonlocal tries
        tries += 1
        interrupt(machine, notice=notice)
        if tries == 1:
            ground._pass()
            raise ProviderError("it ends just now")

    monkeypatch.setattr(ground.provider, "interrupt", first_too_late)
    assert [one.attempt for one in rehearse(ground.under_fire(), [Drill.KILL])] == [2]


def test_a_provider_without_drills_says_so(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ProviderError("no drills here")

    monkeypatch.setattr(ground.provider, "interrupt", refuse)
    with pytest.raises(ProviderError, match="no drills here"):
        list(rehearse(ground.under_fire(), [Drill.KILL]))


def test_a_save_is_struck_while_it_is_written(ground: Ground) -> None:
    ground.checkpoints()
    path = ground.folder / "events.jsonl"
    path.write_bytes(b"")

    def saving() -> None:
        ground._pass()
        if not any(call.startswith("interrupt") for call in ground.provider.calls):
            with path.open("ab") as file:
                file.write(b'not an event\n{"kind":"saving","t":1.0,"step":20,"reason":"cadence"}\n')

    ground.clock.passing = saving
    (struck,) = rehearse(ground.under_fire(), [Drill.KILL_IN_SAVE])
    assert "step 20" in struck.detail
    assert not struck.missed


def test_a_save_that_was_published_all_the_same_was_missed(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    ground.checkpoints()
    path = ground.folder / "events.jsonl"
    path.write_bytes(b"")
    interrupt = ground.provider.interrupt

    def saving() -> None:
        with path.open("ab") as file:
            file.write(b'{"kind":"saving","t":1.0,"step":20,"reason":"cadence"}\n')
        ground._pass()

    def late(machine: str, *, notice: float | None) -> None:
        if ground.attempt == 1:
            ground.checkpoints(3)
        interrupt(machine, notice=notice)

    ground.clock.passing = saving
    monkeypatch.setattr(ground.provider, "interrupt", late)
    first, second = rehearse(ground.under_fire(), [Drill.KILL_IN_SAVE])
    assert first.missed == "the save was published before the machine was gone"
    assert not second.missed


def test_damage_is_done_once_the_machine_is_gone(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is the newest checkpoint that is damaged, even if one more was published at the last moment."""
    ground.checkpoints()
    interrupt = ground.provider.interrupt

    def late(machine: str, *, notice: float | None) -> None:
        ground.checkpoints(3)
        interrupt(machine, notice=notice)

    monkeypatch.setattr(ground.provider, "interrupt", late)
    (struck,) = rehearse(ground.under_fire(), [Drill.DAMAGE])
    assert not struck.missed
    head = read_head(ground.objects, "r")
    assert head is not None
    (pack,) = [pack.key for pack in read_manifest(ground.objects, "r", head.kept[0]).packs]
    assert pack in struck.detail


def test_one_bit_of_the_newest_checkpoint_is_flipped_and_the_older_ones_are_whole(ground: Ground) -> None:
    ground.checkpoints(3)
    assert "flipped" in damage_newest(ground.objects, "r")
    head = read_head(ground.objects, "r")
    assert head is not None
    again = np.zeros(100_000)
    checkpointer = Checkpointer({"w": again}, store=ground.objects, run="r", every=1, keep_last=5, notices=[])
    assert next(iter(checkpointer.steps(5))) == head.kept[1].step
    assert (again == head.kept[1].step).all()
    checkpointer.close()


def test_the_only_checkpoint_is_never_damaged(ground: Ground) -> None:
    ground.checkpoints(1)
    head = read_head(ground.objects, "r")
    assert head is not None
    assert len(head.kept) == 1
    with pytest.raises(RunError):
        damage_newest(ground.objects, "r")
