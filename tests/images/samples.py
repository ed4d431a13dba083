"""Small images, made by hand."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

from spotweld.images.registries.copying import Place
from spotweld.images.registries.manifests import (
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Manifest,
    digest_of,
    manifest_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotweld.images.registries.registry import Registry

LAYER = "application/vnd.oci.image.layer.v1.tar"


def noise(seed: object, size: int) -> bytes:
    return random.Random(hashlib.sha256(repr(seed).encode()).digest()).randbytes(size)


def add_blob(registry: Registry, repository: str, data: bytes, kind: str = LAYER) -> dict[str, object]:
    """Put a blob, and describe it."""
    digest = digest_of(data)
    registry.write_blob(repository, digest, len(data), [data])
    return {"mediaType": kind, "digest": digest, "size": len(data)}


def add_image(
    registry: Registry, repository: str, tag: str | None, layers: Sequence[bytes], *, docker: bool = False
) -> Manifest:
    """Put an image with these layers."""
    if docker:
        kinds = (DOCKER_MANIFEST, "application/vnd.docker.container.image.v1+json")
        kinds += ("application/vnd.docker.image.rootfs.diff.tar",)
    else:
        kinds = (OCI_MANIFEST, OCI_CONFIG, LAYER)
    ids = ", ".join(f'"sha256:{hashlib.sha256(layer).hexdigest()}"' for layer in layers)
    config = f'{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[{ids}]}}}}'
    body = {
        "schemaVersion": 2,
        "mediaType": kinds[0],
        "config": add_blob(registry, repository, config.encode(), kinds[1]),
        "layers": [add_blob(registry, repository, layer, kinds[2]) for layer in layers],
    }
    manifest = manifest_of(body)
    registry.put_manifest(repository, manifest, tag)
    return manifest


def add_index(registry: Registry, repository: str, tag: str, platforms: Sequence[tuple[str, Manifest]]) -> Manifest:
    """Put an index over images that are there."""
    entries = [
        {
            "mediaType": manifest.media_type,
            "digest": manifest.digest,
            "size": len(manifest.data),
            "platform": {"os": "linux", "architecture": architecture},
        }
        for architecture, manifest in platforms
    ]
    manifest = manifest_of({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
    registry.put_manifest(repository, manifest, tag)
    return manifest


def at(registry: Registry, repository: str, name: str = "latest") -> Place:
    return Place(registry, repository, name)
