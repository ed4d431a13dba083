"""What is read off the machine: memory of a tree of processes, bytes on disk, the page cache, digests of a state."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import xxhash

from checkpoints.plain import data
from checkpoints.states import flat

if TYPE_CHECKING:
    from collections.abc import Iterator

Listing = dict[int, tuple[int, int]]
"""By inode: size, and time of change in ns. A file that is only called something else now is no new one."""


def memory() -> int:
    """Bytes that this process and all below it hold; what several share is counted once (proportional set size)."""
    total, waiting = 0, [os.getpid()]
    while waiting:
        pid = waiting.pop()
        with contextlib.suppress(OSError):  # it has ended
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting.extend(map(int, (task / "children").read_text().split()))
    return total


class Peak:
    """The most memory that was held while the block ran, looked at ten times a second."""

    def __init__(self) -> None:
        self.size = memory()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.1):
            self.size = max(self.size, memory())


def files(folder: Path) -> Iterator[Path]:
    """All files below a folder."""
    for found in folder.rglob("*"):
        if found.is_file() and not found.is_symlink():
            yield found


def listing(folder: Path) -> Listing:
    """What lies there now."""
    found = {}
    for file in files(folder):
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            status = file.stat()
            found[status.st_ino] = (status.st_size, status.st_mtime_ns)
    return found


def new_bytes(before: Listing, after: Listing) -> int:
    """Bytes of the files that are new or were written again."""
    return sum(entry[0] for inode, entry in after.items() if before.get(inode) != entry)


def sync(folder: Path) -> None:
    """Write everything below a folder to the disk."""
    for file in files(folder):
        with contextlib.suppress(FileNotFoundError), file.open("rb") as opened:
            os.fsync(opened.fileno())


def evict(folder: Path) -> None:
    """Make the next reader of these files read them from the disk."""
    sync(folder)
    for file in files(folder):
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def warm(folder: Path) -> None:
    """Read every file once, so that the next reader finds it in the page cache."""
    buffer = bytearray(16 << 20)
    for file in files(folder):
        with file.open("rb", buffering=0) as opened:
            while opened.readinto(buffer):
                pass


def back_memory(size: int) -> None:
    """Touch so many bytes of fresh memory and give them back, so that the next to take them pays for a fault only.

    The host of a virtual machine takes memory back that nobody uses. Who touches it first after that waits for the
    host, for seconds, and whether that happens depends on what the page cache and others did before. In huge pages, so
    that there is such memory for those who take it by 2 MiB as well as for those who take it by 4 KiB.
    """
    arena = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    arena.madvise(mmap.MADV_HUGEPAGE)
    start = ctypes.c_char.from_buffer(arena)
    ctypes.memset(ctypes.addressof(start), 1, size)
    del start
    arena.close()


def digest(parts: dict[str, Any]) -> str:
    """Of every tensor's name and bytes."""
    found = xxhash.xxh3_128()
    for name, value in sorted(flat(parts)[0].items()):
        found.update(name.encode())
        found.update(data(value))
    return found.hexdigest()


def touch(parts: dict[str, Any]) -> None:
    """Read one byte of each page of every tensor, so that what is only mapped so far is read as well."""
    for value in flat(parts)[0].values():
        data(value)[::4096].sum()
