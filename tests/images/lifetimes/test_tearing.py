"""Teardown of images: over both registries, killed anywhere, twice at once."""

from __future__ import annotations

import sys
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace
from tests.images.fake import fake
from tests.images.homes import (
    PERSISTENT,
    Dying,
    age,
    at_once,
    build,
    dies,
    project_of,
    put,
    standing,
    with_image,
    without,
)
from tests.images.samples import add_image
from tests.images.samples import at as place
from tests.images.servers import docker_registry

from spotweld.errors import RegistryUnavailable
from spotweld.images.builds.naming import cache_of, repository_of
from spotweld.images.builds.records import read_kept
from spotweld.images.lifetimes.deciding import Plan, plan
from spotweld.images.lifetimes.settling import settle
from spotweld.images.lifetimes.surveying import survey
from spotweld.images.lifetimes.tearing import Removed, remove
from spotweld.images.registries.copying import verify
from spotweld.images.registries.distribution import Distribution
from spotweld.images.registries.layouts import Layout
from spotweld.images.registries.manifests import digest_of
from spotweld.images.registries.opening import open_registry
from spotweld.project.nouns import Image, Project, Registries
from spotweld.store.local import LocalObjects

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


def opening(url: str) -> Any:  # noqa: ANN401 - a registry, perhaps a deadly one
    return open_registry(url, {})


def made(folder: Path, server: str = "", builds: int = 2) -> tuple[Project, LocalObjects]:
    """A project with both images built; over folders, or over one server for both lifetimes."""
    name = f"demo{uuid.uuid4().hex[:6]}"
    registries = Registries(server, server) if server else Registries(f"oci:{folder}/keeps", f"oci:{folder}/goes")
    project, objects = project_of(folder, registries, name), LocalObjects(folder / "store")
    for number in range(builds):
        build(project, objects, "base", number, float(number))
        build(project, objects, "trainer", number, float(number))
    return project, objects


def torn(project: Project, objects: LocalObjects, named: Sequence[str] = (), only: Sequence[str] = ()) -> Removed:
    return remove(plan(survey(project, objects, opening), named, only), objects, opening=opening)


def again(project: Project, objects: LocalObjects, named: Sequence[str] = ()) -> Plan:
    return plan(survey(project, objects, opening), named)


def assert_whole(project: Project, image: str, builds: int = 2) -> None:
    registry, repository = opening(project.registries.persistent), repository_of(project.name, image)
    for name, known in ((repository, builds + 1), (cache_of(repository), builds)):
        tags = registry.tags(name)
        assert len(tags) == known
        for tag in tags:
            assert verify(place(registry, name, tag)) == ()


