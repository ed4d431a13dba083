"""Images on a machine's host: each is fetched once for all machines, and unpacked for each of them.

``buildah`` keeps the layers and lays them over each other; what the machine writes goes to its own disk. The folder of
the host::

    fetched-DRIVER/DIGEST.json
                          an image that is here whole: what buildah calls it, its variables and its user. Its time of
                          change is that of its last use
    fetched-DRIVER/DIGEST.lock
                          held alone by who fetches or forgets the image, together by all who live in it
    layers/               an image layout: blobs that came over the network, until they have not been used for a week
    storage-DRIVER/       buildah's storage, from which all machines of the host read
    storage-DRIVER.lock   held alone by who removes an image from it, together by all who fetch one
    tmp/DIGEST/           of who fetches; what a killed one left there is removed by the next one
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from spotweld.errors import ContainerRefused, ImageDamaged
from spotweld.images.builders.builder import ignore
from spotweld.images.builders.commands import Ended, follow
from spotweld.images.registries.copying import Place, copy, verify
from spotweld.images.registries.layouts import Layout
from spotweld.images.registries.manifests import (
    DOCKER_MANIFEST,
    Manifest,
    blobs,
    children,
    for_platform,
    labelled,
    platforms,
    this_platform,
)
from spotweld.images.registries.opening import open_registry
from spotweld.store.files import make_folder, scratch, write_new
from spotweld.values.digests import Digest, hex_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from spotweld.images.containers.pinning import Pinned
    from spotweld.images.registries.copying import Progress
    from spotweld.images.registries.registry import Registry

_UNUSED = 7 * 86_400.0
"""Seconds after which an image that nobody has used is forgotten on a host."""
_ANYTHING = '{"default": [{"type": "insecureAcceptAnything"}]}'
"""A policy for signatures (containers-policy.json(5)): what is unpacked has been checked against its digest."""


class Fetched(msgspec.Struct, frozen=True):
    """An image that is on this host whole."""

    id: str
    """What buildah calls it."""
    env: dict[str, str]
    user: str
    """``USER`` as the image has it; empty: it has none."""


class HostImages:
    """The images that the machines of one host have fetched, and how one of them unpacks one.

    Args:
        folder: the host's; made when it is missing.
        driver: of buildah's storage: ``overlay`` or ``vfs``.
    """

    def __init__(self, folder: Path, driver: str) -> None:
        self._folder, self._driver = folder, driver
        self._lock = -1
        self._marks = folder / f"fetched-{driver}"
        make_folder(self._marks)
        self._policy = folder / "policy.json"
        if not self._policy.exists():
            _write(self._policy, _ANYTHING.encode())

    def fetch(
        self, pinned: Pinned, environment: Mapping[str, str], tell: Callable[[Progress], None]
    ) -> tuple[Fetched, int | None]:
        """Have the image here, and hold it for the rest of this process's life.

        Returns:
            The image, and how many bytes were moved; None: it was here.
        """
        self._lock = lock = _opened(self._mark(pinned.digest, "lock"))
        moved: int | None = None
        try:
            while True:
                fcntl.flock(lock, fcntl.LOCK_SH)
                if (here := self._known(pinned.digest)) is not None:
                    break
                fcntl.flock(lock, fcntl.LOCK_EX)
                if self._known(pinned.digest) is None:
                    with self._kept():
                        here, moved = self._fetch(pinned, environment, tell)
                        _write(self._mark(pinned.digest), msgspec.json.encode(here))
        except BaseException:
            os.close(lock)
            raise
        with suppress(OSError):
            os.utime(self._mark(pinned.digest))
        self._forget_old()
        return here, moved

    def unpack(self, image: Fetched, disk: Path) -> Path:
        """A folder with the image's files; what is written there goes to ``disk``."""
        ours = self._buildah(disk / "storage", disk / "run", f"{self._driver}.imagestore={self._storage}")
        _done("unpack", follow([*ours, "from", *self._trust(), "--pull-never", "--name=job", image.id], ignore, env={}))
        mounted = follow([*ours, "mount", "job"], ignore, env={})
        _done("mount", mounted)
        return Path(mounted.last[-1])

    def forget(self, digest: Digest) -> None:
        """Let go of an image, and fetch it again next time."""
        self._mark(digest).unlink(missing_ok=True)
        os.close(self._lock)

    def _fetch(
        self, pinned: Pinned, environment: Mapping[str, str], tell: Callable[[Progress], None]
    ) -> tuple[Fetched, int]:
        registry = open_registry(pinned.registry, environment)
        manifest = _for_this_machine(registry, pinned)
        own = self._folder / "tmp" / hex_of(pinned.digest)
        shutil.rmtree(own, ignore_errors=True)
        make_folder(own)
        try:
            if isinstance(registry, Layout):
                return self._pull(manifest, registry, own, pinned), 0
            layers, name = Layout(self._folder / "layers"), hex_of(manifest.digest)
            source = Place(registry, pinned.repository, manifest.digest)
            moved = copy(source, Place(layers, "", name), tell).moved
            try:
                image = self._pull(manifest, layers, own, pinned)
            except ImageDamaged:
                # The disk has lost what it was given; what was found damaged is gone now.
                moved += copy(source, Place(layers, "", name), tell).moved
                image = self._pull(manifest, layers, own, pinned)
            layers.delete("", name)
            layers.collect(_UNUSED)
            return image, moved
        finally:
            shutil.rmtree(own, ignore_errors=True)

    def _pull(self, manifest: Manifest, layers: Layout, own: Path, pinned: Pinned) -> Fetched:
        """From a layout's blobs into buildah's storage."""
        shutil.rmtree(own / "view", ignore_errors=True)
        _view(manifest, layers, own / "view")
        # Relative, because buildah makes a name of the path, and by far not every path can be one.
        words = ["pull", "--quiet", *self._trust(), "oci:view"]
        there = ["env", f"--chdir={own}", *self._buildah(self._storage, own / "run")]
        pulled = follow([*there, *words], ignore, env={"TMPDIR": str(own)})
        if pulled.status:
            self._blame(manifest, layers, pinned)
            _done("unpack", pulled)
        config = json.loads(b"".join(layers.blob("", blobs(manifest)[0].digest)))
        said = config.get("config") or {}
        pairs = (variable.partition("=") for variable in said.get("Env") or ())
        env = {name: value for name, _, value in pairs}
        return Fetched(pulled.last[-1].removeprefix("sha256:"), env, str(said.get("User") or ""))

    def _blame(self, manifest: Manifest, layers: Layout, pinned: Pinned) -> None:
        """Find what is damaged; in a folder of our own it is removed.

        Raises:
            ImageDamaged: something is.
        """
        damages = verify(Place(layers, "", manifest.digest))
        if layers.folder.is_relative_to(self._folder):
            for damage in damages:
                _blob(layers, damage.digest).unlink(missing_ok=True)
        if damages:
            todo = f"spotweld build {pinned.name}" if not pinned.host else "fetch it again"
            raise ImageDamaged(f"the image {pinned} is damaged in {layers.url}", damages[0].why, todo)

    def _forget_old(self) -> None:
        """Remove images that no machine of this host has used for long."""
        oldest = time.time() - _UNUSED
        for mark in self._marks.glob("*.json"):
            with suppress(OSError):
                if mark.stat().st_mtime >= oldest:
                    continue
                lock = _opened(mark.with_suffix(".lock"))
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    with self._kept(fcntl.LOCK_EX | fcntl.LOCK_NB):
                        self._forget(mark)
                finally:
                    os.close(lock)

    def _forget(self, mark: Path) -> None:
        """Remove an image, unless it is here under another digest: an index and its manifest are one to buildah."""
        old = _id_of(mark.read_bytes())
        mark.unlink()
        if old and old not in {_id_of(other.read_bytes()) for other in self._marks.glob("*.json")}:
            run = self._folder / "tmp" / mark.stem
            follow([*self._buildah(self._storage, run), "rmi", "--force", old], ignore, env={})
            shutil.rmtree(run, ignore_errors=True)

    @contextmanager
    def _kept(self, how: int = fcntl.LOCK_SH) -> Iterator[None]:
        """Keep what is fetched and not noted yet from being forgotten; alone, be who forgets.

        Raises:
            BlockingIOError: somebody fetches.
        """
        lock = _opened(self._folder / f"storage-{self._driver}.lock")
        try:
            fcntl.flock(lock, how)
            yield
        finally:
            os.close(lock)

    @property
    def _storage(self) -> Path:
        return self._folder / f"storage-{self._driver}"

    def _mark(self, digest: Digest, kind: str = "json") -> Path:
        return self._marks / f"{hex_of(digest)}.{kind}"

    def _known(self, digest: Digest) -> Fetched | None:
        try:
            return msgspec.json.decode(self._mark(digest).read_bytes(), type=Fetched)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None

    def _trust(self) -> tuple[str, str]:
        return "--signature-policy", str(self._policy)

    def _buildah(self, storage: Path, run: Path, *options: str) -> list[str]:
        more = [word for option in options for word in ("--storage-opt", option)]
        return ["buildah", "--root", str(storage), "--runroot", str(run), "--storage-driver", self._driver, *more]


