"""Fast tiers in front of a group's store: what is saved, carried and restored, and what happens when one fails."""

from __future__ import annotations

import shutil
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.checkpoint.tiered import RUN, Disk, down, up

from spotweld.checkpoint import events
from spotweld.checkpoint.distributed import nearby
from spotweld.checkpoint.distributed.checkpointer import DistributedCheckpointer
from spotweld.checkpoint.distributed.nearby import reached_by_all
from spotweld.checkpoint.restoring import read_manifest
from spotweld.checkpoint.tiers import open_tiers
from spotweld.errors import Unavailable
from spotweld.project.nouns import Tier
from spotweld.store.heads import read_head, take_over
from spotweld.store.local import LocalObjects
from spotweld.store.opening import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from tests.checkpoint.conftest import Announcer, Watched
    from tests.checkpoint.distributed.conftest import Ranks

    from spotweld.store.objects import Objects


class Machine(Disk):
    """A folder that stands for the disk of a machine, and a group that runs there."""

    def __init__(self, disk: Path, store: Watched, new_ranks: type[Ranks], monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(disk, store, monkeypatch)
        self.new_ranks = new_ranks

    def train(self, total: int, *, ranks: int = 2, stop: int | None = None, **more: Any) -> list[Any]:  # noqa: ANN401
        """By rank: a sum over steps that all share, and one of the rank's own; left after ``stop`` steps if given."""
        self.told.unlink(missing_ok=True)
        crowd = self.new_ranks(ranks)
        notices = more.pop("notices", lambda _rank: [])
        at = more.pop("at", lambda _rank, _step: None)
        options = {"tiers": [self.url], "every": 1, **more}

        def body(rank: int) -> tuple[float, float]:
            x = {"sum": np.zeros(70_000), "frozen": np.arange(70_000.0)}
            own = {"sum": np.zeros(2)}
            checkpointer = DistributedCheckpointer(
                {"x": x},
                per_rank={"own": own},
                groups=lambda: crowd.groups(rank),
                store=self.store,
                run=RUN,
                notices=notices(rank),
                **options,
            )
            for step in checkpointer.steps(total):
                x["sum"] += step
                own["sum"] += rank * step
                session: Any = checkpointer._session
                (session if rank else session._saves)._saver.wait(20)  # every step's state gets into the first tier
                at(rank, step)
                if stop is not None and step + 1 == stop:
                    break
            assert (x["sum"] == x["sum"][0]).all()
            return x["sum"][0], own["sum"][0]

        return crowd.run(body)


@pytest.fixture
def machine(
    tmp_path: Path,
    store: Watched,
    new_ranks: type[Ranks],
    monkeypatch: pytest.MonkeyPatch,
) -> Machine:
    return Machine(tmp_path / "disk", store, new_ranks, monkeypatch)


def after(steps: int, ranks: int = 2) -> list[tuple[float, float]]:
    return [(float(sum(range(steps))), float(rank * sum(range(steps)))) for rank in range(ranks)]


def test_the_end_of_a_run_is_in_the_store(machine: Machine) -> None:
    assert machine.train(5) == after(5)
    assert (machine.published()[0], machine.kept()[0]) == (5, 5)
    carried = machine.of(events.Carried)[-1]
    assert (carried.step, carried.store, carried.published) == (5, machine.store.url, True)
    assert {event.tier for event in machine.of(events.Saved)} == {machine.url}
    # Each rank has stored its share in the tier, and what was carried is nobody's.
    inside = {path.name.split("-")[1] for path in machine.disk.rglob("packs/*")}
    assert inside == {"0000", "0001"}
    assert {key.rpartition("/")[2].split("-")[1] for key in machine.store.keys(f"runs/{RUN}/packs/")} == {"0002"}


def test_a_group_that_restarts_on_its_machine_reads_the_tier(machine: Machine) -> None:
    machine.train(5)
    machine.store.calls.clear()
    assert machine.train(8) == after(8)
    (restored,) = machine.of(events.Restored)
    assert (restored.step, restored.tier, restored.published) == (5, machine.url, 5)
    assert restored.why == "the same is in the store"
    assert not [key for verb, key in machine.store.calls if verb == "get" and "/packs/" in key]


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_what_has_not_come_to_the_store_yet_is_in_the_tier(machine: Machine, ranks: int) -> None:
    machine.train(3)
    machine.store.before = down
    machine.train(9, stop=7)
    assert machine.published()[0] == 3
    newest = machine.kept()[0]
    assert newest > 3
    machine.store.before = up
    ends = machine.train(9, ranks=ranks, every=100)
    assert ends[:2] == after(9)[:ranks]
    (restored,) = machine.of(events.Restored)
    assert (restored.step, restored.tier, restored.published) == (newest, machine.url, 3)
    assert machine.published()[0] == 9


def test_a_machine_that_lost_its_disk_restores_from_the_store(machine: Machine) -> None:
    machine.train(5)
    shutil.rmtree(machine.disk)
    assert machine.train(8) == after(8)
    (restored,) = machine.of(events.Restored)
    assert (restored.step, restored.tier) == (5, "")


@pytest.mark.parametrize("what", ["-0000-", "-0001-", "manifests", "head"])
def test_a_damaged_tier_is_passed_over_by_all_ranks(machine: Machine, what: str) -> None:
    machine.train(5)
    for path in machine.disk.rglob("*"):
        if path.is_file() and what in str(path) and (data := bytearray(path.read_bytes())):
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
    assert machine.train(8) == after(8)
    (restored,) = machine.of(events.Restored)
    assert (restored.step, restored.tier) == (5, "")
    assert len(restored.damaged) == (0 if what == "head" else 1)
    assert restored.why == f"{machine.url} was {'empty' if what == 'head' else 'damaged'}"
    assert machine.kept()[0] == 8


def test_a_life_that_was_declared_dead_does_not_come_back_from_a_disk(machine: Machine, tmp_path: Path) -> None:
    machine.train(3)
    machine.store.before = down
    machine.train(100, stop=40)
    machine.store.before = up
    dead = machine.kept()[0]
    machine.train(100, stop=12, tiers=[f"file:{tmp_path}/other"])
    published = machine.published()[0]
    assert 3 < published < dead
    assert machine.train(100) == after(100)
    (restored,) = machine.of(events.Restored)
    assert (restored.step, restored.tier) == (published, "")


@pytest.mark.parametrize("failing", ["-0000-", "-0001-", "manifests"])
def test_a_tier_that_fails_any_rank_is_given_up_by_all(
    machine: Machine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    create = LocalObjects.create

    def full(self: LocalObjects, key: str, data: Any) -> None:  # noqa: ANN401
        if failing in key:
            raise Unavailable(f"Cannot write {key}", "No space left on device (ENOSPC)")
        create(self, key, data)

    machine.train(3)
    monkeypatch.setattr(LocalObjects, "create", full)
    monkeypatch.setattr("spotweld.checkpoint.cadence.retry_after", lambda _failures: 0.0)
    assert machine.train(30) == after(30)
    assert "is given up" in caplog.text
    assert machine.published()[0] == 30
    # The group has gone on in the store, each rank with its share.
    head = read_head(machine.store, RUN)
    assert head is not None
    writers = {pack.key.split("-")[1] for pack in read_manifest(machine.store, RUN, head.kept[0]).packs}
    assert writers == {"0000", "0001"}
    monkeypatch.setattr(LocalObjects, "create", create)
    assert machine.train(33) == after(33)


def test_a_tier_that_cannot_be_opened_is_left_out(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    machine.disk.write_text("a file")
    assert machine.train(5) == after(5)
    assert machine.published()[0] == 5
    assert "is left out" in caplog.text
    assert machine.of(events.Carried) == []


def test_three_tiers_each_get_what_they_are_to_get(machine: Machine, tmp_path: Path) -> None:
    middle = Tier(f"file:{tmp_path}/middle", keep_last=2, every=3600.0)
    tiers = [machine.url, middle]
    machine.train(6, tiers=tiers)
    assert (machine.published()[0], machine.kept()[0]) == (6, 6)
    assert {event.store for event in machine.of(events.Carried)} == {machine.store.url, middle.store}
    shutil.rmtree(machine.disk)
    assert machine.train(7, tiers=tiers) == after(7)
    (restored,) = machine.of(events.Restored)
    assert (restored.step, restored.tier) == (6, middle.store)


def test_a_notice_to_one_rank_brings_the_last_state_to_the_store(machine: Machine, announcer: Announcer) -> None:
    def at(rank: int, step: int) -> None:
        if rank == 1 and step == 3:
            announcer.terminate(None)

    ends = machine.train(50, every=100, at=at, notices=lambda rank: [announcer] if rank == 1 else [])
    assert [end.code for end in ends] == [75, 75]
    (left,) = machine.of(events.Leaving)
    assert machine.published()[0] == machine.kept()[0] == left.step > 3


def test_a_rank_that_dies_leaves_what_is_in_the_tier(machine: Machine) -> None:
    def at(rank: int, step: int) -> None:
        if rank == 1 and step == 7:
            raise ZeroDivisionError

    machine.store.before = down
    ends = machine.train(20, at=at)
    assert [getattr(end, "code", type(end)) for end in ends] == [75, ZeroDivisionError]
    assert machine.published() == []
    machine.store.before = up
    assert machine.train(20, every=100) == after(20)
    (restored,) = machine.of(events.Restored)
    assert (restored.step, restored.tier, restored.why) == (7, machine.url, "the store had none yet")


def test_differences_are_taken_on_the_way_to_the_store_and_not_in_the_tier(machine: Machine) -> None:
    first = np.random.default_rng(3).normal(size=150_000).astype("f4")

    def train(total: int) -> list[np.ndarray]:
        crowd = machine.new_ranks(2)

        def body(rank: int) -> np.ndarray:
            weights = first.copy()
            checkpointer = DistributedCheckpointer(
                {"w": weights},
                groups=lambda: crowd.groups(rank),
                store=machine.store,
                run=RUN,
                notices=[],
                every=1,
                tiers=[machine.url],
                compress="bytes",
            )
            for step in checkpointer.steps(total):
                weights[step::7] *= np.float32(1.0001)
                if rank == 0:
                    arrive(checkpointer._session)
            return weights

        return crowd.run(body)

    def arrive(leader: Any) -> None:  # noqa: ANN401
        """What was saved comes to the store."""
        leader._saves.wait(20)
        while leader._saves.active:
            leader._saves.wait(0.05)

    def codecs(objects: Objects, run: str) -> set[str]:
        head = read_head(objects, run)
        assert head is not None
        return {chunk.codec for kept in head.kept for chunk in read_manifest(objects, run, kept).chunks}

    train(6)
    assert "delta4" in codecs(machine.store, RUN)
    near = open_store(machine.url, verify=False)
    assert codecs(near, next(iter(near.list("runs/"))).key.split("/")[1]) == {"raw"}
    shutil.rmtree(machine.disk)
    wanted = first.copy()
    for step in range(8):
        wanted[step::7] *= np.float32(1.0001)
    assert all((one == wanted).all() for one in train(8))


def test_a_tier_that_another_machine_does_not_see_is_left_out_by_all(
    new_ranks: type[Ranks], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Ranks 2 and 3 are on a machine with a folder of the same name, where the run was once, too."""
    near, shared = f"file:{tmp_path}/near", f"file:{tmp_path}/shared"
    here = threading.local()

    def open_here(url: str, *, verify: bool) -> Objects:
        return open_store(f"{near}-of-another" if url == near and here.elsewhere else url, verify=verify)

    monkeypatch.setattr(nearby, "open_store", open_here)
    lead = take_over(open_store("memory:", verify=False), RUN, 1).head
    opened = open_tiers([Tier(near), Tier(shared)], RUN, 1, lead)
    open_tiers([Tier(f"{near}-of-another")], RUN, 1, lead)
    ranks = new_ranks(4)

    def body(rank: int) -> list[str]:
        here.elsewhere = rank >= 2
        group, _ = ranks.groups(rank)
        return [tier.url for tier in reached_by_all(group, opened if rank == 0 else [])]

    assert ranks.run(body) == [[shared]] * 4
    assert f"{near} is left out: ranks 2, 3 cannot read there what rank 0 has written" in caplog.text
