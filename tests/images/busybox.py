"""An image with a shell, made by hand in no time: busybox and links to it."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import tarfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tests.images.samples import add_blob

from spotweld.images.registries.manifests import DOCKER_MANIFEST, OCI_CONFIG, OCI_MANIFEST, Manifest, manifest_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spotweld.images.registries.registry import Registry

_TOOLS = ("sh", "cat", "cp", "date", "echo", "env", "expr", "id", "kill", "ls", "mkdir", "mv", "printf", "rm", "seq")
_TOOLS += ("setsid", "sleep", "stat", "test", "touch", "true", "wget", "readlink", "mount", "nohup")


def layer(files: Mapping[str, bytes | str]) -> bytes:
    """A tar of small files; text that begins with ``->`` makes a link."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            if isinstance(content, str) and content.startswith("->"):
                entry.type, entry.linkname = tarfile.SYMTYPE, content[2:]
                tar.addfile(entry)
            else:
                data = content.encode() if isinstance(content, str) else content
                entry.size, entry.mode = len(data), 0o755
                tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


@cache
def shell() -> bytes:
    """The layer with busybox in it."""
    busybox = Path(shutil.which("busybox") or "/bin/busybox").read_bytes()
    return layer({"bin/busybox": busybox} | {f"bin/{tool}": "->busybox" for tool in _TOOLS})


def add_busybox(
    registry: Registry,
    repository: str,
    tag: str,
    files: Mapping[str, bytes | str] | None = None,
    *,
    env: tuple[str, ...] = ("PATH=/bin", "IN_IMAGE=yes"),
    docker: bool = False,
    more: Mapping[str, object] | None = None,
) -> Manifest:
    """Put an image of busybox with ``files`` over it, and ``more`` said of how it runs."""
    layers = [shell(), layer(files or {"marker": tag})]
    kinds = (OCI_MANIFEST, OCI_CONFIG, "application/vnd.oci.image.layer.v1.tar+gzip")
    if docker:
        kinds = (DOCKER_MANIFEST, "application/vnd.docker.container.image.v1+json")
        kinds += ("application/vnd.docker.image.rootfs.diff.tar.gzip",)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": list(env), **(more or {})},
        "history": [{"created_by": "by hand"} for _ in layers],  # buildah builds upon no image without
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(one).hexdigest()}" for one in layers]},
    }
    packed = [gzip.compress(one, 1, mtime=0) for one in layers]
    body = {
        "schemaVersion": 2,
        "mediaType": kinds[0],
        "config": add_blob(registry, repository, json.dumps(config).encode(), kinds[1]),
        "layers": [add_blob(registry, repository, one, kinds[2]) for one in packed],
    }
    manifest = manifest_of(body)
    registry.put_manifest(repository, manifest, tag)
    return manifest
