"""What machines of this host have fetched, as a whole: how large it is, whether anybody lives in it, and how it goes.

Beside the folder of ``spotweld.images.containers.fetching`` lies ``NAME.lock``: every machine with an image holds it
together with the others for as long as it lives, and who removes the folder holds it alone.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from typing import TYPE_CHECKING

import msgspec

from spotweld.images.builders.buildah import mounts_below
from spotweld.store.files import make_folder

if TYPE_CHECKING:
    from pathlib import Path


class HostCache(msgspec.Struct, frozen=True):
    """Images that are on this host."""

    folder: str
    images: int
    size: int
    """Bytes on the disk."""
    in_use: bool
    """A machine lives in one of them, or is fetching it."""


def hold(folder: Path) -> int:
    """Keep the folder from being removed while this process lives, or until the descriptor is closed."""
    make_folder(folder.parent)
    lock = _opened(folder)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
    except BaseException:
        os.close(lock)
        raise
    return lock


def look_at(folder: Path) -> HostCache | None:
    """What is there; None: nothing."""
    if not folder.is_dir():
        return None
    lock = _alone(folder)
    if lock is not None:
        os.close(lock)
    marks = sum(1 for _ in folder.glob("fetched-*/*.json"))
    return HostCache(str(folder), marks, _size(folder), lock is None)


def clear(folder: Path) -> int | None:
    """Remove the folder; the bytes that it had, or None: a machine uses it, so nothing was removed.

    Raises:
        OSError: something could not be removed. What is left counts as not fetched.
    """
    if not folder.is_dir():
        return 0
    lock = _alone(folder)
    if lock is None:
        return None
    try:
        size = _size(folder)
        # Killed in the middle, what says that an image is here whole has gone before the image has.
        for marks in folder.glob("fetched-*"):
            shutil.rmtree(marks)
        shutil.rmtree(folder)
        return size
    finally:
        os.close(lock)


def _alone(folder: Path) -> int | None:
    """The lock, held by nobody else, or None."""
    lock = _opened(folder)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    # What is mounted there, by whomever, is not in there.
    if mounts_below(folder):
        os.close(lock)
        return None
    return lock


def _opened(folder: Path) -> int:
    path = folder.with_name(f"{folder.name}.lock")
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _size(folder: Path) -> int:
    """As du(1) counts: blocks, and a file with several names once."""
    seen: dict[tuple[int, int], int] = {}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            try:
                status = os.lstat(os.path.join(place, name))  # noqa: PTH118  a storage has very many files
            except FileNotFoundError:
                continue
            seen[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(seen.values())
