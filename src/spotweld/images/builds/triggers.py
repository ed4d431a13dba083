"""What base images do on builds upon them: the ``ONBUILD`` triggers in their configurations.

https://github.com/opencontainers/image-spec/blob/main/config.md leaves ``OnBuild`` to Docker, which keeps the
instructions as text. A digest's triggers never change, so they are remembered, and asked for once on a machine.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, Any

import msgspec

from spotweld.errors import BaseUnresolved, ImageError
from spotweld.images.registries.manifests import Platform, blobs, children, for_platform

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from spotweld.images.builds.resolving import Base
    from spotweld.images.dockerfiles.dockerfile import Dockerfile
    from spotweld.images.registries.opening import Registries

_MOST = 1000
"""Digests that are remembered, the newest."""


def with_triggers(
    bases: Mapping[str, Base], platform: str, registries: Registries, memory: Path, document: Dockerfile, *, deep: bool
) -> dict[str, Base]:
    """The bases, with their triggers.

    A name with a digest needs no network to be known, and so it stays: such a base is asked for its triggers only
    before something is built upon it. Until then, and where nobody answers, it counts as one that has none; no image
    is published under such a key if it has some and its registry answers the build.

    Args:
        bases: what the names of a Dockerfile mean.
        platform: what the image is for.
        registries: where to ask.
        memory: the file that remembers.
        document: the Dockerfile, for errors.
        deep: whether to ask for those with a digest, too.

    Raises:
        BaseUnresolved: the registry of a base that is named by its tag does not say.
    """
    known = _read(memory)
    found = dict(known)
    for name, base in bases.items():
        key = f"{base.digest} {platform}"
        if key in found or ("@" in name and not deep):
            continue
        try:
            found[key] = _asked(base, platform, registries)
        except ImageError as error:
            if "@" not in name:
                what = f"nobody knows what the image {name!r} does on builds upon it"
                raise BaseUnresolved(what, str(error), error.todo, file=document.file) from error
    if found != known:
        _write(memory, found)
    return {
        name: msgspec.structs.replace(base, triggers=found.get(f"{base.digest} {platform}", ()))
        for name, base in bases.items()
    }


class _Config(msgspec.Struct):
    config: Any = None


def _asked(base: Base, platform: str, registries: Registries) -> tuple[str, ...]:
    registry = registries[base.registry]
    manifest = registry.manifest(base.repository, base.digest)
    if children(manifest):
        system, _, rest = platform.partition("/")
        machine, _, variant = rest.partition("/")
        fitting = for_platform(manifest, Platform(machine, system, variant))
        if fitting is None:
            return ()
        manifest = registry.manifest(base.repository, fitting.digest)
    part = blobs(manifest)[0]
    data = b"".join(registry.blob(base.repository, part.digest, part.size))
    try:
        said = msgspec.json.decode(data, type=_Config).config
        return msgspec.convert(said.get("OnBuild") or (), tuple[str, ...]) if isinstance(said, dict) else ()
    except msgspec.MsgspecError:
        return ()  # no image that a builder would take


def _read(memory: Path) -> dict[str, tuple[str, ...]]:
    """What the file remembers; nothing where it is missing or damaged."""
    try:
        return msgspec.json.decode(memory.read_bytes(), type=dict[str, tuple[str, ...]])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return {}


def _write(memory: Path, found: dict[str, tuple[str, ...]]) -> None:
    """Of two writers the last wins: what is lost so is asked for again."""
    scratch = memory.with_name(f"{memory.name}.{os.getpid()}.{threading.get_ident()}")
    with contextlib.suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_bytes(msgspec.json.encode(dict([*found.items()][-_MOST:])))
        scratch.replace(memory)
