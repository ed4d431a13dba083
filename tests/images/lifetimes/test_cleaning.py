"""Old builds go: over both registries, killed anywhere, beside others."""

from __future__ import annotations

import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from tests.images.homes import at_once, build, dies, project_of
from tests.images.samples import at as place

from spotweld.images.builds.naming import LATEST, repository_of
from spotweld.images.builds.records import builds
from spotweld.images.builds.texts import keep_texts, texts_key
from spotweld.images.lifetimes import cleaning
from spotweld.images.lifetimes.cleaning import Cleaned, clean_up
from spotweld.images.lifetimes.deciding import Use
from spotweld.images.registries.copying import verify
from spotweld.images.registries.layouts import Layout
from spotweld.images.registries.opening import open_registry
from spotweld.project.nouns import Registries
from spotweld.store.local import LocalObjects

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from spotweld.images.registries.registry import Registry


def opening(url: str) -> Any:  # noqa: ANN401 - a registry, perhaps a deadly one
    return open_registry(url, {})


class Home:
    """A project whose ``trainer`` has been built some times; two are kept."""

    def __init__(self, folder: Path, server: str = "", builds: int = 5) -> None:
        registries = Registries(server, server) if server else Registries(f"oci:{folder}/keeps", f"oci:{folder}/goes")
        self.project = project_of(folder, registries, f"demo{uuid.uuid4().hex[:6]}")
        self.objects = LocalObjects(folder / "store")
        self.repository = repository_of(self.project.name, "trainer")
        self.keys = [build(self.project, self.objects, "trainer", number, float(number)) for number in range(builds)]

    @property
    def registry(self) -> Registry:
        found: Registry = opening(self.project.registries.ephemeral)
        return found

    def clean(self, *used: str, opening: Callable[[str], Any] = opening) -> Cleaned:
        uses = [Use(image, "the run r") for image in used]
        return clean_up(self.project, self.project.images["trainer"], self.objects, lambda: uses, opening)

    def left(self) -> list[int]:
        tags = self.registry.tags(self.repository)
        return [number for number, key in enumerate(self.keys) if key in tags]

    def assert_whole(self) -> None:
        for tag in self.registry.tags(self.repository):
            assert verify(place(self.registry, self.repository, tag)) == ()


def test_old_records_go_once_their_images_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaning, "REMEMBERED", 3)
    home = Home(tmp_path, builds=6)
    keep_texts(home.objects, "trainer", home.keys[0], {"digest": "text"})
    assert len(home.clean(f"{home.repository}:{home.keys[1]}").removed) == 3
    for left in ([1, 3, 4, 5], [3, 4, 5]):
        home.clean()
        known = {one.tag for one in builds(home.objects, "trainer")}
        assert [number for number, key in enumerate(home.keys) if key in known] == left
    assert texts_key("trainer", home.keys[0]) not in {meta.key for meta in home.objects.list("images/")}


@pytest.fixture
def home(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> Home:
    return Home(tmp_path, request.getfixturevalue("server") if kind == "distribution" else "")


def test_the_newest_stay(home: Home) -> None:
    assert home.clean().removed == tuple(home.keys[:3])
    assert home.left() == [3, 4]
    assert home.registry.resolve(home.repository, LATEST) == home.registry.resolve(home.repository, home.keys[4])
    home.assert_whole()
    assert home.clean() == Cleaned((), 0)


def test_latest_and_what_is_in_use_stay(home: Home) -> None:
    home.registry.tag(home.repository, home.keys[0], LATEST)
    used = home.registry.resolve(home.repository, home.keys[1])
    home.clean(f"{home.repository}@{used}")
    assert home.left() == [0, 1, 3, 4]
    home.assert_whole()
    home.clean("trainer")
    assert home.left() == [0, 1, 3, 4]
    home.clean()
    assert home.left() == [0, 3, 4]


def test_nobody_is_asked_what_is_in_use_when_nothing_would_go(home: Home) -> None:
    home.clean()

    def asked() -> Sequence[Use]:
        raise AssertionError

    assert clean_up(home.project, home.project.images["trainer"], home.objects, asked, opening).removed == ()


def test_the_space_of_a_folder_is_given_back_after_a_day(tmp_path: Path) -> None:
    import os
    import time

    home = Home(tmp_path)
    layout = Layout(tmp_path / "goes")
    for path in (layout.folder / "blobs").rglob("*"):
        os.utime(path, (time.time() - 90_000,) * 2)
    before = sum(path.stat().st_size for path in (layout.folder / "blobs").rglob("*") if path.is_file())
    done = home.clean()
    after = sum(path.stat().st_size for path in (layout.folder / "blobs").rglob("*") if path.is_file())
    assert done.freed == before - after > 0
    home.assert_whole()


def test_a_build_that_finds_an_old_image_fresh_meanwhile_keeps_it(home: Home) -> None:
    """`latest` moves to what is being deleted, at the worst moment: a server loses both tags."""
    registry = home.registry

    class Racing:
        def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a registry has
            return getattr(registry, name)

        def delete(self, repository: str, tag: str) -> None:
            if tag == home.keys[1]:
                registry.tag(repository, tag, LATEST)
            registry.delete(repository, tag)
            if tag == home.keys[1] and registry.url.startswith("http"):
                registry.delete(repository, LATEST)

    home.clean(opening=lambda _: Racing())
    assert home.left() == [1, 3, 4]
    assert registry.resolve(home.repository, LATEST) == registry.resolve(home.repository, home.keys[1])
    home.assert_whole()


def test_two_at_once_and_a_build_beside_them(home: Home) -> None:
    # A forked process needs a connection of its own.
    at_once([home.clean, home.clean, partial(build, home.project, home.objects, "trainer", 4, 4.0)])
    home.clean()
    assert home.left() == [3, 4]
    home.assert_whole()


def kill_everywhere(tmp_path: Path, server: str, step: int) -> int:
    at = 1
    while True:
        home = Home(tmp_path / str(at), server, 4)

        def cleaning(deadly: Callable[[object], Any], home: Home = home) -> None:
            home.clean(opening=lambda url: deadly(opening(url)))

        died = dies(at, cleaning)
        assert {2, 3} <= set(home.left())
        assert home.registry.resolve(home.repository, LATEST) == home.registry.resolve(home.repository, home.keys[3])
        home.clean()
        assert home.left() == [2, 3]
        home.assert_whole()
        if not died:
            return at
        at += step


@pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.slow)])
def test_a_kill_anywhere_is_followed_up(tmp_path: Path, kind: str, step: int, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue("server") if kind == "distribution" else ""
    assert kill_everywhere(tmp_path, server, step if kind == "layout" else max(step, 3)) > 20
