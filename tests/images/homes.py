"""A project whose images somebody has built, without a builder; and deaths at each call to a registry or the store."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace
from tests.images.samples import add_image

from spotweld.images.builds.naming import LATEST, cache_of, repository_of, tag_of
from spotweld.images.builds.records import Build, write_build
from spotweld.images.lifetimes.deciding import LIFETIME_LABEL, PROJECT_LABEL
from spotweld.images.lifetimes.settling import remember
from spotweld.images.registries.manifests import labelled
from spotweld.images.registries.opening import open_registry
from spotweld.project.nouns import Image, Lifetime, LocalProvider, Project, Registries
from spotweld.values.digests import Digest, digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from spotweld.images.registries.manifests import Manifest
    from spotweld.images.registries.registry import Registry
    from spotweld.store.objects import Objects

EPHEMERAL, PERSISTENT = Lifetime.EPHEMERAL, Lifetime.PERSISTENT


def project_of(folder: Path, registries: Registries, name: str = "demo") -> Project:
    """``base`` is persistent, ``trainer`` ephemeral."""
    images = {"base": Image("base", lifetime=PERSISTENT, keep=2), "trainer": Image("trainer", keep=2)}
    store = f"file:{folder}/store"
    return Project(folder / "spotweld.yaml", name, store, LocalProvider(), {}, images=images, registries=registries)


def with_image(project: Project, image: Image) -> Project:
    return replace(project, images=project.images | {image.name: image})


def without(project: Project, name: str) -> Project:
    return replace(project, images={other: image for other, image in project.images.items() if other != name})


def key_of(text: object) -> Digest:
    return digest(repr(text).encode())


def build(
    project: Project,
    objects: Objects,
    image: str,
    text: object,
    started: float = 0.0,
    environ: Mapping[str, str] | None = None,
) -> str:
    """Leave what a build leaves: records, cached steps, the image under its key and ``latest``; the key's tag."""
    about = project.images[image]
    registry = open_registry(project.registries.of(about.lifetime), environ or {})
    repository, key = repository_of(project.name, image), key_of(text)
    remember(project, about, objects)
    layers = [f"{project.name} {image}".encode(), f"{project.name} {image} {text}".encode()]
    add_image(registry, cache_of(repository), tag_of(key_of((text, "step"))), layers[:1])
    published = put(registry, project.name, about, layers, (tag_of(key), LATEST))
    record = Build(
        image, key, published.digest, registry.url, repository, "linux/amd64", "fake", "", False, started, 1.0, "0", ()
    )
    write_build(objects, record)
    return tag_of(key)


def put(registry: Registry, project: str, image: Image, layers: list[bytes], tags: tuple[str, ...]) -> Manifest:
    """Put an image with its labels under these tags."""
    repository = repository_of(project, image.name)
    marks = {PROJECT_LABEL: project, LIFETIME_LABEL: str(image.lifetime)}
    published = labelled(add_image(registry, repository, None, layers), marks)
    for tag in tags:
        registry.put_manifest(repository, published, tag)
    return published


def standing(project: Project, registries: Registries | None = None) -> dict[str, tuple[str, ...]]:
    """All tags of the project, by registry and repository."""
    known = registries or project.registries
    found = {}
    for url in {known.persistent, known.ephemeral}:
        registry = open_registry(url, {})
        for image in ("base", "trainer"):
            repository = repository_of(project.name, image)
            for name in (repository, cache_of(repository)):
                if tags := registry.tags(name):
                    found[f"{url.partition(':')[0]} {name}"] = tags
    return found


def age(folder: Path) -> None:
    """Have nobody touched the blobs of a layout for two hours."""
    for path in (folder / "blobs").rglob("*"):
        os.utime(path, (time.time() - 7200,) * 2)


class Dying:
    """Anything, in a process that dies at the ``at``-th point: before and after each call there is one."""

    def __init__(self, inner: object, points: list[int], at: int) -> None:
        self._inner, self._points, self._at = inner, points, at

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever it is there
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def called(*args: object, **more: object) -> object:
            self._pass()
            result = found(*args, **more)
            self._pass()
            return result

        return called

    def _pass(self) -> None:
        self._points[0] += 1
        if self._points[0] == self._at:
            os._exit(9)


def dies(at: int, body: Callable[[Callable[[Any], Any]], object]) -> bool:
    """Run ``body`` in a process that dies at a point; it gets a function that makes things deadly. Whether it died."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            points = [0]
            body(lambda inner: Dying(inner, points, at))
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in {0, 9}, f"point {at}: the process failed"
    return code == 9


def at_once(bodies: list[Callable[[], object]]) -> None:
    """Run each in a process of its own, all from the same moment on."""
    reader, writer = os.pipe()
    children = []
    for body in bodies:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.close(writer)
                os.read(reader, 1)  # until everybody is there and the pipe is closed
                body()
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    os.close(reader)
    os.close(writer)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert codes == [0] * len(bodies)
