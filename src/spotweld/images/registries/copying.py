"""From any registry to any other: layers first, the manifest last, and nothing that is there is moved again."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

import msgspec

from spotweld.errors import ImageDamaged, ImageNotFound, RegistryFull, RegistryUnavailable
from spotweld.images.registries.manifests import Descriptor, Manifest, blobs, children, damaged
from spotweld.images.registries.references import check_repository, check_tag
from spotweld.images.registries.registry import Registry
from spotweld.values.digests import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from spotweld.images.registries.registry import Expected

_T = TypeVar("_T")
_STREAMS = 3
_ATTEMPTS = 3
"""How often a blob is begun; within one try, a broken connection is taken up where it broke."""


class Phase(StrEnum):
    """How a blob or manifest came to where it should be."""

    THERE = "there"
    """It was there already."""
    MOUNTED = "mounted"
    """The registry had it in another repository."""
    MOVING = "moving"
    """Some of its bytes have been moved."""
    MOVED = "moved"
    """All of its bytes have been moved."""


class Progress(msgspec.Struct, frozen=True):
    """What has just happened to one blob or manifest."""

    phase: Phase
    digest: Digest
    done: int
    """Bytes, of ``size``."""
    size: int


class Copied(msgspec.Struct, frozen=True):
    """What a copy did."""

    digest: Digest
    """Of the image."""
    moved: int
    """Bytes of blobs that were moved."""
    there: int
    """Bytes of blobs that needed no moving."""


class Place(msgspec.Struct, frozen=True):
    """Where an image is or should be."""

    registry: Registry
    repository: str
    name: str
    """A tag or, where it is read, also a digest."""

    def __str__(self) -> str:
        return f"{self.registry.url} ({self.repository}:{self.name})"


class Damage(msgspec.Struct, frozen=True):
    """A blob or manifest that is not what it should be."""

    digest: Digest
    why: str


def copy(
    source: Place,
    target: Place,
    tell: Callable[[Progress], None] = lambda _: None,
    *,
    expected: Expected = None,
    beside: tuple[str, ...] = (),
) -> Copied:
    """Copy an image, for all of its platforms, and give it the tag ``target.name``.

    Whatever goes wrong, the tag names what it named before, and what has arrived is not moved again next time.

    Args:
        source: what to copy.
        target: where to, under which tag.
        tell: hears of every step, from one thread at a time.
        expected: what the tag must name until then (see `Registry.put_manifest`).
        beside: other repositories of the target that may have some of its blobs already.

    Raises:
        UsageError: the target cannot be an image's name.
        ImageNotFound: there is no such image.
        ImageDamaged: a part of it is gone, or differs from its digest.
        TagMoved: the tag does not name ``expected``.
        RegistryUnavailable: one of the two does not answer, or is full.
        RegistryRefused: one of the two does not allow it.
    """
    check_tag(target.name)
    if target.repository or not target.registry.url.startswith("oci:"):
        check_repository(target.repository)
    return _Copy(source, target, tell, beside).run(expected)


def verify(place: Place, tell: Callable[[Progress], None] = lambda _: None) -> tuple[Damage, ...]:
    """Read every byte of an image, for all of its platforms; what is damaged of it.

    Raises:
        ImageNotFound: there is no such image.
        RegistryUnavailable: the registry does not answer.
    """
    found: list[Damage] = []
    seen: set[Digest] = set()
    try:
        manifests = list(_tree(place, place.registry.manifest(place.repository, place.name), found))
    except ImageDamaged as error:
        top = place.registry.resolve(place.repository, place.name)
        return (Damage(top or Digest(place.name), str(error)),)
    for part in (part for manifest in manifests for part in blobs(manifest)):
        if part.digest not in seen:
            seen.add(part.digest)
            done = 0
            try:
                for piece in place.registry.blob(place.repository, part.digest, part.size):
                    done += len(piece)
                    tell(Progress(Phase.MOVING, part.digest, done, part.size))
            except (ImageDamaged, ImageNotFound) as error:
                found.append(Damage(part.digest, str(error)))
    return tuple(found)


def _tree(place: Place, manifest: Manifest, found: list[Damage]) -> Iterator[Manifest]:
    for part in children(manifest):
        try:
            yield from _tree(place, place.registry.manifest(place.repository, part.digest), found)
        except (ImageDamaged, ImageNotFound) as error:
            found.append(Damage(part.digest, str(error)))
    yield manifest


class _Copy:
    def __init__(self, source: Place, target: Place, tell: Callable[[Progress], None], beside: tuple[str, ...]) -> None:
        self._source, self._target, self._hear = source, target, tell
        self._beside = beside
        self._lock = threading.Lock()
        self._moved: dict[Digest, int] = {}
        self._there: dict[Digest, int] = {}
        self._failed = threading.Event()

    def run(self, expected: Expected) -> Copied:
        top = self._source.registry.manifest(self._source.repository, self._source.name)
        manifests = self._manifests(top)
        parts = {part.digest: part for manifest in manifests for part in blobs(manifest)}
        with ThreadPoolExecutor(_STREAMS, "image-copy") as pool:
            done = [pool.submit(self._blob, part) for part in parts.values()]
            try:
                for one in done:
                    one.result()
            except BaseException:
                self._failed.set()
                pool.shutdown(cancel_futures=True)
                raise
        for manifest in manifests[:-1]:
            self._manifest(manifest, None, None)
        self._manifest(top, self._target.name, expected)
        return Copied(top.digest, sum(self._moved.values()), sum(self._there.values()))

    def _manifests(self, top: Manifest) -> list[Manifest]:
        """All manifests of the image, each after those that it names."""
        found: dict[Digest, Manifest] = {}
        for part in children(top):
            try:
                child = self._source.registry.manifest(self._source.repository, part.digest)
            except ImageNotFound as error:
                why = f"it is of {part.platform or 'no platform'}, and the index names it"
                raise damaged(part.digest, str(self._source), f"{why}, but it is not there") from error
            found |= {manifest.digest: manifest for manifest in self._manifests(child)}
        return [*found.values(), top]

    def _manifest(self, manifest: Manifest, tag: str | None, expected: Expected) -> None:
        registry, repository, size = self._target.registry, self._target.repository, len(manifest.data)
        there = _known(lambda: registry.resolve(repository, tag or manifest.digest)) == manifest.digest
        if not there:
            registry.put_manifest(repository, manifest, tag, expected=expected)
        self._tell(Phase.THERE if there else Phase.MOVED, manifest.digest, size, size)

    def _blob(self, part: Descriptor) -> None:
        for left in reversed(range(_ATTEMPTS)):
            try:
                self._try(part)
                break
            except RegistryFull:
                raise
            except RegistryUnavailable:
                if left == 0 or self._failed.is_set():
                    raise

    def _try(self, part: Descriptor) -> None:
        target, repository = self._target.registry, self._target.repository
        whole = {part.size, -1}
        found = _known(lambda: target.blob_size(repository, part.digest))
        if found in whole:
            self._note(Phase.THERE, part)
        elif found is None and self._mount(part):
            self._note(Phase.MOUNTED, part)
        else:
            target.write_blob(repository, part.digest, part.size, self._read(part))
            # A server may keep what it has, whatever is sent: what was damaged stays so.
            if found is not None and (now := target.blob_size(repository, part.digest)) not in whole:
                raise damaged(part.digest, str(self._target), f"it has {now} bytes instead of {part.size}")
            self._note(Phase.MOVED, part)

    def _mount(self, part: Descriptor) -> bool:
        registry, repository = self._target.registry, self._target.repository
        if registry.url == self._source.registry.url and registry.mount(
            repository, part.digest, self._source.repository
        ):
            return True
        # Where a repository has it not, an upload would be begun for nothing.
        having = (one for one in self._beside if registry.blob_size(one, part.digest) is not None)
        return any(registry.mount(repository, part.digest, one) for one in having)

    def _read(self, part: Descriptor) -> Iterator[bytes]:
        done = 0
        try:
            for piece in self._source.registry.blob(self._source.repository, part.digest, part.size):
                done += len(piece)
                self._tell(Phase.MOVING, part.digest, done, part.size)
                if self._failed.is_set():
                    raise RegistryUnavailable(f"The copy of {part.digest} was given up", "another layer failed")
                yield piece
        except ImageNotFound as error:
            raise damaged(part.digest, str(self._source), "it is not there, though the manifest names it") from error

    def _note(self, phase: Phase, part: Descriptor) -> None:
        with self._lock:
            (self._moved if phase is Phase.MOVED else self._there)[part.digest] = part.size
        self._tell(phase, part.digest, part.size, part.size)

    def _tell(self, phase: Phase, digest: Digest, done: int, size: int) -> None:
        with self._lock:
            self._hear(Progress(phase, digest, done, size))


def _known(look: Callable[[], _T | None]) -> _T | None:
    """What ``look`` finds, and nothing if the server cannot tell.

    A server whose disk was full can leave empty files behind: docker-registry (2.8) fails to look at what they were to
    name, until that is sent anew.
    """
    try:
        return look()
    except RegistryUnavailable:
        return None
