"""Set-up: makes what is missing, looks at what is there, never unprotects; twice at once and killed anywhere."""

from __future__ import annotations

import json
import shlex
from functools import partial
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace
from tests.images.fake import fake
from tests.images.homes import EPHEMERAL, PERSISTENT, at_once, build, dies, project_of, with_image, without
from tests.images.servers import docker_registry

from spotweld.errors import ImageDamaged, RegistryRefused
from spotweld.images.builds.records import read_kept, write_kept
from spotweld.images.lifetimes.settling import Step, remember, settle
from spotweld.images.registries.layouts import Layout
from spotweld.images.registries.manifests import blobs
from spotweld.images.registries.opening import open_registry
from spotweld.project.nouns import Image, Project, Registries
from spotweld.store.local import LocalObjects

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from spotweld.images.registries.registry import Registry


@pytest.fixture
def objects(tmp_path: Path) -> LocalObjects:
    return LocalObjects(tmp_path / "store")


@pytest.fixture
def project(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> Project:
    """Over folders, or over the server: one registry for both lifetimes."""
    if kind == "layout":
        return project_of(tmp_path, Registries(f"oci:{tmp_path}/keeps", f"oci:{tmp_path}/goes"))
    url = request.getfixturevalue("server")
    return project_of(tmp_path, Registries(url, url), name=tmp_path.name.lower())


def steps(project: Project, objects: LocalObjects) -> dict[str, Step]:
    return {f"{step.of} {step.name}": step for step in settle(project, objects)}


def settled(project: Project, here: Path) -> None:
    assert all(step.ok for step in settle(project, LocalObjects(here / "store")))


def test_it_makes_what_is_missing_and_then_nothing(project: Project, objects: LocalObjects, kind: str) -> None:
    first = steps(project, objects)
    assert list(first) == ["registry persistent", "registry ephemeral", "image base", "image trainer"]
    assert all(step.ok for step in first.values())
    assert first["image base"].changed
    assert first["registry persistent"].changed == (kind == "layout")
    base, trainer = read_kept(objects, "base"), read_kept(objects, "trainer")
    assert base is not None
    assert trainer is not None
    assert (base.protected, base.lifetime, base.registry) == (True, PERSISTENT, project.registries.persistent)
    assert (trainer.protected, trainer.lifetime, trainer.registry) == (False, EPHEMERAL, project.registries.ephemeral)
    assert base.repository == f"{project.name.replace('_', '-')}/base"
    again = steps(project, objects)
    assert [step.ok for step in again.values()] == [True] * 4
    assert not any(step.changed for step in again.values())


def test_asking_whether_a_server_may_be_written_to_leaves_nothing(tmp_path: Path, objects: LocalObjects) -> None:
    with docker_registry(tmp_path) as url:
        steps(project_of(tmp_path, Registries(url, url)), objects)
        assert open_registry(url, {}).repositories() == ()


def test_a_read_only_server_is_named(tmp_path: Path, objects: LocalObjects) -> None:
    with docker_registry(tmp_path, more={"storage": {"filesystem": {"rootdirectory": str(tmp_path / "r")}, "maintenance": {"readonly": {"enabled": True}}}}) as url:  # fmt: skip  # noqa: E501
        found = steps(project_of(tmp_path, Registries(url, f"oci:{tmp_path}/goes")), objects)
    assert not found["registry persistent"].ok
    assert "read-only" in found["registry persistent"].what
    assert found["registry ephemeral"].ok
    assert found["image base"].changed  # what will be there is protected all the same


@pytest.mark.parametrize(("status", "word"), [(401, "credentials"), (404, "/v2/"), (403, "may not")])
def test_what_a_server_refuses_is_told(status: int, word: str, tmp_path: Path, objects: LocalObjects) -> None:
    with fake() as server:
        server.always.append(("GET /v2/$", status, {}, ""))
        found = steps(project_of(tmp_path, Registries(server.url, f"oci:{tmp_path}/goes")), objects)
    step = found["registry persistent"]
    assert not step.ok
    assert word in step.what
    assert step.todo


def test_a_server_that_is_not_there_is_told(tmp_path: Path, objects: LocalObjects) -> None:
    registries = Registries("http://127.0.0.1:9", f"oci:{tmp_path}/goes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spotweld.images.registries.distribution_client.time.sleep", lambda _: None)
        patch.setattr("spotweld.images.registries.distribution_client.Client.ask.__defaults__", (None, b"", 1))
        found = steps(project_of(tmp_path, registries), objects)
    assert not found["registry persistent"].ok
    assert found["image trainer"].ok


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path, objects: LocalObjects) -> None:
    (tmp_path / "keeps").mkdir()
    (tmp_path / "keeps" / "thesis.tex").write_text("\\end{document}")
    found = steps(project_of(tmp_path, Registries(f"oci:{tmp_path}/keeps", f"oci:{tmp_path}/goes")), objects)
    assert "thesis.tex" in found["registry persistent"].what
    assert [path.name for path in (tmp_path / "keeps").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("mark", "error"), [('{"imageLayoutVersion": "2.0.0"}', RegistryRefused), ("", ImageDamaged), ("[]", ImageDamaged)]
)
def test_a_layout_of_another_kind_is_refused(mark: str, error: type[Exception], layout: Layout) -> None:
    layout.prepare([])
    (layout.folder / "oci-layout").write_text(mark)
    with pytest.raises(error):
        Layout(layout.folder).prepare([])


