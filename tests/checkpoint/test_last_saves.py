"""The last save before a machine goes, over a slow link: everything, else differences, else none; and really so."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from spotweld import Checkpointer
from spotweld.checkpoint import events
from spotweld.checkpoint.events import parse_event
from spotweld.checkpoint.restoring import find_newest, read_manifest
from spotweld.store.heads import read_head
from spotweld.store.pieces import size_of

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Announcer, HandClock, Watched
    from spotweld.store.pieces import Pieces

pytestmark = pytest.mark.usefixtures("no_thread_is_left")

RUN = "r"
SIZE = 100_000
"""Numbers: 400 kB."""
SPEED = 40_000.0
"""Bytes a second: 8 s for all of them as they are stored alone, some 2 s for differences."""


class Scene:
    """A program on a machine with a disk, with a slow link to its store."""

    def __init__(self, folder: Path, store: Watched, clock: HandClock, announcer: Announcer) -> None:
        self.disk, self.told = folder / "disk", folder / "events.jsonl"
        self.clock, self.announcer = clock, announcer
        self.store = store
        self.truth: dict[int, bytes] = {}

    def train(self, left: float | None, notice_at: int) -> None:
        """Steps of a second each until the machine goes, ``left`` seconds after it was announced."""
        x = {"w": np.random.default_rng(3).standard_normal(SIZE).astype("<f4")}
        checkpointer = Checkpointer(
            {"x": x},
            store=self.store,
            run=RUN,
            tiers=[f"file:{self.disk}"],
            compress="bytes",
            every=1,
            notices=[self.announcer],
            clock=self.clock,
        )
        for step in checkpointer.steps(1000):
            saves = checkpointer._session._saves
            saves.wait(10)
            saves.settle()
            while saves.active:  # one after another: there is only one clock
                saves.wait(10)
                saves.settle()
            x["w"][step % 9 :: 9] *= np.float32(1.0001)
            self.truth[step + 1] = x["w"].tobytes()
            self.clock.sleep(1.0)
            if step == notice_at:
                self.announcer.terminate(left)

    def of(self, kind: type) -> list[Any]:
        found = [parse_event(line) for line in self.told.read_bytes().splitlines()]
        return [event for event in found if isinstance(event, kind)]

    def newest(self) -> tuple[int, bool]:
        """What the machine's loss leaves, whole: its step, and whether it has differences in it."""
        shutil.rmtree(self.disk)
        head = read_head(self.store, RUN)
        assert head is not None
        for kept in head.kept:
            found = find_newest(self.store, RUN, [kept])
            assert found is not None
            assert found.state["x"]["w"].tobytes() == self.truth[kept.step]
        manifest = read_manifest(self.store, RUN, head.kept[0])
        return head.kept[0].step, any(chunk.base is not None for chunk in manifest.chunks)


@pytest.fixture
def scene(
    tmp_path: Path, store: Watched, clock: HandClock, announcer: Announcer, monkeypatch: pytest.MonkeyPatch
) -> Scene:
    create = store.create

    def slow(key: str, data: Pieces) -> None:
        if "/packs/" in key:
            clock.sleep(size_of(data) / SPEED)
        create(key, data)

    monkeypatch.setattr(store, "create", slow)
    monkeypatch.setenv("SPOTWELD_EVENTS_FILE", str(tmp_path / "events.jsonl"))
    return Scene(tmp_path, store, clock, announcer)


@pytest.mark.parametrize(("left", "decision"), [(60.0, "full"), (9.0, "delta"), (1.0, "none"), (None, "full")], ids=str)
def test_all_then_differences_then_nothing(scene: Scene, left: float | None, decision: str) -> None:
    with pytest.raises(SystemExit) as caught:
        scene.train(left, notice_at=7)
    assert caught.value.code == 75
    (emergency,) = scene.of(events.Emergency)
    assert emergency.decision == decision
    (leaving,) = scene.of(events.Leaving)
    *former, last = [event for event in scene.of(events.Carried) if event.published]
    assert any(event.delta for event in former)
    assert scene.newest() == (last.step, last.delta)
    if decision == "none":
        assert last.step < leaving.step
    else:
        assert last.step == leaving.step
        assert last.delta is (decision == "delta")
        whole = [event.size for event in former if not event.delta]
        assert (last.size < 0.7 * whole[-1]) is (decision == "delta")
        if left is not None:
            assert scene.clock.now() <= scene.of(events.Noticed)[0].notice.deadline
