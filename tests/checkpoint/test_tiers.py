"""Fast tiers in front of the store: what is saved, carried and restored, and what becomes of it when a tier fails."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from tests.checkpoint.tiered import RUN, Disk, down, up

from spotweld import Checkpointer
from spotweld.checkpoint import events, session
from spotweld.checkpoint.restoring import read_manifest
from spotweld.errors import Unavailable
from spotweld.project.nouns import CheckpointPolicy, EverySteps, Tier
from spotweld.store.heads import read_head

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Watched

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


class Machine(Disk):
    """A folder that stands for a machine's disk, and a program that runs there."""

    def train(
        self,
        total: int,
        *,
        stop: int | None = None,
        every: int = 1,
        at: Callable[[int], object] = lambda _step: None,
        **more: Any,  # noqa: ANN401
    ) -> np.ndarray:
        """A state that is the sum of its steps; leaves the loop after ``stop`` steps if that is given."""
        self.told.unlink(missing_ok=True)
        x = {"sum": np.zeros(70_000), "frozen": np.arange(70_000.0)}
        more = {"tiers": [self.url], "notices": [], **more}
        checkpointer = Checkpointer({"x": x}, store=self.store, run=RUN, every=every, **more)
        for step in checkpointer.steps(total):
            x["sum"] += step
            checkpointer._session._saves._saver.wait(10)  # every step's state gets into the first tier
            at(step)
            if stop is not None and step + 1 == stop:
                break
        return x["sum"]


@pytest.fixture
def machine(tmp_path: Path, store: Watched, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path / "disk", store, monkeypatch)


def total(steps: int) -> float:
    return float(sum(range(steps)))


def test_the_end_of_a_run_is_in_the_store(machine: Machine) -> None:
    assert machine.train(5)[0] == total(5)
    assert machine.published()[0] == 5
    assert machine.kept()[0] == 5
    assert machine.of(events.Carried)[-1].step == 5
    assert machine.of(events.Carried)[-1].store == machine.store.url
    assert machine.of(events.Carried)[-1].published
    assert {event.tier for event in machine.of(events.Saved)} == {machine.url}


def test_a_program_that_restarts_on_its_machine_reads_the_tier(machine: Machine) -> None:
    machine.train(5)
    machine.store.calls.clear()
    assert machine.train(8)[0] == total(8)
    (restored,) = machine.of(events.Restored)
    assert (restored.step, restored.tier, restored.published) == (5, machine.url, 5)
    assert restored.why == "the same is in the store"
    assert not [key for verb, key in machine.store.calls if verb == "get" and "/packs/" in key]


def test_what_has_not_come_to_the_store_yet_is_in_the_tier(machine: Machine) -> None:
    machine.train(3)
    machine.store.before = down
    machine.train(9, stop=7)
    assert machine.published()[0] == 3
    newest = machine.kept()[0]
    assert newest > 3
    machine.store.before = up
    assert machine.train(9, every=100)[0] == total(9)
    (restored,) = machine.of(events.Restored)
    assert (restored.step, restored.tier, restored.published) == (newest, machine.url, 3)
    assert machine.published()[0] == 9


