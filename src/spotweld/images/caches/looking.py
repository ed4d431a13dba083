"""Looking into the cache of an image: what its steps are, and whether any byte of it is damaged."""

from __future__ import annotations

import datetime as dt
import shlex
from typing import TYPE_CHECKING

import msgspec

from spotweld.errors import ImageDamaged, ImageNotFound
from spotweld.images.builds.naming import cache_of
from spotweld.images.caches.deciding import Cached, instruction
from spotweld.images.registries.manifests import DOCKER_LIST, OCI_INDEX, blobs, children
from spotweld.values.digests import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from spotweld.images.builds.records import Build
    from spotweld.images.lifetimes.deciding import Contents
    from spotweld.images.registries.manifests import Descriptor, Manifest
    from spotweld.images.registries.registry import Registry

_CREATED = "buildkit/createdat"
"""The annotation in which BuildKit says when a layer of its cache was made."""


class Fault(msgspec.Struct, frozen=True):
    """A blob or a manifest that is not what it should be."""

    registry: str
    """Its URL."""
    digest: Digest
    why: str
    images: tuple[str, ...]
    """Those that need it."""
    todo: str


class Verified(msgspec.Struct, frozen=True):
    """What a look at every byte found."""

    read: int
    """Bytes."""
    faults: tuple[Fault, ...]


class _Event(msgspec.Struct, frozen=True):
    created_by: str = ""
    empty_layer: bool = False


class _Config(msgspec.Struct, frozen=True):
    history: tuple[_Event, ...] = ()


def cached_steps(registry: Registry, contents: Contents, records: Iterable[Build]) -> tuple[Cached, ...]:
    """The cached steps of an image, by their last use, the newest first.

    Args:
        registry: where they are.
        contents: the image's repositories.
        records: of the image's builds, unfinished ones too.

    Raises:
        RegistryUnavailable, RegistryRefused: nobody knows.
    """
    known = _recorded(records)
    texts: dict[Digest, str] = {}
    users: dict[Digest, dict[str, None]] = {}
    for digest in dict.fromkeys(tag.digest for tag in contents.tags if tag.digest is not None):
        for layer, text in _made_of(registry, contents.repository, digest):
            texts.setdefault(layer.digest, text)
            names = {tag.name: None for tag in contents.tags if tag.digest == digest}
            users.setdefault(layer.digest, {}).update(names)
    found = []
    for name in contents.cache:
        try:
            found.append(_cached(registry, contents, name, known, texts, users))
        except (ImageDamaged, ImageNotFound):
            found.append(Cached(name, None))
    found = _told_by_others(found)
    return tuple(sorted(found, key=lambda one: (-(one.used or 0), one.tag)))


def verify(
    registry: Registry, contents: Sequence[Contents], tell: Callable[[int, int], None] = lambda *_: None
) -> Verified:
    """Read every byte of images and their caches, each blob once.

    Args:
        registry: where they are.
        contents: the images' repositories, all in this registry.
        tell: hears how many bytes have been read, and of how many.

    Raises:
        RegistryUnavailable, RegistryRefused: nobody knows.
    """
    damage: dict[Digest, str] = {}
    users: dict[Digest, dict[str, None]] = {}
    needed: dict[Digest, tuple[str, int]] = {}
    for one in contents:
        places = [(one.repository, tag.name, tag.digest) for tag in one.tags]
        places += [(cache_of(one.repository), name, None) for name in one.cache]
        for repository, name, digest in places:
            for found in _tree(registry, repository, name, digest):
                users.setdefault(found[0], {})[one.image] = None
                if isinstance(found[1], str):
                    damage[found[0]] = found[1]
                else:
                    needed[found[0]] = (repository, found[1])
    total, done = sum(size for _, size in needed.values()), 0
    tell(0, total)
    for digest, (repository, size) in needed.items():
        try:
            for piece in registry.blob(repository, digest, size):
                done += len(piece)
                tell(min(done, total), total)
        except (ImageDamaged, ImageNotFound) as error:
            damage[digest] = str(error)
    images = {digest: tuple(users[digest]) for digest in damage}
    return Verified(
        done,
        tuple(
            Fault(registry.url, digest, why, images[digest], _todo(registry.url, digest, images[digest]))
            for digest, why in damage.items()
        ),
    )


