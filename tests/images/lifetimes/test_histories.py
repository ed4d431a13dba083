"""Whatever is done in whatever order, and killed: what was ever built as persistent stays, and the rest goes."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.images.homes import PERSISTENT, build, dies, project_of, with_image, without
from tests.images.samples import add_image
from tests.images.samples import at as place

from spotweld.images.builds.naming import LATEST, cache_of, repository_of
from spotweld.images.builds.records import read_kept
from spotweld.images.lifetimes.deciding import plan
from spotweld.images.lifetimes.settling import remember, settle
from spotweld.images.lifetimes.surveying import survey
from spotweld.images.lifetimes.tearing import remove
from spotweld.images.registries.copying import verify
from spotweld.images.registries.opening import open_registry
from spotweld.project.nouns import Image, Lifetime, Project, Registries
from spotweld.store.local import LocalObjects

NAMES = st.sampled_from(["base", "trainer"])
POINTS = st.integers(0, 80)
"""Where it is killed; 0: it is not."""
STEPS = st.one_of(
    st.tuples(st.just("set up"), POINTS),
    st.tuples(st.just("build"), NAMES),
    st.tuples(st.just("begin"), NAMES),
    st.tuples(st.just("call"), NAMES, st.sampled_from(Lifetime)),
    st.tuples(st.just("drop"), NAMES),
    st.tuples(st.just("forget"), NAMES),
    st.tuples(st.just("swap")),
    st.tuples(st.just("tear down"), POINTS),
)


def opening(url: str) -> Any:  # noqa: ANN401 - a registry, perhaps a deadly one
    return open_registry(url, {})


class History:
    def __init__(self, folder: Path, *, shared: bool) -> None:
        first, second = f"oci:{folder}/one", f"oci:{folder}/{'one' if shared else 'two'}"
        self.project = project_of(folder, Registries(first, second))
        self.objects = LocalObjects(folder / "store")
        self.numbers = itertools.count()
        self.lasting: set[tuple[str, str, str]] = set()
        """What was built as persistent: registry, image, tag."""
        self.begun: set[tuple[str, str]] = set()
        """Builds of persistent images that never came to their end: nothing but the record protects their steps."""

    def do(self, step: tuple[Any, ...]) -> None:
        match step:
            case ("set up", at):
                self.killed(at, lambda project, store, opening: list(settle(project, store, opening)))
            case ("build", image) if image in self.project.images:
                tag = build(self.project, self.objects, image, next(self.numbers))
                lifetime = self.project.images[image].lifetime
                if lifetime is PERSISTENT:
                    self.lasting.add((self.project.registries.persistent, image, tag))
            case ("begin", image) if image in self.project.images:
                self.begin(image)
            case ("call", image, lifetime):
                self.project = with_image(self.project, Image(image, lifetime=lifetime))
            case ("drop", image):
                self.project = without(self.project, image)
            case ("forget", image):
                self.objects.delete(f"images/{image}/image.json")
                self.begun = {one for one in self.begun if one[1] != image}
            case ("swap",):
                known = self.project.registries
                swapped = Registries(known.ephemeral, known.persistent)
                self.project = replace(self.project, registries=swapped)
                self.begun.clear()  # the record goes to the new place once the image is there
            case ("tear down", at):
                self.killed(at, torn)
        self.check()

    def begin(self, image: str) -> None:
        about = self.project.images[image]
        url = self.project.registries.of(about.lifetime)
        kept, _ = remember(self.project, about, self.objects)
        add_image(opening(url), cache_of(repository_of(self.project.name, image)), "step", [b"step"])
        if about.lifetime is PERSISTENT and kept.registry == url:
            self.begun.add((url, image))

    def killed(self, at: int, body: Any) -> None:  # noqa: ANN401 - a function
        if at == 0:
            body(self.project, self.objects, opening)
            return
        dies(at, lambda deadly: body(self.project, deadly(self.objects), lambda url: deadly(opening(url))))

    def check(self) -> None:
        for url, image, tag in self.lasting:
            repository = repository_of(self.project.name, image)
            assert verify(place(opening(url), repository, tag)) == ()
            assert opening(url).tags(cache_of(repository))

        for url, image in self.begun:
            assert "step" in opening(url).tags(cache_of(repository_of(self.project.name, image)))

    def check_rest(self) -> None:
        """After a teardown: in either registry there is nothing but what is protected."""
        for url in (self.project.registries.persistent, self.project.registries.ephemeral):
            for image in ("base", "trainer"):
                registry, repository = opening(url), repository_of(self.project.name, image)
                if not registry.tags(repository) and not registry.tags(cache_of(repository)):
                    continue
                kept = read_kept(self.objects, image)
                recorded = kept is not None and kept.protected and kept.registry == url
                assert (
                    recorded
                    or not (registry.tags(repository) or kept or image in self.project.images)
                    or any(place[:2] == (url, image) for place in self.lasting)
                    or (url == self.project.registries.persistent != self.project.registries.ephemeral)
                    or self.project.images.get(image, Image(image)).lifetime is PERSISTENT
                )


def torn(project: Project, objects: Any, opening: Any) -> None:  # noqa: ANN401 - perhaps deadly ones
    remove(plan(survey(project, objects, opening)), objects, opening=opening)


def live(steps: list[tuple[Any, ...]], *, shared: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        history = History(Path(folder), shared=shared)
        for step in steps:
            history.do(step)
        history.do(("tear down", 0))
        history.check_rest()
        left = plan(survey(history.project, history.objects, opening))
        assert (left.going, left.unseen) == ((), ())
        named = [one.image for one in survey(history.project, history.objects, opening).contents]
        remove(plan(survey(history.project, history.objects, opening), named), history.objects, opening=opening)
        for url in (history.project.registries.persistent, history.project.registries.ephemeral):
            assert opening(url).repositories() == ()


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(STEPS, max_size=10), shared=st.booleans())
def test_what_is_persistent_stays(steps: list[tuple[Any, ...]], shared: bool) -> None:
    live(steps, shared=shared)


@pytest.mark.slow
@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(STEPS, min_size=5, max_size=16), shared=st.booleans())
def test_what_is_persistent_stays_in_long_histories(steps: list[tuple[Any, ...]], shared: bool) -> None:
    live(steps, shared=shared)


def test_steps_that_nobody_knows_are_listed_and_left(tmp_path: Path) -> None:
    history = History(tmp_path, shared=False)
    for step in [("begin", "base"), ("drop", "base"), ("swap",), ("forget", "base"), ("tear down", 0)]:
        history.do(step)
    (staying,) = plan(survey(history.project, history.objects, opening)).staying
    assert staying.what == "image base (0 builds, 1 cached steps)"
    assert "neither the file, the store nor a label" in staying.why


def test_the_label_is_enough(tmp_path: Path) -> None:
    history = History(tmp_path, shared=False)
    steps = [("build", "base"), ("forget", "base"), ("swap",), ("drop", "base"), ("tear down", 0)]
    for step in steps:
        history.do(step)
    assert history.lasting
    assert opening(history.project.registries.ephemeral).resolve("demo/base", LATEST) is not None
