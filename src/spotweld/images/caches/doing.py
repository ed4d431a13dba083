"""What is done to caches: parts of them go, or they are copied to other registries.

All of it may be killed and begun again: what is done stays done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from spotweld.errors import ImageDamaged
from spotweld.images.builds.naming import LATEST, cache_of
from spotweld.images.registries.copying import Phase, Place, Progress, copy
from spotweld.images.registries.manifests import blobs, children
from spotweld.images.registries.registry import UNTOUCHED
from spotweld.values.digests import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from spotweld.images.caches.deciding import Cut
    from spotweld.images.lifetimes.deciding import Contents
    from spotweld.images.registries.registry import Registry

_AT_ONCE = 50
"""Steps that a registry is told to delete in one go."""


class Gone(msgspec.Struct, frozen=True):
    """What a cut took."""

    steps: int
    builds: int
    freed: int
    """Bytes on this machine; a server gives its own space back by itself."""
    unfreed: str = ""
    """Why no space was given back, if that is so: an image is damaged, so nobody knows what it needs."""


class Replica(msgspec.Struct, frozen=True):
    """What a copy to another registry did."""

    to: str
    """Its URL."""
    tags: int
    moved: int
    """Bytes."""
    there: int
    """Bytes that needed no moving."""


def cut(registry: Registry, agreed: Cut, tell: Callable[[int, int], None] = lambda *_: None) -> Gone:
    """Remove what was agreed upon, as far as that still holds.

    Args:
        registry: where it is.
        agreed: what goes.
        tell: hears how many tags have been looked at, and of how many.

    Raises:
        RegistryUnavailable, RegistryRefused: something could not be removed.
    """
    total = len(agreed.builds) + len(agreed.steps)
    tell(0, total)
    builds = 0
    for done, tag in enumerate(agreed.builds, 1):
        # Only what ``latest`` names as well: somebody may have moved it meanwhile.
        digest = registry.resolve(agreed.repository, tag)
        if digest is not None and digest == registry.resolve(agreed.repository, LATEST):
            registry.delete(agreed.repository, tag)
            builds += 1
        tell(done, total)
    cache, steps = cache_of(agreed.repository), 0
    for start in range(0, len(agreed.steps), _AT_ONCE):
        some = agreed.steps[start : start + _AT_ONCE]
        going = [tag for tag in some if agreed.before is None or _is_older(registry, cache, tag, agreed.before)]
        registry.delete(cache, *going)
        steps += len(going)
        tell(len(agreed.builds) + start + len(some), total)
    try:
        return Gone(steps, builds, registry.collect(UNTOUCHED) if total else 0)
    except ImageDamaged as error:
        return Gone(steps, builds, 0, str(error))


def replicate(
    source: Registry, contents: Contents, target: Registry, tell: Callable[[int, int], None] = lambda *_: None
) -> Replica:
    """Copy an image with all of its builds and its cache to another registry, under the same names.

    Builds come first, ``latest`` after all others, then the cached steps. What is there is not moved again, and no tag
    that only the target has is removed.

    Args:
        source: where it is.
        contents: the image's repositories.
        target: where to.
        tell: hears how many bytes of how many are there.

    Raises:
        ImageDamaged: part of it is damaged; nothing after that was copied.
        RegistryUnavailable, RegistryRefused: one of the two does not answer, or does not allow it.
    """
    cache = cache_of(contents.repository)
    names = sorted((tag.name for tag in contents.tags), key=lambda name: name == LATEST)
    places = [(contents.repository, name) for name in names] + [(cache, name) for name in contents.cache]
    sizes: dict[Digest, int] = {}
    for repository, name in places:
        sizes.update(_sizes(source, repository, name))
    total, there = sum(sizes.values()), dict[Digest, int]()

    def hear(progress: Progress) -> None:
        if progress.digest in sizes:
            there[progress.digest] = progress.done if progress.phase is Phase.MOVING else sizes[progress.digest]
            tell(sum(there.values()), total)

    new = 0
    for repository, name in places:
        beside = cache if repository == contents.repository else contents.repository
        new += copy(Place(source, repository, name), Place(target, repository, name), hear, beside=(beside,)).moved
    return Replica(target.url, len(places), new, max(0, total - new))


def _is_older(registry: Registry, repository: str, tag: str, before: float) -> bool:
    """Whether nobody has used a step since it was found to be old."""
    digest = registry.resolve(repository, tag)
    used = registry.used(repository, digest) if digest is not None else None
    return used is None or used < before


def _sizes(registry: Registry, repository: str, name: str) -> Iterator[tuple[Digest, int]]:
    manifest = registry.manifest(repository, name)
    for part in blobs(manifest):
        yield part.digest, part.size
    for part in children(manifest):
        yield from _sizes(registry, repository, part.digest)
