"""A blob on its way into an image layout: a file without a name of its own until its bytes are on the disk."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from spotweld.errors import RegistryFull, RegistryRefused, RegistryUnavailable, Unavailable
from spotweld.store.files import explained, scratch, sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from spotweld.values.digests import Data, Digest

_KINDS = {
    errno.ENOSPC: RegistryFull,
    errno.EDQUOT: RegistryFull,
    errno.EACCES: RegistryRefused,
    errno.EPERM: RegistryRefused,
    errno.EROFS: RegistryRefused,
}


class Incoming:
    """The bytes that have arrived. Whoever has one ends it with `keep` or `drop`; a killed process leaves an orphan.

    Args:
        blobs: the folder with a folder for each algorithm.
        prepare: makes such a folder.
    """

    def __init__(self, blobs: Path, prepare: Callable[[Path], None]) -> None:
        self._blobs, self._prepare = blobs, prepare
        folder = blobs / "sha256"
        with told("write", folder):
            prepare(folder)
            self._path, self._handle = _own(folder)

    def write(self, piece: Data) -> None:
        """Add some bytes."""
        with told("write", self._path):
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(self._handle, rest) :]

    def digest(self, algorithm: str) -> str:
        """The digest of what has arrived, read once more."""
        with told("read", self._path), self._path.open("rb") as file:
            return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"

    def keep(self, digest: Digest) -> None:
        """Let it be the blob ``digest``, which the caller has checked. Durable when it returns."""
        algorithm, _, digits = digest.partition(":")
        path = self._blobs / algorithm / digits
        with told("write", path):
            self._prepare(path.parent)
            os.fsync(self._handle)
            self._path.rename(path)
            sync_folder(path.parent)
        self._close()

    def drop(self) -> None:
        """Forget it, unless it was kept."""
        if self._handle >= 0:
            with suppress(OSError):
                self._path.unlink()
            self._close()

    def _close(self) -> None:
        os.close(self._handle)
        self._handle = -1


def is_orphan(path: Path) -> bool:
    """Whether the writer of a scratch file has been killed."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(handle)
        return True
    return False


@contextmanager
def told(doing: str, path: Path) -> Iterator[None]:
    """Turn what the kernel refuses inside the block into an error of a registry.

    Raises:
        RegistryFull: the disk is full.
        RegistryRefused: writing is not allowed there.
        RegistryUnavailable: anything else.
    """
    try:
        with explained(doing, path):
            yield
    except Unavailable as error:
        cause = error.__cause__
        kind = _KINDS.get((isinstance(cause, OSError) and cause.errno) or 0, RegistryUnavailable)
        raise kind(error.what, error.why, error.todo) from error


def _own(folder: Path) -> tuple[Path, int]:
    """A new scratch file in ``folder``, open and locked, so that everybody sees whether its writer lives."""
    while True:
        path = scratch(folder)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return path, handle
        os.close(handle)  # somebody took it for an orphan before it was locked
