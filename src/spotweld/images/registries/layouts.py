"""An OCI image layout: a folder that is a registry, with no server.

https://github.com/opencontainers/image-spec/blob/main/image-layout.md. One layout holds all repositories, so that
they share their layers; the reference name of an image is ``REPOSITORY:TAG``, as in ``skopeo copy ...
oci:FOLDER:REPOSITORY:TAG``. A name that another tool wrote without a colon is a tag of the repository ``""``.

A blob gets its name only when its bytes are on the disk, and ``index.json`` is replaced whole, under a lock that the
kernel lets go of when its owner is killed.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spotweld.errors import ImageDamaged, ImageNotFound, RegistryRefused, RegistryUnavailable
from spotweld.images.registries.incoming import Incoming, is_orphan, told
from spotweld.images.registries.manifests import LARGEST, Manifest, blobs, checked, children, damaged, read_manifest
from spotweld.images.registries.references import is_digest
from spotweld.images.registries.registry import Registry, check_expected
from spotweld.store.files import make_folder, read_part, scratch, sweep, sync_folder, write_new
from spotweld.store.keys import RESERVED
from spotweld.values.digests import Digest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from spotweld.images.registries.registry import Expected

REF_NAME = "org.opencontainers.image.ref.name"
"""The annotation in ``index.json`` that holds an image's name."""
_MARK = b'{"imageLayoutVersion": "1.0.0"}'
_PIECE = 2**20
_PATIENCE = 60.0
"""Seconds to wait for the lock. Its owner holds it while it writes one small file."""


