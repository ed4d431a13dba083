"""What an image is made of: manifests, indexes and the blobs that they name.

A manifest is never written again from what was understood of it: its bytes are its name. Sources:
https://github.com/opencontainers/image-spec (OCI), https://distribution.github.io/distribution/spec/manifest-v2-2/
(Docker's own, which many registries still hold).
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import msgspec

from spotweld.errors import ImageDamaged, ImageError
from spotweld.images.registries.references import is_digest
from spotweld.values.digests import Data, Digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
KINDS = (OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST)
LARGEST = 4 * 2**20
"""Bytes of a manifest; registries take no larger ones."""
_BLOBS = ("image.layer.", "image.rootfs.", "buildkit.cacheconfig.")
"""What stands in the media types of an index's entries that are no manifests."""
_TO_OCI = {
    DOCKER_LIST: OCI_INDEX,
    DOCKER_MANIFEST: OCI_MANIFEST,
    "application/vnd.docker.container.image.v1+json": OCI_CONFIG,
    "application/vnd.docker.image.rootfs.diff.tar": "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
}


_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm/v7", "armv6l": "arm/v6", "i686": "386"}


class Platform(msgspec.Struct, frozen=True, rename={"os_version": "os.version"}):
    """What a manifest of an index runs on."""

    architecture: str = ""
    os: str = ""
    variant: str = ""
    os_version: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def this_platform() -> Platform:
    """This machine's, as Docker calls it."""
    machine = os.uname().machine
    architecture, _, variant = _ARCHITECTURES.get(machine, machine).partition("/")
    return Platform(architecture, "linux", variant)


class Descriptor(msgspec.Struct, frozen=True, rename={"media_type": "mediaType"}):
    """A blob or a manifest as another one names it."""

    media_type: str
    digest: Digest
    size: int
    """Bytes."""
    platform: Platform | None = None
    annotations: dict[str, str] = {}
    urls: tuple[str, ...] = ()

    @property
    def is_foreign(self) -> bool:
        """It lies elsewhere by its owner's wish (base layers of Windows), and no registry need have it."""
        return bool(self.urls) and ("nondistributable" in self.media_type or "foreign" in self.media_type)


class Manifest(msgspec.Struct, frozen=True):
    """A manifest or an index, in the very bytes that its digest is of."""

    media_type: str
    data: bytes
    digest: Digest
    """By default SHA-256; by another algorithm if it was asked for so."""


class _Body(msgspec.Struct, frozen=True, rename={"media_type": "mediaType"}):
    media_type: str = ""
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = ()
    manifests: tuple[Descriptor, ...] = ()
    annotations: dict[str, str] | None = None


