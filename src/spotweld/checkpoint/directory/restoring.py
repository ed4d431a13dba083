"""A directory put back as it was saved, in one step as far as the program can see.

It is written into a folder beside the directory while every byte is verified, and takes the directory's place by two
renames. A kill leaves the old directory or, between the two, none; the next start puts the old one back, and with it
the bytes that need not be fetched again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
from typing import TYPE_CHECKING

from spotweld.checkpoint.directory.engine import fetch, holds
from spotweld.checkpoint.directory.names import to_text
from spotweld.checkpoint.directory.scanning import scan
from spotweld.errors import CheckpointError, UnsupportedState
from spotweld.values.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spotweld.checkpoint.directory.listing import Listing
    from spotweld.checkpoint.format import Manifest
    from spotweld.store.objects import Objects

NEW, OLD = b".spotweld-new", b".spotweld-old"
"""Ends of the names of the folders beside the directory."""
_HOLE = 64 * 1024
"""Zeros of this length are not written: the file system gives them back as a hole."""
_ZEROS = bytes(_HOLE)


def repair(root: bytes) -> None:
    """Clear up what a restoration that was killed has left beside the directory ``root``."""
    if not os.path.lexists(root) and os.path.isdir(_beside(root, OLD)):
        os.rename(_beside(root, OLD), root)
    remove(_beside(root, NEW))
    remove(_beside(root, OLD))


def restore(objects: Objects, manifest: Manifest, listing: Listing, root: bytes) -> bool:
    """Make ``root`` what the listing says. It is not touched before all is verified.

    What this machine still has of the directory is used, as far as it is verified as well.

    Returns:
        False: it was so already.

    Raises:
        Corrupt: the store's bytes are not what was saved.
        NotFound: they are missing.
        Unavailable: the store did not answer.
        CheckpointError: this machine cannot hold the directory.
    """
    own = _Own(root, listing)
    if own.looks_right and holds(manifest, own.read):
        return False
    new = _beside(root, NEW)
    with _explained(root, listing):
        try:
            os.makedirs(os.path.dirname(root), exist_ok=True)
            remove(new)
            for path in (b"", *listing.folders):
                os.mkdir(os.path.join(new, path), 0o700)
            _write(objects, manifest, listing, new, own)
            _finish(listing, new)
            _swap(new, root)
        except BaseException:
            with contextlib.suppress(OSError):
                remove(new)
            raise
    return True


def remove(folder: bytes) -> None:
    """Remove a folder and all in it, whatever permissions a program has given to what is in it."""
    if not os.path.isdir(folder) or os.path.islink(folder):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(folder)
        return
    os.chmod(folder, 0o700)
    for inside, _, _ in os.walk(folder):  # top down: a folder is made readable before it is looked into
        for entry in os.scandir(inside):
            if entry.is_dir(follow_symlinks=False):
                os.chmod(entry.path, 0o700)
    shutil.rmtree(folder)


class _Own:
    """What this machine still has of the directory."""

    def __init__(self, root: bytes, listing: Listing) -> None:
        try:
            seen = scan(root)
        except (OSError, UnsupportedState):
            seen = None  # what cannot be looked at can be replaced all the same
        self._root = root
        self._paths = {one.content: path for path, one in listing.files.items()}
        self._sizes = {path: mark.size for path, mark in seen.files.items()} if seen else {}
        self.looks_right = seen is not None and (
            (seen.root.mode, seen.links, seen.twins(), seen.left_out)
            == (listing.mode, listing.symlinks, listing.hard_links, {})
            and {path: mark.mode for path, mark in seen.folders.items()} == listing.folders
            and {path: (mark.mode, mark.mtime_ns, mark.size) for path, mark in seen.files.items()}
            == _attributes(listing)
        )

    def read(self, leaf: int, start: int, into: memoryview) -> bool:
        """Fill ``into`` with what the file of that leaf has from ``start`` on; False if it has not so much."""
        path = self._paths[leaf]
        if self._sizes.get(path, 0) < start + into.nbytes:
            return False
        try:
            file = os.open(os.path.join(self._root, path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                while into and (count := os.preadv(file, [into], start)):
                    into, start = into[count:], start + count
            finally:
                os.close(file)
        except OSError:
            return False
        return not into


def _attributes(listing: Listing) -> dict[bytes, tuple[int, int, int]]:
    own = {path: (one.mode, one.mtime_ns, one.size) for path, one in listing.files.items()}
    return own | {path: own[first] for path, first in listing.hard_links.items()}


def _write(objects: Objects, manifest: Manifest, listing: Listing, new: bytes, own: _Own) -> None:
    """Write every file into the folder ``new``."""
    paths = {one.content: os.path.join(new, path) for path, one in listing.files.items()}
    begun: set[int] = set()
    lock = threading.Lock()

    def take(leaf: int, start: int, data: memoryview) -> None:
        with lock:
            # A name that the file system takes for another one's is found out here.
            fresh = 0 if leaf in begun else os.O_CREAT | os.O_EXCL
            begun.add(leaf)
            file = os.open(paths[leaf], os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | fresh, 0o600)
        try:
            _write_at(file, start, data)
        finally:
            os.close(file)

    fetch(objects, manifest, own.read, take)
    for leaf in paths.keys() - begun:  # without any bytes
        take(leaf, 0, memoryview(b""))


def _write_at(file: int, start: int, data: memoryview) -> None:
    """Write the data, but for long stretches of zeros."""
    at = 0
    while at < data.nbytes:
        end = at
        while end < data.nbytes and not _is_hole(data[end : end + _HOLE]):
            end += _HOLE
        end = min(end, data.nbytes)
        while at < end:
            at += os.pwrite(file, data[at:end], start + at)
        at = max(at, end) + (_HOLE if end < data.nbytes else 0)


def _is_hole(block: memoryview) -> bool:
    return block.nbytes == _HOLE and block[0] == block[-1] == 0 and block.tobytes() == _ZEROS


def _finish(listing: Listing, new: bytes) -> None:
    """Give everything its size, times and permissions, and add the links."""
    for path, one in listing.files.items():
        file = os.path.join(new, path)
        os.truncate(file, one.size)
        os.chmod(file, one.mode)
        os.utime(file, ns=(one.mtime_ns, one.mtime_ns))
    for path, first in listing.hard_links.items():
        os.link(os.path.join(new, first), os.path.join(new, path), follow_symlinks=False)
    # Last, so that nothing was ever written through one of them.
    for path, target in listing.symlinks.items():
        os.symlink(target, os.path.join(new, path))
    for path, mode in reversed(listing.folders.items()):
        os.chmod(os.path.join(new, path), mode)
    os.chmod(new, listing.mode)


def _swap(new: bytes, root: bytes) -> None:
    old = _beside(root, OLD)
    remove(old)
    if not os.path.lexists(root):
        os.rename(new, root)
        return
    os.rename(root, old)
    try:
        os.rename(new, root)
    except OSError:
        os.rename(old, root)
        raise
    remove(old)


def _beside(root: bytes, end: bytes) -> bytes:
    folder, name = os.path.split(root)
    return os.path.join(folder, b"." + name + end)


@contextlib.contextmanager
def _explained(root: bytes, listing: Listing) -> Iterator[None]:
    """Turn what the kernel refuses into an error that says what to do."""
    try:
        yield
    except OSError as error:
        name = to_text(root)
        what = f"{name} cannot be restored on this machine"
        match error.errno:
            case errno.ENOSPC | errno.EDQUOT:
                size = format_size(sum(one.size for one in listing.files.values()))
                raise CheckpointError(what, f"its {size} do not fit on the disk", "Rent one with more room.") from error
            case errno.EEXIST:
                why = f"the file system takes two names for one: {to_text(os.fsencode(error.filename or name))}"
                raise CheckpointError(
                    what, why, "Use a file system that distinguishes upper and lower case."
                ) from error
            case errno.EBUSY | errno.EXDEV:
                why = "it is a mount point, which no folder can take the place of"
                raise CheckpointError(what, why, "Name a folder inside of it.") from error
            case _:
                raise CheckpointError(what, str(error), "Look at that path on the machine that says this.") from error