def _tree(registry: Registry, repository: str, name: str, digest: Digest | None) -> Iterator[tuple[Digest, int | str]]:
    """The blobs below a tag with their sizes; a manifest that cannot be read with the reason instead."""
    try:
        manifest = registry.manifest(repository, name)
    except (ImageDamaged, ImageNotFound) as error:
        digest = digest or registry.resolve(repository, name)
        if digest is not None:
            yield digest, str(error)
        return
    for part in blobs(manifest):
        yield part.digest, part.size
    for part in children(manifest):
        yield from _tree(registry, repository, part.digest, part.digest)


def _todo(url: str, digest: Digest, images: Sequence[str]) -> str:
    names = " ".join(images)
    scheme, _, folder = url.partition(":")
    path = f"{folder}/blobs/{digest.replace(':', '/')}"
    first = f"remove it: rm {shlex.quote(path)}" if scheme == "oci" else "have it removed from the server's disk"
    again = "; ".join(f"spotweld cache bust {name}" for name in images)
    return f"{first}; then make it again: {again}; spotweld build {names}"


def _recorded(records: Iterable[Build]) -> dict[str, tuple[str, float]]:
    """The steps that builds had, by their tags: the instruction, and when it was last built with."""
    found: dict[str, tuple[str, float]] = {}
    for build in records:
        last = max([build.started, *(one.started for one in build.attempts)])
        for done in build.steps:
            if done.tag:
                when = max(last, found[done.tag][1]) if done.tag in found else last
                found[done.tag] = (done.preimage.text(), when)
    return found


def _told_by_others(steps: Iterable[Cached]) -> list[Cached]:
    """The steps, where one that has several tags is as young as the tag that is known to be the youngest."""
    steps = list(steps)
    used: dict[Digest, float] = {}
    for one in steps:
        if one.digest is not None and one.used is not None:
            used[one.digest] = max(one.used, used.get(one.digest, one.used))
    return [msgspec.structs.replace(one, used=used.get(one.digest)) if one.digest else one for one in steps]


def _cached(
    registry: Registry,
    contents: Contents,
    name: str,
    known: Mapping[str, tuple[str, float]],
    texts: Mapping[Digest, str],
    users: Mapping[Digest, Mapping[str, None]],
) -> Cached:
    repository = cache_of(contents.repository)
    manifest = registry.manifest(repository, name)
    layers = [part for part in blobs(manifest) if "layer" in part.media_type or "rootfs" in part.media_type]
    if manifest.media_type == OCI_INDEX:
        layers.sort(key=lambda part: part.annotations.get(_CREATED, ""))
    top = layers[-1] if layers else None
    text, built = known.get(name, ("", None))
    text = text or _last_event(registry, repository, manifest) or (texts.get(top.digest, "") if top else "")
    moments = [built, _created(top), registry.used(repository, manifest.digest)]
    used = max((moment for moment in moments if moment is not None), default=None)
    needed = tuple(users.get(top.digest, {})) if top else ()
    return Cached(name, manifest.digest, text, top.size if top else 0, used, needed)


def _created(layer: Descriptor | None) -> float | None:
    text = layer.annotations.get(_CREATED, "") if layer else ""
    try:
        # Nanoseconds are more digits than this Python reads.
        return dt.datetime.fromisoformat(f"{text[:19]}+00:00").timestamp()
    except ValueError:
        return None


def _made_of(registry: Registry, repository: str, digest: Digest) -> tuple[tuple[Descriptor, str], ...]:
    """The layers of an image, the lowest first, with the instructions that made them; of its first platform."""
    try:
        manifest = registry.manifest(repository, digest)
        for part in children(manifest)[:1]:
            return _made_of(registry, repository, part.digest)
        events = [one for one in _history(registry, repository, manifest) if not one.empty_layer]
    except (ImageDamaged, ImageNotFound):
        return ()
    layers = blobs(manifest)[1:]
    if len(events) != len(layers):
        return tuple((layer, "") for layer in layers)
    return tuple((layer, instruction(event.created_by)) for layer, event in zip(layers, events, strict=True))


def _last_event(registry: Registry, repository: str, manifest: Manifest) -> str:
    try:
        events = _history(registry, repository, manifest)
    except (ImageDamaged, ImageNotFound):
        return ""
    return instruction(events[-1].created_by) if events else ""


def _history(registry: Registry, repository: str, manifest: Manifest) -> tuple[_Event, ...]:
    if manifest.media_type in {OCI_INDEX, DOCKER_LIST}:
        return ()
    config = blobs(manifest)[0]
    data = b"".join(registry.blob(repository, config.digest, config.size))
    try:
        return msgspec.json.decode(data, type=_Config).history
    except msgspec.DecodeError:
        return ()
