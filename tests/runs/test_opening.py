from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from tests.images.samples import add_image

from spotweld.errors import ContainerRefused, ImageNotFound, UsageError
from spotweld.images.containers import preparing
from spotweld.images.containers.pinning import Pinned
from spotweld.images.registries.layouts import Layout
from spotweld.placement.cheapest import CheapestSpot
from spotweld.project.reading import load_project
from spotweld.providers.opening import open_provider
from spotweld.runs import opening
from spotweld.runs.drive import ensure_driven, is_driven, log_path
from spotweld.runs.log import EventLog
from spotweld.runs.opening import Plan, make_plan, open_run
from spotweld.store.heads import take_over
from spotweld.store.opening import open_store

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "spotweld.yaml").write_text("name: x\nstore: file:kept\njobs: {t: {command: 'true'}}\n")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/blob").write_bytes(b"x" * 100)
    return tmp_path


def plan(folder: Path, name: str | None = "r") -> Plan:
    project = load_project(folder / "spotweld.yaml")
    provider = open_provider(project.state, project.local)
    return make_plan(project, project.jobs["t"], name, provider=provider, placer=CheapestSpot())


def test_the_store_is_not_frozen_into_itself(folder: Path) -> None:
    assert [file.path for file in plan(folder).source.files] == ["spotweld.yaml"]


def test_images_are_not_frozen_either(folder: Path) -> None:
    text = (folder / "spotweld.yaml").read_text()
    (folder / "spotweld.yaml").write_text(f"{text}registries: {{ephemeral: oci:layers}}\n")
    (folder / "layers").mkdir()
    (folder / "layers/blob").write_bytes(b"x" * 100)
    assert "layers/blob" not in [file.path for file in plan(folder).source.files]


def test_the_image_of_a_run_is_pinned_when_it_is_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "check_here", lambda: None)
    (folder / "Dockerfile").touch()
    (folder / "spotweld.yaml").write_text("name: x\nimages: {box: {}}\njobs: {t: {command: 'true', image: box}}\n")
    with pytest.raises(ImageNotFound, match="never built") as caught:
        plan(folder)
    assert caught.value.todo == "spotweld build box"
    registry = Layout(folder / ".spotweld/images/ephemeral")
    first = add_image(registry, "x/box", "latest", [b"first"])
    log, objects = EventLog(folder / ".spotweld" / "events.db"), open_store("memory:")
    planned = plan(folder)
    add_image(registry, "x/box", "latest", [b"second"])
    assert open_run(planned, log, objects, folder, lambda _: None)
    assert log.state("r").image == Pinned("box", registry.url, "x/box", first.digest)


def test_a_machine_that_cannot_hold_images_is_said_when_it_is_planned(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing.os, "geteuid", lambda: 1000)
    (folder / "Dockerfile").touch()
    (folder / "spotweld.yaml").write_text("name: x\nimages: {box: {}}\njobs: {t: {command: 'true', image: box}}\n")
    add_image(Layout(folder / ".spotweld/images/ephemeral"), "x/box", "latest", [b"first"])
    with pytest.raises(ContainerRefused):
        plan(folder)


def test_drawn_names_differ_and_given_ones_are_checked(folder: Path) -> None:
    assert plan(folder, None).run != plan(folder, None).run
    assert plan(folder, None).run.startswith("t-")
    for name in ("", "a/b", "..", "-x", "a b", "x" * 129):
        with pytest.raises(UsageError, match="cannot be a run's name"):
            plan(folder, name)


def test_a_run_is_opened_once(folder: Path) -> None:
    log, objects = EventLog(folder / ".spotweld" / "events.db"), open_store("memory:")
    assert open_run(plan(folder), log, objects, folder, lambda _: None)
    take_over(objects, "r", 1)
    assert not open_run(plan(folder), log, objects, folder, lambda _: None)


def test_a_name_that_somebody_else_has_in_the_store_is_refused(folder: Path) -> None:
    log, objects = EventLog(folder / ".spotweld" / "events.db"), open_store("memory:")
    take_over(objects, "r", 1)
    with pytest.raises(UsageError, match="does not know"):
        open_run(plan(folder), log, objects, folder, lambda _: None)
    assert log.runs() == []


def test_whoever_asks_is_not_taken_for_a_controller(folder: Path) -> None:
    answers: list[bool] = []
    ask = [threading.Thread(target=lambda: answers.extend(is_driven(folder, "r") for _ in range(50))) for _ in range(4)]
    for thread in ask:
        thread.start()
    for thread in ask:
        thread.join()
    assert answers == [False] * 200


def test_a_controller_is_at_work_from_the_instant_it_is_started(folder: Path) -> None:
    state = load_project(folder / "spotweld.yaml").state
    EventLog(log_path(state)).close()
    assert ensure_driven(state, "nobody")
    # It ends by itself: there is no such run.
    assert not ensure_driven(state, "nobody") or "no run" in (state / "runs/nobody/controller.log").read_text()