def test_a_loop_that_is_left_early_does_not_wait_for_the_stores_turn(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = CheckpointPolicy(every=EverySteps(1), tiers=(Tier(machine.url),), store_every=3600.0)
    monkeypatch.setenv("SPOTWELD_CHECKPOINT", msgspec.json.encode(policy).decode())
    monkeypatch.setattr(session, "_FLUSH", 5.0)
    machine.train(9, stop=5, tiers=None)
    assert (machine.kept()[0], machine.published()[0]) == (4, 4)


def test_a_machine_that_lost_its_disk_restores_from_the_store(machine: Machine) -> None:
    machine.train(5)
    shutil.rmtree(machine.disk)
    assert machine.train(8)[0] == total(8)
    (restored,) = machine.of(events.Restored)
    assert (restored.step, restored.tier) == (5, "")


@pytest.mark.parametrize("what", ["packs", "manifests", "head"])
def test_a_damaged_tier_is_passed_over(machine: Machine, what: str) -> None:
    machine.train(5)
    for path in machine.disk.rglob("*"):
        if path.is_file() and what in str(path):
            data = bytearray(path.read_bytes())
            if data:
                data[len(data) // 2] ^= 1
                path.write_bytes(data)
    assert machine.train(8)[0] == total(8)
    (restored,) = machine.of(events.Restored)
    assert (restored.step, restored.tier) == (5, "")
    assert len(restored.damaged) == (0 if what == "head" else 1)
    assert restored.why == f"{machine.url} was {'empty' if what == 'head' else 'damaged'}"
    assert machine.kept()[0] == 8


def test_a_life_that_was_declared_dead_does_not_come_back_from_a_disk(machine: Machine, tmp_path: Path) -> None:
    machine.train(3)
    machine.store.before = down
    machine.train(100, stop=80)
    machine.store.before = up
    dead = machine.kept()[0]
    machine.train(100, stop=12, tiers=[f"file:{tmp_path}/other"])
    published = machine.published()[0]
    assert 3 < published < dead
    assert machine.train(100)[0] == total(100)
    (restored,) = machine.of(events.Restored)
    assert (restored.step, restored.tier) == (published, "")


def test_another_run_of_the_same_name_is_not_met(machine: Machine, new_store: Callable[[], Watched]) -> None:
    machine.train(5)
    machine.store = new_store()
    assert machine.train(4)[0] == total(4)
    assert machine.of(events.Fresh)


def test_another_run_of_the_same_name_is_deleted_when_all_of_it_is_old(
    machine: Machine, new_store: Callable[[], Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What never changes is old in a run that is alive: its pack is written once."""
    machine.train(4)
    old = min((machine.disk / "runs").glob("*/packs/*"), key=lambda path: path.name)
    os.utime(old, (0, 0))
    machine.store = new_store()
    machine.train(2)
    assert old.exists()
    monkeypatch.setattr("spotweld.checkpoint.tiers._FORGOTTEN", -60.0)  # everything is old by now
    machine.store = new_store()
    machine.train(2)
    assert not old.exists()


def test_a_tier_that_cannot_be_opened_is_left_out(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    machine.disk.parent.mkdir(exist_ok=True)
    machine.disk.write_text("a file")
    assert machine.train(5)[0] == total(5)
    assert machine.published()[0] == 5
    assert "is left out" in caplog.text
    assert machine.of(events.Carried) == []


def test_a_tier_that_is_named_twice_is_one(machine: Machine, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "link").symlink_to(machine.disk)
    machine.disk.mkdir()
    assert machine.train(3, tiers=[machine.url, f"file:{tmp_path}/link"])[0] == total(3)
    assert machine.kept()[0] == machine.published()[0] == 3
    assert "link is left out: it is the same place as" in caplog.text


def test_a_tier_that_fails_is_given_up(
    machine: Machine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spotweld.store.local import LocalObjects

    create = LocalObjects.create

    def full(self: LocalObjects, key: str, data: Any) -> None:  # noqa: ANN401
        if "/packs/" in key:
            raise Unavailable(f"Cannot write {key}", "No space left on device (ENOSPC)")
        create(self, key, data)

    monkeypatch.setattr(LocalObjects, "create", full)
    monkeypatch.setattr("spotweld.checkpoint.cadence.retry_after", lambda _failures: 0.0)
    assert machine.train(30)[0] == total(30)
    assert machine.published()[0] == 30
    assert "is given up" in caplog.text


def test_a_tier_that_vanishes_is_given_up_and_ends_nothing(
    machine: Machine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``/dev/shm`` was cleaned: only copies are lost, and the state itself is at hand."""
    monkeypatch.setattr("spotweld.checkpoint.cadence.retry_after", lambda _failures: 0.0)
    monkeypatch.setattr("spotweld.checkpoint.relaying.retry_after", lambda _failures: 0.0)
    assert machine.train(30, at=lambda step: shutil.rmtree(machine.disk) if step == 5 else None)[0] == total(30)
    assert machine.published()[0] == 30
    assert "is given up" in caplog.text


def test_three_tiers_each_get_what_they_are_to_get(machine: Machine, tmp_path: Path) -> None:
    middle = Tier(f"file:{tmp_path}/middle", keep_last=2, every=3600.0)
    tiers = [machine.url, middle]
    machine.train(6, tiers=tiers)
    assert machine.published()[0] == 6
    assert machine.kept()[0] == 6
    carried = {event.store for event in machine.of(events.Carried)}
    assert carried == {machine.store.url, middle.store}
    shutil.rmtree(machine.disk)
    machine.train(7, tiers=tiers)
    (restored,) = machine.of(events.Restored)
    assert (restored.step, restored.tier) == (6, middle.store)


def test_chunks_that_the_store_has_are_not_carried_again(machine: Machine) -> None:
    machine.train(6)
    head = read_head(machine.store, RUN)
    assert head is not None
    sizes = [sum(chunk.stored for chunk in read_manifest(machine.store, RUN, kept).chunks) for kept in head.kept]
    packs = {pack.key: pack.size for kept in head.kept for pack in read_manifest(machine.store, RUN, kept).packs}
    assert sum(packs.values()) < sum(sizes)


def test_the_policy_of_the_environment_names_tiers(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = CheckpointPolicy(every=EverySteps(2), tiers=(Tier(machine.url),))
    monkeypatch.setenv("SPOTWELD_CHECKPOINT", msgspec.json.encode(policy).decode())
    machine.train(4, tiers=None, every=2)
    assert machine.kept()[0] == 4


def test_differences_are_taken_against_a_base_that_stays(machine: Machine) -> None:
    import random

    dice = random.Random(3)
    x = {"w": np.array([dice.gauss(0, 1) for _ in range(150_000)], dtype="<f4"), "n": [0]}
    more: dict[str, Any] = {"run": RUN, "every": 1, "notices": [], "keep_last": 2, "compress": "bytes"}
    checkpointer = Checkpointer({"x": x}, store=machine.store, tiers=[machine.url], **more)
    for step in checkpointer.steps(40):
        x["w"][step::7] *= np.float32(1.0001)
        x["n"][0] += 1
        checkpointer._session._saves.wait(10)
        while checkpointer._session._saves.active:
            checkpointer._session._saves.wait(0.1)
    head = read_head(machine.store, RUN)
    assert head is not None
    manifests = [read_manifest(machine.store, RUN, kept) for kept in head.kept]
    codecs = {chunk.codec for manifest in manifests for chunk in manifest.chunks}
    assert "delta4" in codecs
    assert {"zstd", "planes4", "raw"} & codecs
    assert len(head.kept) <= 3
    reached = {pack.key for manifest in manifests for pack in manifest.packs}
    assert machine.store.keys(f"runs/{RUN}/packs/") == reached
    final = x["w"].copy()
    shutil.rmtree(machine.disk)
    x["w"][:] = 0
    for _ in Checkpointer({"x": x}, store=machine.store, **more).steps(40):
        pytest.fail("a step was given")
    assert (x["w"] == final).all()
    assert x["n"] == [40]