class Layout(Registry):
    """The images in one folder, for any number of processes at once.

    Args:
        folder: where it is; made by the first write.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(os.path.abspath(folder))  # noqa: PTH100  a link in the path is the user's choice and stays
        self.url = f"oci:{self.folder}"
        self._ready: set[Path] = set()

    def prepare(self, repositories: Collection[str]) -> bool:  # noqa: ARG002  all repositories share the folder
        mark, index = self.folder / "oci-layout", self.folder / "index.json"
        with told("read", self.folder):
            made = not (mark.exists() and index.exists())
            if not mark.exists() and self.folder.exists():
                self._refuse_strangers()
        with self._lock():
            self._check_mark(mark)
            # Written even if it is there: nothing else shows that it can be.
            self._write_index(self._index())
            with told("make", self.folder):
                self._prepare(self.folder / "blobs" / "sha256")
        return made

    def resolve(self, repository: str, name: str) -> Digest | None:
        if is_digest(name):
            return Digest(name) if self.blob_size(repository, Digest(name)) is not None else None
        return self._find(repository, name)

    def manifest(self, repository: str, name: str) -> Manifest:
        # Who reads has it, and need not find it again: looking at a cache makes nothing in it younger.
        digest = self._find(repository, name)
        if digest is None:
            known = ", ".join(self.tags(repository)[:8]) or "none"
            raise ImageNotFound(f"There is no image {repository}:{name} in {self.url}", f"its tags are: {known}")
        return self._manifest(digest)

    def put_manifest(
        self, repository: str, manifest: Manifest, tag: str | None = None, *, expected: Expected = None
    ) -> None:
        size = len(manifest.data)
        if self.blob_size(repository, manifest.digest) != size or not self._is_whole(manifest):
            self.write_blob(repository, manifest.digest, size, [manifest.data])
        with self._lock():
            self._require(manifest)
            with told("write", self.folder):
                for folder in (self.folder / "blobs").iterdir():
                    # Whoever gave a blob its name may not have come to its own fsync yet.
                    if folder.is_dir():
                        sync_folder(folder)
            if tag is not None:
                index = self._index()
                found = next((Digest(e["digest"]) for e in index["manifests"] if _named(e) == (repository, tag)), None)
                check_expected(self.url, repository, tag, expected, found)
                entry = {"mediaType": manifest.media_type, "digest": manifest.digest, "size": size}
                entry |= {"annotations": {REF_NAME: f"{repository}:{tag}" if repository else tag}}
                others = [entry for entry in index["manifests"] if _named(entry) != (repository, tag)]
                self._write_index(index | {"manifests": [*others, entry]})

    def blob_size(self, repository: str, digest: Digest) -> int | None:  # noqa: ARG002  all repositories share them
        path = self._blob(digest)
        with told("read", path):
            try:
                # Whoever asks relies on the blob: from now on it is young, and `collect` leaves it alone. Where that
                # cannot be written down, nothing can be collected either.
                with suppress(OSError):
                    os.utime(path)
                return path.stat().st_size
            except OSError as error:
                if isinstance(error, (FileNotFoundError, NotADirectoryError)):
                    return None
                raise

    def used(self, repository: str, digest: Digest) -> float | None:  # noqa: ARG002
        path = self._blob(digest)
        with told("read", path), suppress(FileNotFoundError):
            return path.stat().st_mtime
        return None

    def read_blob(self, repository: str, digest: Digest) -> Iterator[bytes]:
        path = self._blob(digest)
        with self.open_blob(repository, digest) as file:
            while True:
                with told("read", path):
                    piece = file.read(_PIECE)
                if not piece:
                    return
                yield piece

    def open_blob(self, repository: str, digest: Digest) -> FileIO:
        """The file of a blob, as it lies there.

        Raises:
            ImageNotFound: there is none.
        """
        path = self._blob(digest)
        with told("read", path):
            try:
                return FileIO(path)
            except FileNotFoundError as error:
                raise ImageNotFound(f"There is no blob {digest} in {self.url}", f"{repository} needs it") from error

    def write_blob(self, repository: str, digest: Digest, size: int, pieces: Iterable[bytes]) -> None:  # noqa: ARG002
        incoming = self.receive()
        try:
            for piece in checked(pieces, digest, "what was to be written", size):
                incoming.write(piece)
            incoming.keep(digest)
        finally:
            incoming.drop()

    def receive(self) -> Incoming:
        """Begin to take a blob whose digest nobody need know yet."""
        return Incoming(self.folder / "blobs", self._prepare)

    def mount(self, repository: str, digest: Digest, source: str) -> bool:  # noqa: ARG002
        return self.blob_size(repository, digest) is not None

    def tags(self, repository: str) -> tuple[str, ...]:
        return tuple(sorted({tag for name, tag in self._names() if name == repository}))

    def repositories(self) -> tuple[str, ...]:
        return tuple(sorted({name for name, _ in self._names()}))

    def delete(self, repository: str, *tags: str) -> None:
        gone = {(repository, tag) for tag in tags}
        if not gone & set(self._names()):
            return
        with self._lock():
            index = self._index()
            left = [entry for entry in index["manifests"] if _named(entry) not in gone]
            self._write_index(index | {"manifests": left})

    def delete_image(self, repository: str, digest: Digest) -> int:
        """Remove all tags of a repository that name ``digest``; how many they were."""
        gone = {tag for tag in self.tags(repository) if self.resolve(repository, tag) == digest}
        if not gone:
            return 0
        with self._lock():
            index = self._index()
            old = index["manifests"]
            left = [one for one in old if one["digest"] != digest or (_named(one) or ("",))[0] != repository]
            self._write_index(index | {"manifests": left})
            return len(old) - len(left)

    def collect(self, older: float) -> int:
        """See `Registry`.

        Raises:
            ImageDamaged: a manifest cannot be read, so nobody knows what it needs; nothing was removed.
        """
        if not self.folder.exists():
            return 0
        freed = 0
        with self._lock():
            needed: set[Digest] = set()
            for entry in self._index()["manifests"]:
                self._need(Digest(entry["digest"]), needed)
            oldest = time.time() - older
            with told("clean", self.folder):
                for path in (self.folder / "blobs").glob("*/*"):
                    name = Digest(f"{path.parent.name}:{path.name}")
                    # What has no digest for a name is on its way, and may have one by now.
                    if is_digest(name) and name not in needed and (status := path.stat()).st_mtime < oldest:
                        path.unlink()
                        freed += status.st_size
        return freed

    def _refuse_strangers(self) -> None:
        """See that the folder has nothing but what a killed `prepare` leaves.

        Raises:
            RegistryRefused: it is somebody else's.
        """
        ours = {"blobs", "index.json", "index.lock", "oci-layout"}
        others = sorted(
            path.name for path in self.folder.iterdir() if path.name not in ours and RESERVED not in path.name
        )
        if others:
            why = f"the folder holds {others[0]} and is no image layout"
            raise RegistryRefused(
                f"{self.url} cannot hold images", why, "Name an empty folder, or one that is not there."
            )

    def _check_mark(self, mark: Path) -> None:
        with told("read", mark):
            data = mark.read_bytes()
        try:
            version = json.loads(data)["imageLayoutVersion"]
        except (ValueError, TypeError, KeyError) as error:
            todo = f"Write {_MARK.decode()} into it, if the folder is an image layout."
            raise ImageDamaged(f"{mark} is damaged", "it does not say which image layout this is", todo) from error
        if version != "1.0.0":
            why = f"it is an image layout of version {version}"
            raise RegistryRefused(f"{self.url} cannot hold images", why, "Name another folder, or upgrade Spotweld.")

    def _find(self, repository: str, name: str) -> Digest | None:
        if is_digest(name):
            return Digest(name) if self._blob(Digest(name)).is_file() else None
        entries = self._index()["manifests"]
        return next((Digest(entry["digest"]) for entry in entries if _named(entry) == (repository, name)), None)

    def _manifest(self, digest: Digest) -> Manifest:
        path = self._blob(digest)
        with told("read", path):
            try:
                data = read_part(path, 0, LARGEST + 1)
            except FileNotFoundError as error:
                raise damaged(digest, self.url, f"{path} is gone") from error
        return read_manifest(data, str(path), digest)

    def _is_whole(self, manifest: Manifest) -> bool:
        try:
            return self._manifest(manifest.digest).data == manifest.data
        except ImageDamaged:
            return False

    def _require(self, manifest: Manifest) -> None:
        """See that all is there that a manifest names, in the size that it says."""
        for part in (*blobs(manifest), *children(manifest)):
            found = self.blob_size("", part.digest)
            if found != part.size:
                why = f"a blob that it names, {part.digest}, has {found} bytes instead of {part.size}"
                why = f"a blob that it names, {part.digest}, is not there" if found is None else why
                todo = "Copy the whole image; its tag stays as it was."
                raise ImageDamaged(f"The manifest {manifest.digest} cannot be kept in {self.url}", why, todo)

    def _need(self, digest: Digest, needed: set[Digest]) -> None:
        if digest not in needed:
            needed.add(digest)
            manifest = self._manifest(digest)
            needed.update(part.digest for part in blobs(manifest))
            for part in children(manifest):
                if self._blob(part.digest).exists():  # another tool may have copied one platform alone
                    self._need(part.digest, needed)

    def _blob(self, digest: Digest) -> Path:
        algorithm, _, digits = digest.partition(":")
        return self.folder / "blobs" / algorithm / digits

    def _names(self) -> Iterator[tuple[str, str]]:
        return (name for entry in self._index()["manifests"] if (name := _named(entry)))

    def _index(self) -> dict[str, Any]:
        path = self.folder / "index.json"
        with told("read", path):
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                return {"schemaVersion": 2, "manifests": []}
        try:
            index = json.loads(data)
            entries = [] if index["manifests"] is None else index["manifests"]
            if all(_is_entry(entry) for entry in entries) and isinstance(entries, list):
                return {**index, "manifests": entries}
        except (ValueError, TypeError, KeyError):
            pass
        todo = "The blobs are still there. Restore the file, or move the folder away and copy the images again."
        raise ImageDamaged(f"{path} is damaged", "it is no index of an image layout", todo)

    def _write_index(self, index: dict[str, Any]) -> None:
        path = self.folder / "index.json"
        self._replace(path, json.dumps(index, indent=2).encode())

    def _replace(self, path: Path, data: bytes) -> None:
        with told("write", path):
            new = scratch(path.parent)
            write_new(new, data)
            try:
                new.rename(path)
            except OSError:
                new.unlink(missing_ok=True)
                raise
            sync_folder(path.parent)

    def _prepare(self, folder: Path) -> None:
        if folder in self._ready and folder.is_dir():
            return
        make_folder(folder)
        if not (self.folder / "oci-layout").exists():
            self._replace(self.folder / "oci-layout", _MARK)
        sweep(folder, is_orphan if folder != self.folder else lambda _: False)
        self._ready.add(folder)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Be the only one that writes ``index.json``."""
        path = self.folder / "index.lock"
        with told("lock", path):
            self._prepare(self.folder)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            end = time.monotonic() + _PATIENCE
            while not _locked(handle, path):
                if time.monotonic() > end:
                    why = f"another process has held it for {_PATIENCE:.0f} s, perhaps a stopped one"
                    raise RegistryUnavailable(f"Cannot lock {path}", why, f"See which one: fuser {path}")
                time.sleep(0.01)
            yield
        finally:
            os.close(handle)


def _is_entry(entry: dict[str, Any]) -> bool:
    return is_digest(entry["digest"]) and isinstance(entry.get("annotations") or {}, dict)


def _named(entry: dict[str, Any]) -> tuple[str, str] | None:
    """Repository and tag of an entry of the index; None: it has no name."""
    name = (entry.get("annotations") or {}).get(REF_NAME)
    if not name:
        return None
    repository, _, tag = str(name).rpartition(":")
    return repository, tag


def _locked(handle: int, path: Path) -> bool:
    with told("lock", path):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