def digest_of(data: Data, algorithm: str = "sha256") -> Digest:
    """The digest by which registries name these bytes."""
    return Digest(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")


def read_manifest(data: bytes, where: str, wanted: Digest | None = None, media_type: str = "") -> Manifest:
    """Take bytes for a manifest.

    Args:
        data: the bytes.
        where: they come from, for the message.
        wanted: their digest, if it is known.
        media_type: as the registry says; else as the manifest itself does.

    Raises:
        ImageDamaged: they differ from the digest, or are no manifest.
        ImageError: they are a manifest that Spotweld does not know.
    """
    found = digest_of(data, wanted.partition(":")[0] if wanted else "sha256")
    if wanted and found != wanted:
        raise damaged(wanted, where, f"its {len(data)} bytes have the digest {found}")
    try:
        body = msgspec.json.decode(data, type=_Body)
    except msgspec.DecodeError as error:
        raise damaged(found, where, f"it is no manifest: {error}") from error
    for part in _named(body):
        if not is_digest(part.digest) or part.size < 0:
            raise damaged(found, where, f"it names {part.digest[:80]!r} with {part.size} bytes")
    kind = body.media_type or media_type
    if kind not in KINDS:
        kind = OCI_INDEX if body.manifests or b'"manifests"' in data else OCI_MANIFEST if body.config else ""
    if not kind:
        why = "it has neither 'config' nor 'manifests', as Docker's images of before 2016"
        raise ImageError(f"The manifest {found} of {where} is of an unknown kind", why, "Push the image again.")
    return Manifest(kind, data, found)


def manifest_of(body: Mapping[str, Any]) -> Manifest:
    """The manifest with this content; it names its own ``mediaType``."""
    data = json.dumps(body, indent=2).encode()
    return Manifest(body["mediaType"], data, digest_of(data))


def blobs(manifest: Manifest) -> tuple[Descriptor, ...]:
    """The blobs that must be there before the manifest: config and layers, each once.

    An index names manifests only, but for that of a BuildKit cache: its layers stand where manifests should.
    """
    body = _body(manifest)
    others = (part for part in body.manifests if not _is_manifest(part))
    parts = (*([body.config] if body.config else []), *body.layers, *others)
    return tuple({part.digest: part for part in parts if not part.is_foreign}.values())


def children(manifest: Manifest) -> tuple[Descriptor, ...]:
    """The manifests that an index names, each once; none for a manifest."""
    return tuple({part.digest: part for part in platforms(manifest)}.values())


def platforms(manifest: Manifest) -> tuple[Descriptor, ...]:
    """The manifests that an index names, as often as it does: one may be of several platforms."""
    return tuple(part for part in _body(manifest).manifests if _is_manifest(part))


def for_platform(manifest: Manifest, wanted: Platform) -> Descriptor | None:
    """The manifest of an index that runs on a platform; None: it has none.

    One of the very variant comes before any other of the architecture: the first may be of a newer processor.
    """
    fitting = [
        part
        for part in platforms(manifest)
        if part.platform is not None
        and (part.platform.os, part.platform.architecture) == (wanted.os, wanted.architecture)
    ]
    same = (part for part in fitting if part.platform is not None and part.platform.variant == wanted.variant)
    return next(same, fitting[0] if fitting else None)


def labels(manifest: Manifest) -> dict[str, str]:
    """Its annotations."""
    return _body(manifest).annotations or {}


def labelled(manifest: Manifest, added: Mapping[str, str]) -> Manifest:
    """The same image with more annotations: another manifest, under another digest, with the same blobs.

    Docker's own manifests know no annotations, so those become OCI ones; layers and config stay what they are.
    """
    body = json.loads(manifest.data)
    body["mediaType"] = _TO_OCI.get(manifest.media_type, manifest.media_type)
    if manifest.media_type == DOCKER_MANIFEST:
        for part in (body["config"], *body["layers"]):
            part["mediaType"] = _TO_OCI.get(part["mediaType"], part["mediaType"])
    body["annotations"] = labels(manifest) | dict(added)
    return manifest_of(body)


def checked(pieces: Iterable[bytes], digest: Digest, where: str, size: int | None = None) -> Iterator[bytes]:
    """Pass a blob's pieces on, and hash them meanwhile.

    Raises:
        ImageDamaged: after the last piece: they are not the blob. Before it: they are more than ``size`` bytes.
    """
    hasher = hashlib.new(digest.partition(":")[0])
    count = 0
    for piece in pieces:
        hasher.update(piece)
        count += len(piece)
        if size is not None and count > size:
            raise damaged(digest, where, f"it has more than its {size} bytes")
        yield piece
    if size is not None and count < size:
        raise damaged(digest, where, f"it has {count} bytes instead of {size}")
    if (found := hasher.hexdigest()) != digest.partition(":")[2]:
        raise damaged(digest, where, f"its {count} bytes have the digest {found}")


def damaged(digest: Digest, where: str, why: str) -> ImageDamaged:
    """The error about a blob or manifest of ``where``."""
    todo = "Nothing was made of it. Remove it there and copy the image from another registry, or build it again."
    return ImageDamaged(f"{digest} in {where} is damaged", why, todo)


def _body(manifest: Manifest) -> _Body:
    return msgspec.json.decode(manifest.data, type=_Body)


def _is_manifest(part: Descriptor) -> bool:
    return not any(word in part.media_type for word in _BLOBS)


def _named(body: _Body) -> tuple[Descriptor, ...]:
    return (*([body.config] if body.config else []), *body.layers, *body.manifests)
