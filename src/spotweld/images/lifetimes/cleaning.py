"""Old builds go from a registry, in which others may be building, cleaning or starting runs meanwhile."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from spotweld.errors import ImageDamaged, ImageNotFound, TagMoved
from spotweld.images.builds.naming import LATEST, repository_of
from spotweld.images.builds.records import builds, forget_build
from spotweld.images.lifetimes.deciding import outdated
from spotweld.images.registries.opening import open_registry
from spotweld.images.registries.registry import UNTOUCHED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from spotweld.images.lifetimes.deciding import Use
    from spotweld.images.lifetimes.forgetting import Open
    from spotweld.images.registries.registry import Registry
    from spotweld.project.nouns import Image, Project
    from spotweld.store.objects import Objects


REMEMBERED = 64
"""Builds of an image whose records stay when the image itself is gone: they say how long instructions take."""


class Cleaned(msgspec.Struct, frozen=True):
    """What a clean-up did."""

    removed: tuple[str, ...]
    """Tags."""
    freed: int
    """Bytes on this machine; a server gives its own space back by itself."""


def clean_up(
    project: Project,
    image: Image,
    objects: Objects,
    uses: Callable[[], Sequence[Use]],
    opening: Open = open_registry,
) -> Cleaned:
    """Remove an image's builds beyond the newest ``keep``, but for ``latest``'s and those in use. Safe at any time.

    What is remembered of builds goes as well once their images are gone, but for the newest ``REMEMBERED``.

    Args:
        project: says where the image lies.
        image: which one.
        objects: the project's store, which says how old builds are.
        uses: gives what is in use; asked when it is known that something would go.
        opening: opens a registry.

    Raises:
        RegistryUnavailable, RegistryRefused: something could not be removed; the build itself is not concerned.
    """
    url = project.registries.of(image.lifetime)
    registry = opening(url)
    repository = repository_of(project.name, image.name)
    known = builds(objects, image.name)
    names = set(registry.tags(repository)) & {LATEST, *(one.tag for one in known)}
    tags = {name: digest for name in names if (digest := registry.resolve(repository, name)) is not None}
    # First of all, and again by the next call: who is killed between an image and its record leaves the record.
    for one in known[REMEMBERED:]:
        if one.tag not in tags and one.repository == repository and one.registry in {registry.url, url}:
            forget_build(objects, image.name, one.key)
    if not outdated(tags, known, image.keep, (), repository):
        return Cleaned((), 0)
    old = outdated(tags, known, image.keep, uses(), repository)
    removed = tuple(tag for tag in old if _delete(registry, repository, tag))
    return Cleaned(removed, registry.collect(UNTOUCHED) if removed else 0)


def _delete(registry: Registry, repository: str, tag: str) -> bool:
    """Remove a tag unless ``latest`` names the same image, even if it does so only just now."""
    try:
        manifest = registry.manifest(repository, tag)
    except ImageNotFound:
        return False
    except ImageDamaged:
        registry.delete(repository, tag)
        return True
    before = registry.resolve(repository, LATEST)
    if before == manifest.digest:
        return False
    registry.delete(repository, tag)
    after = registry.resolve(repository, LATEST)
    if after == before or after not in {manifest.digest, None}:
        return True
    # A build found this image to be fresh and moved `latest` to it meanwhile; a server may then have lost both.
    registry.put_manifest(repository, manifest, tag)
    if after is None:
        with suppress(TagMoved):
            registry.put_manifest(repository, manifest, LATEST, expected="absent")
    return False
