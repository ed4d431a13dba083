"""A directory copied as it was at one instant, while a program may be at work in it.

Every file is copied, and then everything is looked at again. If nothing differs from the look before the copying, then
nothing changed between the two looks, so the copies are the directory as it was at the instant when the first look was
over. If something differs, only that is copied again. Who never stops writing is not waited for forever.

The copies go into a scratch file without a name, which a crash leaves nothing of. File systems that can share blocks
between files (xfs, btrfs) copy nothing.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from bisect import bisect_right
from typing import TYPE_CHECKING, Self

import msgspec

from spotweld.checkpoint.directory.names import to_text
from spotweld.checkpoint.directory.scanning import Mark, Scan, mark_of, scan
from spotweld.errors import Unsettled

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from spotweld.values.clocks import Clock

SETTLE = 0.02
"""Seconds between a look at the files and their copying. The kernel stamps files with a clock that ticks every 1 to
10 ms, and two changes within a tick leave the same mark: what was written before the end of this pause is in the copy,
and what is written after it changes the mark."""
ROUNDS = 20
"""Times that what has changed is copied anew before somebody is said to write without pause."""
_BLOCK = 1 << 20
_RESERVE = 16 << 20
"""Bytes of the disk that are left to the program, which may be writing to it just now."""
_NOT_HERE = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF}
"""How kernels and file systems say that they cannot copy between these two files by themselves."""


class Piece(msgspec.Struct, frozen=True):
    """A stretch of a file that holds data; between pieces are zeros."""

    start: int
    """Bytes from the start of the file."""
    size: int
    at: int
    """Bytes from the start of the scratch file."""


class Copies:
    """The copies of one directory's files; also a context manager.

    Args:
        root: the directory.
        scratch: a folder with room for as much again.
        stored: files that need no copy as long as they have this mark.
    """

    def __init__(self, root: bytes, scratch: Path, stored: Mapping[bytes, Mark] | None = None) -> None:
        self._root, self._stored = root, stored or {}
        self._file = tempfile.TemporaryFile(dir=scratch, buffering=0)  # noqa: SIM115  closed by `close`
        self._copied: dict[bytes, tuple[Mark, tuple[Piece, ...]]] = {}
        self._end = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the room back."""
        self._file.close()

    def copy(self, seen: Scan) -> None:
        """Copy what has another mark than its copy. What changes meanwhile, or goes away, is left without one.

        Raises:
            OSError: a file cannot be read, or there is no room.
        """
        for path in self._copied.keys() - seen.files.keys():
            del self._copied[path]
        twins = seen.twins()
        for path, mark in seen.files.items():
            if self._needs_none(path, mark) or (path in self._copied and self._copied[path][0] == mark):
                continue
            self._copied.pop(path, None)
            if path not in twins:
                pieces = self._copy(path, mark)
                if pieces is not None:
                    self._copied[path] = mark, pieces
        self._copied |= {path: self._copied[first] for path, first in twins.items() if first in self._copied}

    def settle(self, clock: Clock, before: Scan | None = None, rounds: int = ROUNDS) -> Scan:
        """Copy until the copies are the directory as it was at one instant; that directory.

        Args:
            clock: time.
            before: a look at the directory that was taken just now.
            rounds: times that what has changed is copied anew.

        Raises:
            Unsettled: the directory changes all the time, or is gone.
            OSError: a file cannot be read, or there is no room.
        """
        changing: list[bytes] = []
        began = self._end
        for _ in range(rounds):
            before = before or self._look()
            clock.sleep(SETTLE)
            self.copy(before)
            after = self._look()
            if after == before and self._has_all(after):
                return after
            if self._end - began > 2 * after.size + _RESERVE:
                break  # what was copied in vain takes room that the program may need
            changing = sorted(path for path, mark in after.files.items() if before.files.get(path) != mark)
            before = after
        which = f"{to_text(changing[0])} among others" if changing else "files come and go"
        raise Unsettled(f"{to_text(self._root)} changes all the time", f"seen at the last look: {which}")

    def read(self, path: bytes, start: int, into: memoryview) -> None:
        """Fill ``into`` with the bytes of a file's copy from ``start`` on."""
        end = start + into.nbytes
        filled = start
        pieces = self._copied[path][1]
        first = max(0, bisect_right(pieces, start, key=lambda piece: piece.start) - 1)
        for at in range(first, len(pieces)):
            piece = pieces[at]
            if piece.start >= end:
                break
            low, high = max(start, piece.start), min(end, piece.start + piece.size)
            if low < high:
                into[filled - start : low - start] = bytes(low - filled)
                self._read(piece.at + low - piece.start, into[low - start : high - start])
                filled = high
        into[filled - start :] = bytes(end - filled)

    def _has_all(self, seen: Scan) -> bool:
        twins = seen.twins()
        return all(
            path in self._copied or path in twins or self._needs_none(path, mark) for path, mark in seen.files.items()
        )

    def _needs_none(self, path: bytes, mark: Mark) -> bool:
        return self._stored.get(path) == mark

    def _look(self) -> Scan:
        found = scan(self._root)
        if found is None:
            raise Unsettled(f"{to_text(self._root)} is gone", "it was removed while it was copied")
        return found

    def _read(self, at: int, into: memoryview) -> None:
        while into:
            count = os.preadv(self._file.fileno(), [into], at)
            if not count:
                raise OSError(errno.EIO, "a scratch file is shorter than what was written to it")
            at += count
            into = into[count:]

    def _copy(self, path: bytes, mark: Mark) -> tuple[Piece, ...] | None:
        """The pieces of the file's copy; None if it is not, or not any more, what the mark says."""
        try:
            # Should it have become a named pipe, to open it must not wait for whoever writes into it.
            source = os.open(self._root + b"/" + path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO}:
                return None
            raise
        try:
            pieces, end = [], self._end
            fine = _is_still(source, mark)
            for start, size in _stretches(source, mark.size) if fine else ():
                fine = fine and self._append(source, start, size, end)
                pieces.append(Piece(start, size, end))
                end += size
            if not fine or not _is_still(source, mark):
                return None  # the next copy takes its place in the scratch file
            self._end = end
            return tuple(pieces)
        finally:
            os.close(source)

    def _append(self, source: int, start: int, size: int, at: int) -> bool:
        """Copy a stretch to ``at`` in the scratch file; whether the source has all of it."""
        target, end, quick = self._file.fileno(), start + size, size > _BLOCK
        disk = os.fstatvfs(target)
        if disk.f_bavail * disk.f_frsize < size + _RESERVE:
            raise OSError(errno.ENOSPC, f"no room for a copy of {to_text(self._root)} beside it")
        while start < end:
            if quick:
                try:
                    count = os.copy_file_range(source, target, end - start, start, at)
                except OSError as error:
                    if error.errno not in _NOT_HERE:
                        raise
                    quick = False
                    continue
            else:
                data = memoryview(os.pread(source, min(_BLOCK, end - start), start))
                count = data.nbytes
                written = 0
                while written < count:
                    written += os.pwrite(target, data[written:], at + written)
            if not count:
                return False
            start += count
            at += count
        return True


def _is_still(file: int, mark: Mark) -> bool:
    status = os.fstat(file)
    return stat.S_ISREG(status.st_mode) and mark_of(status) == mark


def _stretches(file: int, size: int) -> list[tuple[int, int]]:
    """Where data is in a file, as (start, size); the rest is holes."""
    found: list[tuple[int, int]] = []
    at = 0
    while at < size:
        try:
            start = os.lseek(file, at, os.SEEK_DATA)
            end = min(size, os.lseek(file, start, os.SEEK_HOLE))
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole is left
                break
            return [(0, size)]  # a file system that does not know
        if start >= end:
            break
        found.append((start, end - start))
        at = end
    return found