def test_a_damaged_index_is_told(layout: Layout) -> None:
    layout.prepare([])
    (layout.folder / "index.json").write_text("{")
    with pytest.raises(ImageDamaged, match=r"index\.json"):
        layout.prepare([])


def test_what_is_there_is_kept(layout: Layout) -> None:
    layout.prepare([])
    before = json.loads((layout.folder / "index.json").read_bytes())
    assert layout.prepare([]) is False
    assert json.loads((layout.folder / "index.json").read_bytes()) == before


def test_an_image_with_a_blob_gone_is_told(tmp_path: Path, objects: LocalObjects) -> None:
    project = project_of(tmp_path, Registries(f"oci:{tmp_path}/keeps", f"oci:{tmp_path}/goes"))
    build(project, objects, "base", 1)
    layout = Layout(tmp_path / "keeps")
    part = blobs(layout.manifest("demo/base", "latest"))[-1]
    assert all(step.ok for step in settle(project, objects))
    (layout.folder / "blobs" / part.digest.replace(":", "/")).unlink()
    failed = [step for step in settle(project, objects) if not step.ok]
    assert [(step.name, step.todo) for step in failed] == [("base", "build it again: spotweld build base")]
    assert part.digest in failed[0].what


def test_protection_outlives_the_file(project: Project, objects: LocalObjects) -> None:
    steps(project, objects)
    before = read_kept(objects, "base")
    gone = steps(without(project, "base"), objects)
    assert "still protected" in gone["image base"].what
    turned = steps(with_image(project, Image("base", lifetime=EPHEMERAL)), objects)
    assert "protected" in turned["image base"].what
    assert not turned["image base"].changed
    assert read_kept(objects, "base") == before


def test_an_image_that_becomes_persistent_is_protected(project: Project, objects: LocalObjects) -> None:
    steps(project, objects)
    steps(with_image(project, Image("trainer", lifetime=PERSISTENT)), objects)
    kept = read_kept(objects, "trainer")
    assert kept is not None
    assert kept.protected


def test_another_registry_is_recorded_once_the_image_is_there(tmp_path: Path, objects: LocalObjects) -> None:
    other = f"oci:{tmp_path}/the other"
    project = project_of(tmp_path, Registries(f"oci:{tmp_path}/keeps", f"oci:{tmp_path}/goes"))
    build(project, objects, "base", 1)
    moved = replace(project, registries=replace(project.registries, persistent=other))
    step = steps(moved, objects)["image base"]
    assert shlex.split(step.todo)[-6:] == ["spotweld", "cache", "replicate", "base", "--to", other]
    kept = read_kept(objects, "base")
    assert kept is not None
    assert kept.registry == f"oci:{tmp_path}/keeps"
    build(moved, objects, "base", 1)
    assert not steps(moved, objects)["image base"].todo
    kept = read_kept(objects, "base")
    assert kept is not None
    assert (kept.registry, kept.protected) == (other, True)


