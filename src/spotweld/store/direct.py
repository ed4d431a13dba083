"""Large files past the page cache.

A checkpoint is written once and read at most once on this machine. Through the page cache each byte costs a
copy, and often a fresh page, which on a virtual machine can cost more than the disk does (``bench/checkpoint.py``
measures both). ``O_DIRECT`` lets the disk fetch the bytes from where they lie; open(2) has its rules: the address, the
offset and the length are multiples of the block size, here taken as ``BLOCK``.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BLOCK = 4096
"""Bytes: no disk in use has larger blocks, and no page is smaller."""
LARGE = 2**20
"""Bytes from which on a file goes past the page cache."""
_BOUNCE = 4 * 2**20
_AT_ONCE = 64
"""Buffers in one call; Linux takes 1024."""
_REFUSALS = {errno.EINVAL, errno.EOPNOTSUPP}
"""What a file system says that cannot do it: tmpfs before Linux 6.6, some network ones."""

_own = threading.local()


def write_direct(handle: int, pieces: Sequence[memoryview]) -> bool:
    """Write ``pieces`` one after another from the start of the file ``handle``, which is open for writing.

    Returns:
        False if the file system cannot do it; the file's content is undefined then.

    Raises:
        OSError: as the kernel says.
    """
    flags = fcntl.fcntl(handle, fcntl.F_GETFL)
    at = 0
    try:
        fcntl.fcntl(handle, fcntl.F_SETFL, flags | os.O_DIRECT)
        for group in _groups(pieces):
            size = sum(view.nbytes for view in group)
            if size % BLOCK:
                # Only the last group can have an end that is none of a block.
                fcntl.fcntl(handle, fcntl.F_SETFL, flags)
            _write_all(handle, group, at)
            at += size
    except OSError as error:
        if error.errno in _REFUSALS:
            fcntl.fcntl(handle, fcntl.F_SETFL, flags)
            return False
        raise
    return True


def read_direct(handle: int, start: int, into: memoryview) -> int | None:
    """Fill ``into`` from the file's bytes from ``start`` on, past the page cache.

    Returns:
        How many bytes there were; None if they had better be read the ordinary way: they are in the page cache, they
        do not begin and end with a block, or the file system cannot do it.

    Raises:
        OSError: as the kernel says.
    """
    if start % BLOCK or into.nbytes % BLOCK:
        return None
    if _is_cached(handle, start):
        return None
    flags = fcntl.fcntl(handle, fcntl.F_GETFL)
    try:
        fcntl.fcntl(handle, fcntl.F_SETFL, flags | os.O_DIRECT)
        if is_aligned(into):
            return _read_all(handle, into, start)
        buffer, filled = bounce(), 0
        while filled < into.nbytes:
            part = buffer[: into.nbytes - filled]
            count = _read_all(handle, part, start + filled)
            into[filled : filled + count] = part[:count]
            filled += count
            if count < part.nbytes:
                break
    except OSError as error:
        if error.errno in _REFUSALS:
            fcntl.fcntl(handle, fcntl.F_SETFL, flags)
            return None
        raise
    return filled


def bounce() -> memoryview:
    """This thread's own buffer, aligned, with undefined content."""
    if not hasattr(_own, "bounce"):
        _own.bounce = memoryview(mmap.mmap(-1, _BOUNCE))
    found: memoryview = _own.bounce
    return found


def is_aligned(view: memoryview) -> bool:
    """Its address and its length are multiples of ``BLOCK``."""
    if view.readonly or view.nbytes % BLOCK:
        return False
    return ctypes.addressof(ctypes.c_char.from_buffer(view)) % BLOCK == 0


def _groups(pieces: Sequence[memoryview]) -> Iterator[list[memoryview]]:
    """The same bytes in aligned groups, copied where they are not; only the last may end within a block."""
    group: list[memoryview] = []
    buffer, filled = bounce(), 0
    for piece in pieces:
        if filled == 0 and is_aligned(piece):
            group.append(piece)
            if len(group) == _AT_ONCE:
                yield group
                group = []
            continue
        if group:
            yield group
            group = []
        rest = piece
        while rest:
            part = rest[: _BOUNCE - filled]
            buffer[filled : filled + part.nbytes] = part
            filled, rest = filled + part.nbytes, rest[part.nbytes :]
            if filled == _BOUNCE:
                yield [buffer]
                filled = 0
    if group:
        yield group
    if end := filled - filled % BLOCK:
        yield [buffer[:end]]
    if filled > end:
        yield [buffer[end:filled]]


def _is_cached(handle: int, start: int) -> bool:
    """Whether the page at ``start`` is in the page cache; it stands for those after it."""
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_RANDOM)  # or the question would start the reading ahead
    try:
        return os.preadv(handle, [bounce()[:1]], start, os.RWF_NOWAIT) == 1
    except OSError as error:
        if error.errno not in {errno.EAGAIN, *_REFUSALS}:
            raise
        return False
    finally:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_SEQUENTIAL)


def _read_all(handle: int, into: memoryview, at: int) -> int:
    filled = 0
    while filled < into.nbytes:
        count = os.preadv(handle, [into[filled:]], at + filled)
        filled += count
        if count == 0 or filled % BLOCK:
            break  # the end of the file
    return filled


def _write_all(handle: int, views: list[memoryview], at: int) -> None:
    while views:
        done = os.pwritev(handle, views, at)
        at += done
        while done:
            first = min(done, views[0].nbytes)
            views = [views[0][first:], *views[1:]] if first < views[0].nbytes else views[1:]
            done -= first
