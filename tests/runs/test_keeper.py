"""When a keeper saves: its decisions, with a session that only counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
from tests.runs.world import ManualClock

from spotweld.checkpoint import events
from spotweld.checkpoint.cadence import Cost
from spotweld.checkpoint.directory.protocol import Place
from spotweld.checkpoint.hazard import USUAL
from spotweld.checkpoint.pacing import Pacing
from spotweld.checkpoint.settings import Settings
from spotweld.errors import Fenced
from spotweld.preemption.notices import Kind, Notice
from spotweld.project.nouns import CheckpointPolicy, EveryAuto, EverySeconds
from spotweld.runs import keeping
from spotweld.runs.keeping import Keeper

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from spotweld.project.nouns import Every

TERM = Notice("n", Kind.TERMINATE, "aws", None, 0.0)
REBALANCE = Notice("r", Kind.REBALANCE, "aws", None, 0.0)


class Session:
    """As much of a ``DirectorySession`` as a keeper sees."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.step, self.epoch, self.failures, self.why = 0, 4, 0, "the disk is full"
        self.mark = (0, 0.0)
        self.finished = False
        self.dirty = True
        self.takes = 0.5
        self.costs: tuple[Cost, ...] = ()
        self.saved: list[tuple[float, str]] = []
        self.refuses = 0
        self.before: Callable[[], object] = lambda: None

    def changed(self) -> bool:
        return self.dirty

    @property
    def deliveries(self) -> tuple[Cost, ...]:
        return self.costs

    def save(self, reason: str, place: Place | None, *, finished: bool = False, urgent: bool = False) -> bool:
        del place, urgent
        self.before()
        if self.refuses:
            self.refuses -= 1
            return False
        if self.dirty or finished:
            self.saved.append((round(self.clock.elapsed, 2), reason))
            self.mark = (self.step + 1, self.clock.elapsed)
            self.clock.sleep(self.takes)
            self.step += 1
            self.costs = (*self.costs, Cost(0.0, self.takes))
            self.finished = finished
        return True


class Watcher:
    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.notice: Notice | None = None
        self.ends: float | None = None

    def current(self) -> Notice | None:
        return self.notice

    def remaining(self) -> float | None:
        return None if self.ends is None else max(0.0, self.ends - self.clock.elapsed)


class Told:
    def __init__(self) -> None:
        self.events: list[Any] = []

    def write(self, event: object) -> None:
        self.events.append(event)

    def of(self, *kinds: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kinds)]


class Scene:
    def __init__(self, folder: Path, every: Every, *, orderly: bool = False) -> None:
        self.clock, self.told = ManualClock(), Told()
        self.session, self.watcher = Session(self.clock), Watcher(self.clock)
        made = cast("Any", (self.session, self.watcher, self.told))
        settings = Settings("memory:", "r", 1, CheckpointPolicy(every), USUAL, None, self.clock.now())
        pacing = Pacing(settings, made[2], self.clock)
        self.keeper = Keeper(made[0], pacing, made[1], made[2], self.clock, orderly=orderly)
        self.keeper._place = Place(folder, {}, folder / "console", 2**22)

    def live(self, seconds: float) -> None:
        """The program runs for so long."""
        until = self.clock.elapsed + seconds
        while self.clock.elapsed < until:
            self.clock.sleep(self.keeper.look())

    def notice(self, notice: Notice | None, seconds: float | None = None) -> None:
        self.watcher.notice = notice
        self.watcher.ends = None if seconds is None else self.clock.elapsed + seconds

    @property
    def reasons(self) -> list[str]:
        return [reason for _, reason in self.session.saved]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path, EverySeconds(10.0))


def test_saves_come_by_the_clock(scene: Scene) -> None:
    scene.live(35)
    assert [at for at, _ in scene.session.saved] == [10.0, 20.0, 30.0]
    assert set(scene.reasons) == {"cadence"}
    assert [event.step for event in scene.told.of(events.Step)] == [1, 2, 3, 4]


def test_auto_saves_soon_and_then_as_often_as_pays(tmp_path: Path) -> None:
    scene = Scene(tmp_path, EveryAuto())
    scene.live(300)
    times = [at for at, _ in scene.session.saved]
    assert times[0] <= 1.5
    assert 10 < times[1] - times[0] < 120