def test_a_place_that_holds_nothing_any_more_is_forgotten(tmp_path: Path, objects: LocalObjects) -> None:
    project = project_of(tmp_path, Registries(f"oci:{tmp_path}/keeps", f"oci:{tmp_path}/goes"))
    steps(project, objects)
    moved = replace(project, registries=replace(project.registries, persistent=f"oci:{tmp_path}/other"))
    steps(moved, objects)
    kept = read_kept(objects, "base")
    assert kept is not None
    assert kept.registry == f"oci:{tmp_path}/other"


def test_a_store_that_is_another_project_s_is_refused(project: Project, objects: LocalObjects) -> None:
    steps(project, objects)
    found = steps(replace(project, name="elsewhere"), objects)
    assert not found["image base"].ok
    assert project.name in found["image base"].what
    kept = read_kept(objects, "base")
    assert kept is not None
    assert kept.project == project.name


def test_a_record_that_cannot_be_read_is_told(project: Project, objects: LocalObjects) -> None:
    objects.create("images/base/image.json", b"{")
    found = steps(project, objects)
    assert not found["image base"].ok
    assert found["image trainer"].ok


def test_two_who_disagree_protect(tmp_path: Path, objects: LocalObjects) -> None:
    project = project_of(tmp_path, Registries(f"oci:{tmp_path}/keeps", f"oci:{tmp_path}/goes"))
    turned = with_image(project, Image("base", lifetime=EPHEMERAL))
    for _ in range(5):
        objects.delete("images/base/image.json")
        bodies: list[Callable[[], object]] = [
            lambda one=one: remember(one, one.images["base"], objects) for one in (project, turned, project, turned)
        ]
        at_once(bodies)
        kept = read_kept(objects, "base")
        assert kept is not None
        assert kept.protected


def test_two_set_ups_at_once(tmp_path: Path) -> None:
    for number in range(5):
        here = tmp_path / str(number)
        project = project_of(here, Registries(f"oci:{here}/keeps", f"oci:{here}/goes"))
        at_once([partial(settled, project, here)] * 3)
        assert all(step.ok and not step.changed for step in settle(project, LocalObjects(here / "store")))


def test_a_kill_anywhere_is_mended_by_the_next_set_up(tmp_path: Path) -> None:
    at = 0
    while True:
        at += 1
        here = tmp_path / str(at)
        project = project_of(here, Registries(f"oci:{here}/keeps", f"oci:{here}/goes"))

        def setting_up(deadly: Callable[[object], object], project: Project = project, here: Path = here) -> None:
            def opening(url: str) -> Registry:
                return deadly(open_registry(url, {}))  # type: ignore[return-value]

            list(settle(project, deadly(LocalObjects(here / "store")), opening))  # type: ignore[arg-type]

        died = dies(at, setting_up)
        objects = LocalObjects(here / "store")
        assert all(step.ok for step in settle(project, objects))
        assert not any(step.changed for step in settle(project, objects))
        kept = read_kept(objects, "base")
        assert kept is not None
        assert kept.protected
        if not died:
            break
    assert at > 15


def test_the_record_s_url_may_be_written_otherwise(tmp_path: Path, objects: LocalObjects, server: str) -> None:
    project = project_of(tmp_path, Registries(server.removeprefix("http://"), f"oci:{tmp_path}/goes"), "otherwise")
    steps(project, objects)
    kept = read_kept(objects, "base")
    assert kept is not None
    assert kept.registry == server
    write_kept(objects, replace(kept, registry=server.removeprefix("http://")))
    assert all(step.ok for step in settle(project, objects))
