"""Cached steps in buildah's storage on this machine: fetched before a build needs them, or forgotten with the cache.

BuildKit has nothing of the kind: its daemon fetches what it needs, when it needs it.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from spotweld.errors import ImageDamaged, ImageNotFound
from spotweld.images.builders.storage import Storage
from spotweld.images.builds.naming import cache_of
from spotweld.images.registries.manifests import DOCKER_LIST, OCI_INDEX, blobs
from spotweld.images.registries.serving import reachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from spotweld.images.caches.deciding import Cached, Cut
    from spotweld.images.registries.registry import Registry


def warm(
    registry: Registry, repository: str, steps: Iterable[Cached], storage: Storage, tell: Callable[[int, int], None]
) -> int:
    """Fetch an image's cached steps into this machine's storage, the oldest first; how many there were.

    Args:
        registry: where they are.
        repository: of the cache.
        steps: what is cached.
        storage: where to.
        tell: hears how many steps of how many are there.

    Raises:
        CacheUnfetched: one could not be fetched.
    """
    wanted = {one.digest: one.tag for one in steps if one.digest and not _is_buildkits(registry, repository, one.tag)}
    with reachable(registry) as host:
        references = [f"{host}/{repository}:{tag}" for tag in reversed(wanted.values())]
        if references:
            storage.fetch(references, tell, [host] if registry.url.startswith("http://") else [])
    return len(references)


def forget(registry: Registry, agreed: Cut, folder: Path) -> None:
    """Have buildah forget on this machine what a bust takes from the registry; nothing for other cuts.

    This comes before the cut: who is killed after it finds the tags, and with them what to forget here.

    Args:
        registry: where the steps are.
        agreed: what goes.
        folder: buildah's on this machine; it may be missing, and so may buildah.
    """
    if agreed.before is None and folder.is_dir() and shutil.which("buildah"):
        Storage(folder).forget(ids(registry, cache_of(agreed.repository), agreed.steps))


def ids(registry: Registry, repository: str, tags: Iterable[str]) -> tuple[str, ...]:
    """What buildah calls these cached steps where it has made or fetched them: the digest of an image's config."""
    found = []
    for tag in tags:
        try:
            manifest = registry.manifest(repository, tag)
        except (ImageDamaged, ImageNotFound):
            continue
        if manifest.media_type not in {OCI_INDEX, DOCKER_LIST}:
            found += [part.digest.partition(":")[2] for part in blobs(manifest)[:1]]
    return tuple(found)


def _is_buildkits(registry: Registry, repository: str, tag: str) -> bool:
    return registry.manifest(repository, tag).media_type in {OCI_INDEX, DOCKER_LIST}
