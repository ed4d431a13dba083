"""Setting up: registries that are there and can be written to, and protection that is on record before anything is.

Each step may be done any number of times, by any number of processes, and left off anywhere.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from spotweld.errors import ImageDamaged, ImageError, UsageError
from spotweld.images.builds.naming import LATEST, cache_of, repository_of
from spotweld.images.builds.records import Kept, change_kept, read_kept
from spotweld.images.lifetimes.deciding import remembered
from spotweld.images.lifetimes.forgetting import recall
from spotweld.images.lifetimes.surveying import recorded
from spotweld.images.registries.manifests import blobs, children
from spotweld.images.registries.opening import open_registry
from spotweld.project.nouns import Lifetime

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spotweld.errors import SpotweldError
    from spotweld.images.lifetimes.forgetting import Open
    from spotweld.images.registries.registry import Registry
    from spotweld.project.nouns import Image, Project
    from spotweld.store.objects import Objects


class Step(msgspec.Struct, frozen=True):
    """One thing that a set-up made or found."""

    of: str
    """``store``, ``registry`` or ``image``."""
    name: str
    ok: bool
    changed: bool
    what: str
    todo: str = ""
    """What to do about it; empty if it is as it should be."""


def settle(project: Project, objects: Objects, opening: Open = open_registry) -> Iterator[Step]:
    """Make what is missing for the project's images, and look at what is there; a step is told when it is done.

    Args:
        project: its images and registries.
        objects: its store.
        opening: opens a registry.

    Raises:
        Unavailable: the store does not answer.
    """
    # What is on record is protected even if the next step is never reached.
    records = [_record(project, image, objects, opening) for image in project.images.values()]
    refused: dict[str, str] = {}
    for lifetime in Lifetime:
        url = project.registries.of(lifetime)
        if url in refused:
            what = f"it is the same registry as the {refused[url]} one"
            yield Step("registry", str(lifetime), ok=False, changed=False, what=what)
            continue
        step = _registry(project, lifetime, opening)
        if not step.ok:
            refused[url] = step.name
        yield step
    for record, image in zip(records, project.images.values(), strict=True):
        yield record
        # What is wrong with a registry has been said once, and is not said again of each of its images.
        if record.ok and project.registries.of(image.lifetime) not in refused:
            yield from _health(project, image, opening)
    for name, kept in recorded(project.name, objects, opening).items():
        if kept is not None and kept.protected and name not in project.images:
            what = f"not in the project file any more; still protected in {kept.registry} ({kept.repository})"
            yield Step("image", name, ok=True, changed=False, what=what)


def remember(project: Project, image: Image, objects: Objects, opening: Open = open_registry) -> tuple[Kept, bool]:
    """Put an image on record, for those that find it when it is not in the file any more; whether that is new.

    A protected image stays so wherever it lies, until it lies in the file's persistent registry as well.

    Raises:
        ImageRecordUnreadable: the record cannot be read.
        UsageError: the record is another project's.
    """
    url = project.registries.of(image.lifetime)
    registry = opening(url)
    repository = repository_of(project.name, image.name)
    protected = image.lifetime is Lifetime.PERSISTENT
    new = Kept(project.name, image.name, registry.url, repository, image.lifetime, protected)
    before: list[Kept | None] = []

    def change(old: Kept | None) -> Kept:
        before.append(old)
        if old is not None and old.project != project.name:
            why = f"its record there is of the project {old.project}"
            todo = "Give each project a store of its own, such as another prefix in the same bucket."
            raise UsageError(f"The image {image.name} cannot be recorded in {objects.url}", why, todo)
        return remembered(old, new, move=old is not None and _is_moved(old, registry, opening))

    known = read_kept(objects, image.name)
    if known is not None and replace(known, registry=opening(known.registry).url) == new:
        return new, False
    now = change_kept(objects, image.name, change)
    if now == new:
        recall(objects, registry.url)
    return now, now != before[-1]


def _is_moved(old: Kept, registry: Registry, opening: Open) -> bool:
    """Whether a protected image's record may name another place: it lies there too, or no longer where it was."""
    try:
        former = opening(old.registry)
        if former.url == registry.url or registry.resolve(old.repository, LATEST) is not None:
            return True
        return not former.tags(old.repository) and not former.tags(cache_of(old.repository))
    except (ImageError, UsageError):
        return False


def _record(project: Project, image: Image, objects: Objects, opening: Open) -> Step:
    try:
        kept, changed = remember(project, image, objects, opening)
    except (ImageError, UsageError) as error:
        return _failed("image", image.name, error)
    where = f"{kept.registry} ({kept.repository})"
    wanted = opening(project.registries.of(image.lifetime)).url
    if kept.protected and image.lifetime is not Lifetime.PERSISTENT:
        what = f"the file says ephemeral; protected in {where} all the same, since it was persistent"
        return Step("image", image.name, ok=True, changed=changed, what=what)
    if kept.registry != wanted:
        what = f"protected in {where}, and not yet in {wanted}, which the file names now"
        todo = f"copy it: spotweld cache replicate {image.name} --to {shlex.quote(wanted)}"
        return Step("image", image.name, ok=True, changed=changed, what=what, todo=todo)
    what = f"protected in {where}" if kept.protected else f"ephemeral, in {where}"
    return Step("image", image.name, ok=True, changed=changed, what=what)


def _registry(project: Project, lifetime: Lifetime, opening: Open) -> Step:
    url = project.registries.of(lifetime)
    name = str(lifetime)
    mine = [repository_of(project.name, one.name) for one in project.images.values() if one.lifetime is lifetime]
    try:
        registry = opening(url)
        made = registry.prepare([*mine, *(cache_of(repository) for repository in mine)])
    except (ImageError, UsageError) as error:
        return _failed("registry", name, error)
    state = "made" if made else "there, can be written to" if mine or url.startswith("oci:") else "there"
    return Step("registry", name, ok=True, changed=made, what=f"{registry.url} is {state}")


def _health(project: Project, image: Image, opening: Open) -> Iterator[Step]:
    """Whether all of the image's newest build is there; nothing is told of one that is not built."""
    again = f"build it again: spotweld build {image.name}"
    try:
        registry = opening(project.registries.of(image.lifetime))
        repository = repository_of(project.name, image.name)
        if registry.resolve(repository, LATEST) is None:
            return
        lost = list(_lost(registry, repository, LATEST))
    except ImageDamaged as error:
        yield _failed("image", image.name, error, again)
        return
    except (ImageError, UsageError) as error:
        yield _failed("image", image.name, error)
        return
    if lost:
        what = f"{len(lost)} of its blobs are gone from {registry.url}, such as {lost[0]}"
        yield Step("image", image.name, ok=False, changed=False, what=what, todo=again)


def _lost(registry: Registry, repository: str, name: str) -> Iterator[str]:
    """What the image names and its registry does not have, but for platforms that nobody copied."""
    manifest = registry.manifest(repository, name)
    for part in blobs(manifest):
        if registry.blob_size(repository, part.digest) not in {part.size, -1}:
            yield part.digest
    for part in children(manifest):
        if registry.resolve(repository, part.digest) is not None:
            yield from _lost(registry, repository, part.digest)


def _failed(of: str, name: str, error: SpotweldError, todo: str = "") -> Step:
    return Step(of, name, ok=False, changed=False, what=str(error), todo=todo or error.todo or f"explain: {error.code}")
