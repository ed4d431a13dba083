"""Who needs what: runs of this log, machines, and runs that others drive in the same store."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.runs.samples import offer

from spotweld.errors import TeardownRefused
from spotweld.images.containers.pinning import Pinned
from spotweld.images.lifetimes.deciding import ANY, Use
from spotweld.project.nouns import Job, LocalProvider, PlacementRules, Project
from spotweld.providers.provider import Machine, MachineState
from spotweld.runs import uses as subject
from spotweld.runs.drive import log_path
from spotweld.runs.events import Ended, Opened, Outcome
from spotweld.runs.log import EventLog
from spotweld.runs.reports import over_key, spec_key
from spotweld.runs.uses import Stranger, active, cancel_all, states, strangers, uses, uses_now
from spotweld.store.opening import open_store
from spotweld.values.digests import Digest

if TYPE_CHECKING:
    from pathlib import Path

    from spotweld.store.objects import Objects

PINNED = {"name": "base", "registry": "oci:/r", "repository": "small/base", "digest": "sha256:aa"}


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    """Of two runs: one is going on in an image, one has ended in another."""
    log = EventLog(log_path(tmp_path))
    pinned = Pinned("trainer", "oci:/r", "small/trainer", Digest("sha256:bb"))
    for run, image, pin in (("on", "trainer", pinned), ("over", "base", None), ("bare", "", None)):
        job = Job("train", "true", image=image)
        log.open_run(run, Opened("small", job, "memory:x", "", LocalProvider(), PlacementRules(), pin))
    log.append("over", log.take_over("over"), Ended(Outcome.DONE, ""))
    return log


@pytest.fixture
def objects() -> Objects:
    return open_store("memory:")


def machine(run: str) -> Machine:
    labels = {"managed-by": "spotweld", "project": "small"} | ({"run": run} if run else {})
    return Machine(f"m-{run}", "t", offer(), labels, MachineState.RUNNING, 0.0)


def test_runs_that_have_not_ended_and_machines_use_images(log: EventLog) -> None:
    alive = [machine("over"), machine("elsewhere"), machine("other")]
    others = [Stranger("other", "small/base@sha256:aa", is_placed=True), Stranger("plain", "", is_placed=True)]
    assert uses(states(log), alive, others) == [
        Use("small/trainer@sha256:bb", "the run on"),
        Use("small/base@sha256:aa", "the run other"),
        Use("base", "the machine m-over"),
        Use(ANY, "the machine m-elsewhere"),
        Use("small/base@sha256:aa", "the machine m-other"),
    ]


def test_what_is_active(log: EventLog) -> None:
    others = [Stranger("far", "", is_placed=True), Stranger("gone", "", is_placed=False)]
    assert active(states(log), [machine("over"), machine("x"), machine("")], others) == [
        "the run bare (placing)",
        "the run on (placing)",
        "the machine m-x of the run x, which is not in this project's log",
        "the machine m- of a run that is not in this project's log",
        "the run far, which is not in this project's log",
    ]


def test_runs_of_others_are_found_in_the_store(objects: Objects) -> None:
    objects.put(spec_key("far", 1), b"{}")
    objects.put(over_key("far", 1), b"preempted")
    objects.put(spec_key("far", 2), msgspec.json.encode({"image": PINNED, "more": 1}))
    objects.put(spec_key("gone", 1), b"{}")
    objects.put(over_key("gone", 1), b"done")
    objects.put(spec_key("torn", 1), b"{")
    objects.put("runs/opened/head", b"")
    objects.put(spec_key("ours", 1), b"{}")
    assert strangers(objects, {"ours"}, time.time() - 60) == [
        Stranger("far", "small/base@sha256:aa", is_placed=True),
        Stranger("gone", "", is_placed=False),
        Stranger("opened", "", is_placed=False),
        Stranger("torn", ANY, is_placed=True),
    ]
    assert strangers(objects, {"ours"}, time.time() + 60) == []


def test_all_of_it_for_a_project(tmp_path: Path, objects: Objects) -> None:
    project = Project(tmp_path / "spotweld.yaml", "small", "memory:", LocalProvider(), {})
    assert uses_now(project, objects, time.time()) == []
    assert not project.state.exists()
    log = EventLog(log_path(project.state))
    log.open_run("on", Opened("small", Job("a", "b", image="base"), "", "", LocalProvider(), PlacementRules()))
    log.close()
    objects.put(spec_key("far", 1), msgspec.json.encode({"image": PINNED}))
    assert uses_now(project, objects, time.time()) == [
        Use("base", "the run on"),
        Use("small/base@sha256:aa", "the run far"),
    ]


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    monotonic = now

    def sleep(self, seconds: float) -> None:
        self.time += seconds


def test_runs_are_waited_for_while_they_save_their_state(
    log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driven: list[str] = []
    monkeypatch.setattr(subject, "ensure_driven", lambda _, run: driven.append(run))
    with pytest.raises(TeardownRefused, match="bare"):
        cancel_all(log, tmp_path, Clock(), 1.0)
    assert sorted(driven) == ["bare", "on"]
    assert states(log)["on"].cancel_requested
    for run in ("on", "bare"):
        log.append(run, log.take_over(run), Ended(Outcome.CANCELLED, ""))
    cancel_all(log, tmp_path, Clock(), 1.0)
    assert sorted(driven) == ["bare", "on"]