class _Named(msgspec.Struct):
    id: str


def _id_of(mark: bytes) -> str:
    """What buildah calls an image, also where an older Spotweld has noted less of it; empty: nobody knows."""
    try:
        return msgspec.json.decode(mark, type=_Named).id
    except msgspec.MsgspecError:
        return ""


def _for_this_machine(registry: Registry, pinned: Pinned) -> Manifest:
    manifest = registry.manifest(pinned.repository, pinned.digest)
    if not children(manifest):
        return manifest
    wanted = this_platform()
    part = for_platform(manifest, wanted)
    if part is not None:
        return registry.manifest(pinned.repository, part.digest)
    names = {str(one.platform) for one in platforms(manifest) if one.platform is not None}
    known = ", ".join(sorted(names - {"unknown/unknown"})) or "nothing that it names"
    raise ContainerRefused(f"the image {pinned} is not for this machine", f"it is for {known}, and this is {wanted}")


def _view(manifest: Manifest, layers: Layout, folder: Path) -> None:
    """An image layout that holds one image, whose blobs are links into another layout."""
    named = labelled(manifest, {}) if manifest.media_type == DOCKER_MANIFEST else manifest
    view = Layout(folder)
    for part in blobs(manifest):
        link = _blob(view, part.digest)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(_blob(layers, part.digest))
    text = _blob(view, named.digest)
    text.parent.mkdir(parents=True, exist_ok=True)
    text.write_bytes(named.data)
    entry = {"mediaType": named.media_type, "digest": named.digest, "size": len(named.data)}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def _blob(layout: Layout, digest: Digest) -> Path:
    algorithm, _, digits = digest.partition(":")
    return layout.folder / "blobs" / algorithm / digits


def _opened(lock: Path) -> int:
    return os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _done(doing: str, ended: Ended) -> None:
    if ended.status:
        raise ContainerRefused(f"buildah could not {doing} the image", ended.words.removeprefix("Error: "))


def _write(path: Path, data: bytes) -> None:
    new = scratch(path.parent)
    write_new(new, data)
    new.replace(path)
