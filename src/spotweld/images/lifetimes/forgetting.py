"""A registry that is gone for good: somebody says so by its name, and nothing is looked for there any more.

``registries/ID.json`` in the project's store says since when, and what was last known to be there. It goes when an
image is put on record in that registry again.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from spotweld.errors import ImageError, UsageError
from spotweld.images.builds.naming import repository_of
from spotweld.images.builds.records import Kept, builds, change_kept, images, read_kept
from spotweld.images.builds.storing import FORMAT, each_record, write_record
from spotweld.images.registries.opening import open_registry
from spotweld.values.digests import digest, hex_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from spotweld.images.registries.registry import Registry
    from spotweld.project.nouns import Project
    from spotweld.store.objects import Objects

    Open: TypeAlias = Callable[[str], Registry]

_FOLDER = "registries/"


class Lost(msgspec.Struct, frozen=True):
    """What is on record of an image in a registry; some of it may have been removed there long ago."""

    image: str
    repository: str
    protected: bool
    builds: tuple[str, ...]
    """Tags, the newest build's first."""


class Forgotten(msgspec.Struct, frozen=True):
    """A registry in which nothing is looked for."""

    project: str
    registry: str
    """Its URL."""
    when: float
    """Seconds since 1970."""
    images: tuple[Lost, ...]
    format: int = FORMAT


def canonical(url: str, opening: Open = open_registry) -> str:
    """A registry's URL as the registry itself writes it."""
    try:
        return opening(url).url
    except UsageError:
        return url


def on_record(project: Project, objects: Objects, opening: Open = open_registry) -> dict[str, tuple[Lost, ...]]:
    """What the store knows to be in which registry, by URL; without what was forgotten.

    Raises:
        ImageRecordUnreadable: a record cannot be read, so nobody knows what it protects.
    """
    found: dict[str, list[Lost]] = {}
    away = {one.registry for one in forgotten(objects)}
    prefix = repository_of(project.name, "")
    for name in images(objects):
        kept = read_kept(objects, name)
        tags: dict[tuple[str, str], list[str]] = {}
        for build in builds(objects, name, unfinished=True):
            if build.repository.startswith(prefix) and (url := canonical(build.registry, opening)) not in away:
                tags.setdefault((url, build.repository), []).append(build.tag)
        place = None
        if kept is not None and kept.project == project.name and not kept.forgotten:
            place = (canonical(kept.registry, opening), kept.repository)
            tags.setdefault(place, [])
        for (url, repository), known in tags.items():
            protected = kept is not None and kept.protected and place == (url, repository)
            found.setdefault(url, []).append(Lost(name, repository, protected, tuple(known)))
    return {url: tuple(lost) for url, lost in found.items()}


def answers(url: str, lost: tuple[Lost, ...], opening: Open = open_registry) -> bool:
    """Whether a registry can be looked into, so that there is no need to forget it."""
    try:
        registry = opening(url)
        for one in lost:
            registry.tags(one.repository)
    except (ImageError, UsageError):
        return False
    return True


def forget(project: Project, objects: Objects, url: str, now: float, opening: Open = open_registry) -> Forgotten:
    """Look for nothing in a registry any more, and take off the record what protects images there.

    It may be killed and called again. What an earlier call has put down stays.

    Args:
        project: whose registry it was.
        objects: its store.
        url: as the registry itself writes it.
        now: seconds since 1970.
        opening: opens a registry.

    Raises:
        ImageRecordUnreadable: a record cannot be read, so nobody knows what it protects.
        Unavailable: the store did not take it.
    """
    lost = {one.image: one for one in on_record(project, objects, opening).get(url, ())}
    new = Forgotten(project.name, url, now, tuple(lost.values()))
    done = write_record(objects, _key(url), lambda old: _merged(old, new), Forgotten)

    def released(known: Kept, old: Kept | None) -> Kept:
        kept = old or known
        if canonical(kept.registry, opening) != url:
            return kept
        return replace(kept, protected=False, forgotten=True)

    for name in lost:
        known = read_kept(objects, name)
        if known is not None:
            change_kept(objects, name, partial(released, known))
    return done


def forgotten(objects: Objects) -> tuple[Forgotten, ...]:
    """All registries that were forgotten; a damaged record of one counts for nothing, so it is looked into again."""
    keys = [meta.key for meta in objects.list(_FOLDER)]
    return tuple(each_record(objects, keys, Forgotten, lambda _line: None))


def recall(objects: Objects, url: str) -> None:
    """Look into a registry again; nothing happens if it was not forgotten."""
    objects.delete(_key(url))


def _merged(old: Forgotten | None, new: Forgotten) -> Forgotten:
    if old is None:
        return new
    lost = {one.image: one for one in new.images} | {one.image: one for one in old.images}
    return replace(old, images=tuple(lost[name] for name in sorted(lost)))


def _key(url: str) -> str:
    return f"{_FOLDER}{hex_of(digest(url.encode()))[:16]}.json"