@pytest.fixture
def home(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> tuple[Project, LocalObjects]:
    return made(tmp_path, request.getfixturevalue("server") if kind == "distribution" else "")


def test_ephemeral_things_go_and_persistent_ones_stay(home: tuple[Project, LocalObjects]) -> None:
    project, objects = home
    found = again(project, objects)
    (going,), (staying,) = found.going, found.staying
    assert (going.image, len(going.tags), len(going.cache)) == ("trainer", 3, 2)
    assert going.size is not None
    assert staying.size is not None
    assert 0 < going.size < 10_000
    assert "base" in staying.what
    done = torn(project, objects)
    assert (done.images, done.failed, done.unfreed) == (("trainer",), (), ())
    assert all("/base" in name for name in standing(project))
    assert_whole(project, "base")
    found = again(project, objects)
    assert (found.going, found.unseen, len(found.staying)) == ((), (), 1)


def test_the_space_of_a_folder_is_given_back(tmp_path: Path) -> None:
    project, objects = made(tmp_path)
    done = torn(project, objects)
    assert done.freed > 1000
    assert not [path for path in (tmp_path / "goes" / "blobs").rglob("*") if path.is_file()]
    one = replace(project, registries=Registries(f"oci:{tmp_path}/both", f"oci:{tmp_path}/both"))
    build(one, objects, "base", 1)
    build(one, objects, "trainer", 1)
    assert torn(one, objects).freed == 0  # somebody may be building a persistent image there


def test_a_build_in_progress_loses_nothing_where_nothing_goes(tmp_path: Path) -> None:
    project, objects = made(tmp_path, builds=0)
    registry = opening(project.registries.ephemeral)
    data = b"half of an image"
    registry.write_blob("", digest_of(data), len(data), [data])
    assert torn(project, objects).freed == 0
    age(tmp_path / "goes")
    assert torn(project, objects).freed == len(data)


def test_a_named_persistent_image_goes_and_is_off_the_record(home: tuple[Project, LocalObjects]) -> None:
    project, objects = home
    torn(project, objects, ["base"])
    assert standing(project) == {}
    kept = read_kept(objects, "base")
    assert kept is not None
    assert not kept.protected
    assert again(project, objects).staying == ()
    assert all(step.ok for step in settle(project, objects, opening))
    kept = read_kept(objects, "base")
    assert kept is not None
    assert kept.protected


def test_one_image_alone(home: tuple[Project, LocalObjects]) -> None:
    project, objects = home
    torn(project, objects, ["base"], ["base"])
    assert all("/trainer" in name for name in standing(project))


@pytest.mark.parametrize("forgotten", [False, True])
def test_what_is_out_of_the_file_is_found(home: tuple[Project, LocalObjects], forgotten: bool) -> None:
    """By its record or, where the store has been lost too, by its label."""
    project, objects = home
    bare = without(without(project, "trainer"), "base")
    if forgotten:
        for meta in list(objects.list("images/")):
            objects.delete(meta.key)
    torn(bare, objects)
    assert all("/base" in name for name in standing(project))
    assert_whole(project, "base")


def test_images_of_a_registry_that_left_the_file_are_found(tmp_path: Path) -> None:
    project, objects = made(tmp_path)
    moved = replace(project, registries=Registries(f"oci:{tmp_path}/a", f"oci:{tmp_path}/b"))
    torn(moved, objects)
    assert all("/base" in name for name in standing(project))
    assert_whole(project, "base")


def test_swapped_registries_unprotect_nothing(tmp_path: Path) -> None:
    project, objects = made(tmp_path)
    known = project.registries
    torn(replace(project, registries=Registries(known.ephemeral, known.persistent)), objects)
    assert_whole(project, "base")


def test_what_others_have_there_stays(home: tuple[Project, LocalObjects]) -> None:
    project, objects = home
    registry = opening(project.registries.ephemeral)
    mine, theirs = repository_of(project.name, "trainer"), repository_of(project.name, "tool")
    add_image(registry, mine, "v1", [b"somebody's"])
    add_image(registry, theirs, "latest", [b"somebody's"])
    add_image(registry, cache_of(theirs), "step", [b"somebody's"])
    other = put(registry, "other", Image("trainer"), [b"of another project"], ())
    registry.write_blob(mine, other.digest, len(other.data), [other.data])
    done = torn(project, objects)
    assert done.failed == ()
    assert registry.tags(mine) == ("v1",)
    assert registry.tags(theirs) == ("latest",)
    assert registry.tags(cache_of(theirs)) == ("step",)
    stays = {one.what for one in again(project, objects).staying}
    assert {"tag v1 of trainer", "image tool (0 builds, 1 cached steps)"} <= stays


def test_damaged_images_go_too(tmp_path: Path) -> None:
    project, objects = made(tmp_path)
    folder = Layout(tmp_path / "goes").folder / "blobs" / "sha256"
    for path in folder.iterdir():
        path.write_bytes(b"")
    assert again(project, objects).going[0].size is None
    assert torn(project, objects).failed == ()
    assert again(project, objects).going == ()


class Gone:
    def __init__(self, url: str) -> None:
        self.url = url

    def tags(self, repository: str) -> tuple[str, ...]:
        raise RegistryUnavailable("Cannot reach it", f"no route to {repository}")

    def repositories(self) -> tuple[str, ...]:
        return ()


def test_a_registry_that_is_gone_keeps_nothing_else_from_going(tmp_path: Path) -> None:
    project, objects = made(tmp_path)

    def broken(url: str) -> Any:  # noqa: ANN401 - as above
        return Gone(url) if url.endswith("keeps") else opening(url)

    found = survey(project, objects, broken)
    assert [one.where for one in found.unseen] == [f"oci:{tmp_path}/keeps"]
    assert "no route" in found.unseen[0].why
    remove(plan(found), objects, opening=broken)
    assert all("/base" in name for name in standing(project))


def test_a_label_that_nobody_could_read_is_not_taken_for_none(tmp_path: Path) -> None:
    with fake() as server:
        project = project_of(tmp_path, Registries(f"oci:{tmp_path}/keeps", server.url))
        objects = LocalObjects(tmp_path / "store")
        put(opening(server.url), "demo", Image("trainer", lifetime=PERSISTENT), [b"x"], ("latest",))
        server.always.append((r"GET /v2/demo/trainer/manifests/latest", 403, {}, ""))
        found = survey(project, objects, opening)
    assert [one.where for one in found.unseen] == [server.url]
    assert plan(found).going == ()


def test_a_server_that_does_not_delete_is_told(tmp_path: Path) -> None:
    with docker_registry(tmp_path, delete=False) as url:
        project, objects = made(tmp_path, url)
        done = torn(project, objects)
        assert done.images == ()
        assert "storage.delete.enabled" in done.failed[0].todo
        assert [going.image for going in again(project, objects).going] == ["trainer"]


def test_a_server_that_shows_no_catalogue(tmp_path: Path) -> None:
    with docker_registry(tmp_path) as url, pytest.MonkeyPatch.context() as patch:
        project, objects = made(tmp_path, url)

        def refused(_: object) -> tuple[str, ...]:
            from spotweld.errors import RegistryRefused

            raise RegistryRefused("Cannot list", "not yours")

        patch.setattr("spotweld.images.registries.distribution.Distribution.repositories", refused)
        assert [going.image for going in again(without(project, "trainer"), objects).going] == ["trainer"]


def kill_everywhere(tmp_path: Path, server: str, named: Sequence[str], step: int = 1) -> int:
    """Tear down, killed at each point; and again, which has to finish it. How many points there are."""
    at = 1
    while True:
        project, objects = made(tmp_path / str(at), server, builds=1)

        def tearing(
            deadly: Callable[[object], Any], project: Project = project, objects: LocalObjects = objects
        ) -> None:
            def dangerous(url: str) -> Any:  # noqa: ANN401 - as above
                return deadly(opening(url))

            store: Any = deadly(objects)
            remove(plan(survey(project, store, dangerous), named), store, opening=dangerous)

        died = dies(at, tearing)
        left = standing(project)
        kept = read_kept(objects, "base")
        assert kept is not None
        if not named:
            assert_whole(project, "base", 1)
            assert kept.protected
        # As long as anything of it is there it is protected.
        assert kept.protected or not any("/base" in name for name in left)
        if not server:
            age(tmp_path / str(at) / "goes")
        torn(project, objects, named)
        assert all("/base" in name for name in standing(project))
        if named:
            assert standing(project) == {}
            kept = read_kept(objects, "base")
            assert kept is not None
            assert not kept.protected
        else:
            assert_whole(project, "base", 1)
        if not server:
            assert not [path for path in (tmp_path / str(at) / "goes" / "blobs").rglob("*") if path.is_file()]
        found = again(project, objects, named)
        assert (found.going, found.unseen) == ((), ())
        if not died:
            return at
        at += step


@pytest.mark.parametrize("named", [(), ("base",)])
def test_a_kill_anywhere_is_followed_up(tmp_path: Path, named: Sequence[str]) -> None:
    assert kill_everywhere(tmp_path, "", named, step=14) > 40


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["layout", "distribution"])
@pytest.mark.parametrize("named", [(), ("base",)])
def test_a_kill_at_every_point_is_followed_up(
    tmp_path: Path, named: Sequence[str], kind: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    server = request.getfixturevalue("server") if kind == "distribution" else ""
    # On a server every third point: after a call is the same as before the next one, and most calls only look.
    points = kill_everywhere(tmp_path, server, named, step=1 if kind == "layout" else 3)
    with capsys.disabled():
        sys.stdout.write(f"\nteardown over a {kind}: killed up to point {points - 1}, finished each time\n")


def test_a_killed_deletion_of_one_tag_among_several_is_followed_up(tmp_path: Path, server: str) -> None:
    """The server cannot delete a tag by its name, so a label may be gone with the tag still there."""
    project, objects = made(tmp_path, server)
    registry, repository = opening(server), repository_of(project.name, "trainer")
    assert isinstance(registry, Distribution)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Distribution, "_delete_image", lambda *_: None)
        registry._put_aside(repository, {"latest": None})
    torn(project, objects)
    assert all("/base" in name for name in standing(project))


