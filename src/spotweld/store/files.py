"""Durable steps on a POSIX file system, each of which is whole or did not happen.

The order that makes a file survive a power cut is: write, fsync the file, give it its name, fsync the folder. A failed
fsync leaves the kernel's pages marked clean although they never reached the disk, so a second fsync would lie: the file
is dead and has to be written anew (https://www.usenix.org/conference/atc20/presentation/rebello).
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from spotweld.errors import StoreRefused, Unavailable
from spotweld.store.direct import LARGE, read_direct, write_direct
from spotweld.store.keys import RESERVED
from spotweld.store.pieces import size_of, views
from spotweld.values.advice import ADVICE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from spotweld.store.pieces import Pieces

_CHUNK = 1 << 30
"""Bytes per read: Linux moves at most 2 GiB - 4 kB in one call."""
_STALE = 24 * 3600.0
"""Seconds after which a scratch file belongs to nobody: the longest upload allowed."""


@contextmanager
def explained(doing: str, path: Path) -> Iterator[None]:
    """Turn what the kernel refuses inside the block into an ``Unavailable`` that names the path and the errno."""
    try:
        yield
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "no errno")
        todo = ADVICE.get(error.errno or 0, "Look at that path on the machine that says this.")
        raise Unavailable(f"Cannot {doing} {path}", f"{error.strerror} ({name})", todo) from error


def scratch(folder: Path) -> Path:
    """A fresh name in ``folder`` that no object has."""
    return folder / f"{RESERVED}{os.urandom(8).hex()}"


def write_new(path: Path, data: Pieces) -> None:
    """Write a new file and fsync it; if any of that fails, no file is left.

    Raises:
        OSError: as the kernel says.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        try:
            pieces = views(data)
            if size_of(data) < LARGE or not write_direct(handle, pieces):
                _write_buffered(handle, pieces)
            os.fsync(handle)
        finally:
            os.close(handle)
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


def write_over(handle: int, data: Pieces) -> None:
    """Give an open file another content, and fsync it. What it holds after an error is undefined.

    Raises:
        OSError: as the kernel says.
    """
    pieces = views(data)
    if not write_direct(handle, pieces):
        _write_buffered(handle, pieces)
    os.ftruncate(handle, size_of(data))
    os.fsync(handle)


def _write_buffered(handle: int, pieces: list[memoryview]) -> None:
    os.lseek(handle, 0, os.SEEK_SET)
    for piece in pieces:
        rest = piece
        while rest:
            rest = rest[os.write(handle, rest) :]


def read_part(path: Path, start: int = 0, length: int | None = None) -> bytes:
    """Those of the ``length`` bytes from ``start`` on that the file has.

    Raises:
        FileNotFoundError: there is no such regular file.
        OSError: as the kernel says.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except NotADirectoryError as error:
        raise FileNotFoundError(path) from error
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError(path)
        left = max(0, status.st_size - start)
        left = left if length is None else min(left, length)
        parts: list[bytes] = []
        while left and (part := os.pread(handle, min(left, _CHUNK), start)):
            parts.append(part)
            start += len(part)
            left -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)
    finally:
        os.close(handle)


def read_into(path: Path, start: int, into: memoryview) -> int:
    """Fill ``into`` from the file's bytes from ``start`` on; how many there were.

    Raises:
        FileNotFoundError: there is no such regular file.
        OSError: as the kernel says.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except NotADirectoryError as error:
        raise FileNotFoundError(path) from error
    try:
        if into.nbytes >= LARGE and (count := read_direct(handle, start, into)) is not None:
            return count
        filled = 0
        while filled < into.nbytes and (count := os.preadv(handle, [into[filled : filled + _CHUNK]], start + filled)):
            filled += count
        return filled
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable.

    Raises:
        OSError: as the kernel says.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make ``folder`` and its parents, each durable before anything is put into it.

    Raises:
        OSError: as the kernel says.
    """
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    # Whoever made the lowest folder that is there may not have come to its fsync; one that we may not open is old.
    with suppress(PermissionError):
        sync_folder(folder.parent)
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        sync_folder(new.parent)


def link(source: Path, target: Path) -> None:
    """Give the file ``source`` the second name ``target``, if that is free.

    Raises:
        FileExistsError: it is taken.
        StoreRefused: the file system knows no hard links.
        OSError: as the kernel says.
    """
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno in {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}:
            what = f"The file system of {target.parent} has no hard links"
            why = "without them, a file cannot be created whole and only if its name is free"
            raise StoreRefused(what, why, "Put the store on another disk (ext4, xfs, btrfs, tmpfs).") from error
        raise


def remove_folder(folder: Path) -> None:
    """Remove a folder and all in it, in one step as far as anybody who knows its name can see."""
    gone = scratch(folder.parent)
    with suppress(FileNotFoundError):
        folder.rename(gone)
        shutil.rmtree(gone)


def sweep(folder: Path, is_orphan: Callable[[Path], bool]) -> None:
    """Remove the scratch files that writers killed more than a day ago left in ``folder``, and known orphans.

    A writer that was only asleep for so long finds its file gone and fails; nothing else can happen to it.
    """
    oldest = time.time() - _STALE
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(RESERVED):
                continue
            if entry.stat(follow_symlinks=False).st_mtime > oldest and not is_orphan(Path(entry.path)):
                continue
            if entry.is_dir(follow_symlinks=False):
                remove_folder(Path(entry.path))
            else:
                Path(entry.path).unlink(missing_ok=True)
