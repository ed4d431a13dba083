"""A registry that is gone for good: forgotten by its name, on record, killed anywhere, and back again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace
from tests.images.homes import build, dies, project_of, without

from spotweld.errors import RegistryUnavailable
from spotweld.images.builds.records import read_kept
from spotweld.images.lifetimes.deciding import plan
from spotweld.images.lifetimes.forgetting import answers, forget, forgotten, on_record
from spotweld.images.lifetimes.settling import settle
from spotweld.images.lifetimes.surveying import survey
from spotweld.images.registries.opening import open_registry
from spotweld.project.nouns import Project, Registries
from spotweld.store.local import LocalObjects

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Gone:
    def __init__(self, url: str) -> None:
        self.url = url

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever is asked of it
        def fail(*_: object, **__: object) -> object:
            raise RegistryUnavailable("Cannot reach it", f"no route for {name}")

        return fail


def opening(url: str) -> Any:  # noqa: ANN401 - a registry, or what is left of one
    return Gone(url) if "gone" in url else open_registry(url, {})


@pytest.fixture
def moved(tmp_path: Path) -> tuple[Project, LocalObjects]:
    """A project with two builds of each image in one folder, which is gone; its file names others by now."""
    objects = LocalObjects(tmp_path / "store")
    project = project_of(tmp_path, Registries(f"oci:{tmp_path}/gone", f"oci:{tmp_path}/gone"))
    for number in range(2):
        for image in project.images:
            build(project, objects, image, number, float(number))
    return replace(project, registries=Registries(f"oci:{tmp_path}/keeps", f"oci:{tmp_path}/goes")), objects


def test_every_teardown_is_told_of_it_until_it_is_forgotten(moved: tuple[Project, LocalObjects]) -> None:
    project, objects = moved
    (blind,) = survey(project, objects, opening).unseen
    assert blind.todo.endswith(f"spotweld teardown --forget {blind.where}")
    url = blind.where
    known = on_record(project, objects, opening)
    assert [(one.image, one.protected, len(one.builds)) for one in known[url]] == [
        ("base", True, 2),
        ("trainer", False, 2),
    ]
    assert not answers(url, known[url], opening)
    done = forget(project, objects, url, 1e9, opening)
    assert (done.registry, done.when, done.images) == (url, 1e9, known[url])
    assert forgotten(objects) == (done,)
    found = survey(project, objects, opening)
    assert (found.unseen, found.forgotten) == ((), (done,))
    assert plan(found).staying == plan(found).going == ()
    assert on_record(project, objects, opening) == {}
    # So it is for those that are out of the file.
    assert survey(without(project, "base"), objects, opening).unseen == ()


def test_the_image_is_protected_where_the_file_says_next(moved: tuple[Project, LocalObjects]) -> None:
    project, objects = moved
    first = {step.name: step for step in settle(project, objects, opening) if step.of == "image"}
    assert "not yet in" in first["base"].what
    forget(project, objects, survey(project, objects, opening).unseen[0].where, 1e9, opening)
    assert all(step.ok and not step.todo for step in settle(project, objects, opening))
    kept = read_kept(objects, "base")
    assert kept is not None
    assert (kept.registry, kept.protected, kept.forgotten) == (project.registries.persistent, True, False)
    assert len(forgotten(objects)) == 1


def test_one_that_the_file_names_in_the_meantime_is_asked_first(moved: tuple[Project, LocalObjects]) -> None:
    project, objects = moved
    there = replace(project, registries=replace(project.registries, persistent=project.registries.persistent + "gone"))
    ours = [one for one in survey(there, objects, opening).unseen if one.where == there.registries.persistent]
    assert "name another one in the project file, then: spotweld teardown --forget" in ours[0].todo


def test_it_is_looked_into_again_when_something_is_put_there(
    moved: tuple[Project, LocalObjects], tmp_path: Path
) -> None:
    project, objects = moved
    url = f"oci:{tmp_path}/gone"
    forget(project, objects, url, 1e9, opening)
    back = replace(project, registries=Registries(f"oci:{tmp_path}/keeps", url))
    assert all(step.ok for step in settle(back, objects))
    assert forgotten(objects) == ()
    assert [one.where for one in survey(project, objects, opening).unseen] == [url]


def test_what_is_elsewhere_stays_protected(moved: tuple[Project, LocalObjects], tmp_path: Path) -> None:
    project, objects = moved
    for _ in range(2):
        build(project, objects, "base", 3)  # the second one finds it in the new place, and records it there
    before = read_kept(objects, "base")
    assert before is not None
    assert before.protected
    done = forget(project, objects, f"oci:{tmp_path}/gone", 1e9, opening)
    assert [(one.protected, len(one.builds)) for one in done.images] == [(False, 2), (False, 2)]
    assert read_kept(objects, "base") == before
    assert "persistent" in plan(survey(project, objects, opening)).staying[0].why


def test_a_damaged_record_of_one_is_no_record(moved: tuple[Project, LocalObjects], tmp_path: Path) -> None:
    project, objects = moved
    url = f"oci:{tmp_path}/gone"
    forget(project, objects, url, 1e9, opening)
    (key,) = [meta.key for meta in objects.list("registries/")]
    objects.replace(key, b"{", objects.read(key)[1])
    assert forgotten(objects) == ()
    assert [one.where for one in survey(project, objects, opening).unseen] == [url]
    forget(project, objects, url, 2e9, opening)
    assert [one.when for one in forgotten(objects)] == [2e9]


def test_a_kill_anywhere_is_followed_up(tmp_path: Path) -> None:
    at = 0
    while True:
        at += 1
        here = tmp_path / str(at)
        objects = LocalObjects(here / "store")
        url = f"oci:{here}/gone"
        project = project_of(here, Registries(url, url))
        for image in project.images:
            build(project, objects, image, 1)
        project = replace(project, registries=Registries(f"oci:{here}/keeps", f"oci:{here}/goes"))
        known = on_record(project, objects, opening)[url]

        def forgetting(
            deadly: Callable[[object], Any],
            project: Project = project,
            objects: LocalObjects = objects,
            url: str = url,
        ) -> None:
            forget(project, deadly(objects), url, 1e9, opening)

        died = dies(at, forgetting)
        assert forget(project, objects, url, 2e9, opening).images == known
        assert survey(project, objects, opening).unseen == ()
        if not died:
            break
    assert at > 15