def test_a_directory_that_takes_long_to_look_at_is_looked_at_seldom(scene: Scene) -> None:
    scene.session.dirty = False
    scene.session.before = lambda: scene.clock.sleep(0.1)
    scene.clock.sleep(10)
    assert scene.keeper.look() == pytest.approx(2.0)
    scene.session.before = lambda: scene.clock.sleep(9)
    assert scene.keeper.look() == 5.0


def test_a_notice_with_time_is_answered_at_once_and_as_late_as_is_safe(scene: Scene) -> None:
    scene.live(5)
    scene.notice(TERM, 30)
    scene.live(29)
    assert scene.reasons == ["notice", "emergency"]
    at = scene.session.saved[-1][0]
    assert 31 < at < 34.5
    assert [event.decision for event in scene.told.of(events.Emergency)] == ["full"]
    assert len(scene.told.of(events.Noticed)) == 1


def test_nothing_is_begun_that_cannot_be_finished(scene: Scene) -> None:
    scene.session.takes = 3.0
    scene.live(14)
    assert scene.reasons == ["cadence"]
    scene.notice(TERM, 2)
    scene.live(1.5)
    assert scene.reasons == ["cadence"]
    assert [event.decision for event in scene.told.of(events.Emergency)] == ["none"]
    assert scene.keeper.finish(143) == (143, "")
    assert scene.reasons == ["cadence"]


def test_a_withdrawn_notice_is_forgotten(scene: Scene) -> None:
    scene.notice(TERM, 100)
    scene.live(1)
    scene.notice(None)
    scene.live(12)
    assert scene.reasons == ["notice", "cadence"]
    assert len(scene.told.of(events.Withdrawn)) == 1


def test_a_notice_without_a_deadline_is_answered_once(scene: Scene) -> None:
    scene.notice(TERM)
    scene.live(5)
    assert scene.reasons == ["notice"]


def test_a_rebalance_recommendation_is_answered_by_a_save(scene: Scene) -> None:
    scene.notice(REBALANCE)
    scene.live(5)
    assert scene.reasons == ["rebalance"]


@pytest.mark.parametrize("code", [143, 75, 1])
def test_what_an_interrupted_program_leaves_is_saved(scene: Scene, code: int) -> None:
    scene.notice(TERM, 30)
    scene.session.refuses = 2
    assert scene.keeper.finish(code) == (code, "")
    assert scene.reasons == ["emergency"]


def test_it_is_not_saved_twice(scene: Scene) -> None:
    scene.notice(TERM, 30)
    scene.session.dirty = False
    assert scene.keeper.finish(143) == (143, "")
    assert scene.reasons == []


def test_a_program_that_was_killed_while_it_was_not_quiesced_is_not_trusted(tmp_path: Path) -> None:
    scene = Scene(tmp_path, EverySeconds(10.0), orderly=True)
    scene.notice(TERM, 30)
    scene.keeper.finish(143)
    assert scene.reasons == []
    scene.keeper.finish(75)
    assert scene.reasons == ["emergency"]


def test_a_program_that_fails_by_itself_is_not_saved(scene: Scene) -> None:
    assert scene.keeper.finish(1) == (1, "")
    assert scene.reasons == []


def test_the_end_waits_for_a_store_that_does_not_answer(scene: Scene) -> None:
    scene.session.refuses = 50
    assert scene.keeper.finish(0) == (0, "")
    assert scene.reasons == ["final"]
    assert [event.step for event in scene.told.of(events.Finished)] == [1]


def test_an_end_that_cannot_be_stored_is_a_failure(scene: Scene) -> None:
    scene.session.refuses = 10**9
    assert scene.keeper.finish(0) == (1, "the final state could not be saved: the disk is full")
    assert scene.clock.elapsed > keeping._STUBBORN


def test_an_end_that_the_machine_does_not_live_to_store_is_an_interruption(scene: Scene) -> None:
    scene.notice(TERM, 2)
    scene.session.refuses = 10**9
    code, why = scene.keeper.finish(0)
    assert code == 75
    assert "the machine goes" in why


def test_whoever_is_fenced_stops(scene: Scene) -> None:
    def fence() -> None:
        raise Fenced("Run r has been taken over")

    scene.session.before = fence
    assert scene.keeper.finish(0) == (75, "Run r has been taken over")
    assert [event.epoch for event in scene.told.of(events.Fenced)] == [4]