def test_two_at_once(home: tuple[Project, LocalObjects]) -> None:
    project, objects = home
    for number in range(3):
        at_once([lambda: torn(project, objects)] * 2)
        assert all("/base" in name for name in standing(project))
        assert again(project, objects).going == ()
        build(project, objects, "trainer", number)
    assert_whole(project, "base")


def test_a_set_up_at_the_same_time(tmp_path: Path) -> None:
    project, objects = made(tmp_path)
    at_once([lambda: torn(project, objects), lambda: list(settle(project, objects, opening))] * 2)
    assert_whole(project, "base")
    kept = read_kept(objects, "base")
    assert kept is not None
    assert kept.protected


def test_what_was_protected_since_it_was_looked_at_stays(tmp_path: Path) -> None:
    project, objects = made(tmp_path)
    project = replace(project, registries=Registries(f"oci:{tmp_path}/goes", f"oci:{tmp_path}/goes"))
    agreed = plan(survey(project, objects, opening), only=["trainer"])
    list(settle(with_image(project, Image("trainer", lifetime=PERSISTENT)), objects, opening))
    done = remove(agreed, objects, opening=opening)
    assert "protected meanwhile" in done.failed[0].why
    assert any("/trainer" in name for name in standing(project))


def test_dying_counts_before_and_after() -> None:
    points = [0]
    assert Dying([1, 2], points, 0).index(2) == 1
    assert points == [2]
