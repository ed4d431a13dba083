"""What a project has in its registries, found by name, by record and by label; whoever was killed left one of these."""

from __future__ import annotations

import shlex
from collections import defaultdict
from typing import TYPE_CHECKING

from msgspec.structs import replace

from spotweld.errors import (
    ImageError,
    ImageNotFound,
    ImageRecordUnreadable,
    RegistryRefused,
    RegistryUnavailable,
    UsageError,
)
from spotweld.images.builds.naming import cache_of, repository_of
from spotweld.images.builds.records import Kept, builds, images, read_kept
from spotweld.images.lifetimes.deciding import PROJECT_LABEL, Contents, Survey, Tag, Unseen
from spotweld.images.lifetimes.forgetting import canonical, forgotten
from spotweld.images.registries.manifests import blobs, children, labels
from spotweld.images.registries.opening import open_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeAlias

    from spotweld.images.lifetimes.forgetting import Open
    from spotweld.images.registries.manifests import Manifest
    from spotweld.images.registries.registry import Registry
    from spotweld.project.nouns import Project
    from spotweld.store.objects import Objects
    from spotweld.values.digests import Digest

    Homes: TypeAlias = dict[str, dict[str, str]]


def survey(project: Project, objects: Objects, opening: Open = open_registry) -> Survey:
    """Look for everything that the project has in registries.

    Args:
        project: its file says which registries to look into, besides those that the records name.
        objects: its store.
        opening: opens a registry.

    Raises:
        Unavailable: the store does not answer. A registry that does not is among ``unseen``.
    """
    unseen: list[Unseen] = []
    found: list[Contents] = []
    registries = project.registries
    ours = {url: canonical(url, opening) for url in (registries.persistent, registries.ephemeral)}
    at_home = replace(registries, persistent=ours[registries.persistent], ephemeral=ours[registries.ephemeral])
    kept = recorded(project.name, objects, opening)
    for url, repositories in _homes(project, objects, kept, opening, tuple(ours.values())).items():
        try:
            registry = opening(url)
            found += _look(registry, project.name, repositories)
        except (ImageError, UsageError) as error:
            unseen.append(
                Unseen(url, str(error), f"{error.todo} {_way_out(url, in_file=url in ours.values())}".strip())
            )
    return Survey(replace(project, registries=at_home), tuple(found), kept, tuple(unseen), forgotten(objects))


def recorded(project: str, objects: Objects, opening: Open = open_registry) -> dict[str, Kept | None]:
    """What the store says of each of the project's images; None: it says something that cannot be read."""
    found: dict[str, Kept | None] = {}
    for name in images(objects):
        try:
            kept = read_kept(objects, name)
        except ImageRecordUnreadable:
            found[name] = None
            continue
        if kept is not None and kept.project == project:
            found[name] = replace(kept, registry=canonical(kept.registry, opening))
    return found


def _parts(registry: Registry, repository: str, manifest: Manifest) -> Iterator[tuple[Digest, int]]:
    """Everything that an image consists of, for all of its platforms: digests, with the bytes of each."""
    yield manifest.digest, len(manifest.data)
    for part in blobs(manifest):
        yield part.digest, part.size
    for part in children(manifest):
        yield part.digest, part.size
        # One platform may have been copied alone, and a cache may name blobs as if they were manifests.
        try:
            yield from _parts(registry, repository, registry.manifest(repository, part.digest))
        except ImageError as error:
            _bear(error)


def _way_out(url: str, *, in_file: bool) -> str:
    first = "name another one in the project file, then: " if in_file else ""
    return f"If it is gone for good: {first}spotweld teardown --forget {shlex.quote(url)}"


def _homes(
    project: Project, objects: Objects, kept: dict[str, Kept | None], opening: Open, urls: tuple[str, ...]
) -> Homes:
    """Where images of the project may be: by registry and repository, the image's name."""
    homes: Homes = defaultdict(dict)
    away = {one.registry for one in forgotten(objects)}
    prefix = repository_of(project.name, "")
    names = {*project.images, *kept}
    for name in images(objects):
        for build in builds(objects, name, unfinished=True):
            if build.repository.startswith(prefix):
                names.add(name)
                if (url := canonical(build.registry, opening)) not in away:
                    homes[url][build.repository] = name
    for url in urls:
        homes[url] |= {repository_of(project.name, name): name for name in names}
    for record in kept.values():
        if record is not None and not record.forgotten:
            homes[record.registry][record.repository] = record.image
    return homes


def _look(registry: Registry, project: str, repositories: dict[str, str]) -> Iterator[Contents]:
    known = dict(repositories)
    prefix = repository_of(project, "")
    for name in _catalogue(registry):
        # An image of that name has no slash, so there is at most the one of its cache.
        image = name.removeprefix(prefix).removesuffix(cache_of(""))
        if name.startswith(prefix) and "/" not in image:
            known.setdefault(prefix + image, image)
    for repository, image in sorted(known.items()):
        contents = _contents(registry, repository, image)
        named = repository in repositories or any(tag.labels.get(PROJECT_LABEL) == project for tag in contents.tags)
        if named or contents.cache:
            yield replace(contents, is_known=named)


def _contents(registry: Registry, repository: str, image: str) -> Contents:
    sizes: dict[Digest, int] = {}
    tags: list[Tag] = []
    whole = True
    cache = registry.tags(cache_of(repository))
    places = [(repository, name) for name in registry.tags(repository)] + [
        (cache_of(repository), name) for name in cache
    ]
    for where, name in places:
        manifest = _read(registry, where, name)
        if manifest is None:
            whole = False
        else:
            sizes.update(_parts(registry, where, manifest))
        if where == repository:
            tags.append(Tag(name, manifest.digest, labels(manifest)) if manifest else Tag(name, None))
    size = sum(sizes.values()) if whole else None
    return Contents(image, registry.url, repository, tuple(tags), cache, size)


def _read(registry: Registry, repository: str, name: str) -> Manifest | None:
    """The manifest under a tag; None: it is damaged or gone."""
    try:
        return registry.manifest(repository, name)
    except ImageError as error:
        _bear(error)
        return None


def _bear(error: ImageError) -> None:
    """Go on where an image is damaged or gone; not where nobody knows, lest a label is taken to be missing.

    Raises:
        RegistryUnavailable, RegistryRefused: nobody knows.
    """
    if isinstance(error, (RegistryRefused, RegistryUnavailable)):
        raise error


def _catalogue(registry: Registry) -> tuple[str, ...]:
    """All repositories, where the registry tells; many show them to nobody."""
    try:
        return registry.repositories()
    except (ImageNotFound, RegistryRefused):
        return ()
