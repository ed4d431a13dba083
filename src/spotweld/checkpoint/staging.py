"""Staging memory: where a state is copied to, chunk by chunk, and from where it is written.

Fresh memory is the enemy: its first touch costs a page fault, ten times as much as the copy itself and far more on a
virtual machine. So the buffers are made once, touched ahead of time in huge pages where the kernel has them, and
used again from save to save. They are aligned to blocks, so the disk can fetch from them directly.
"""

from __future__ import annotations

import ctypes
import mmap
import threading
from collections import deque
from contextlib import suppress

from spotweld.checkpoint.layout import CHUNK

_AT_ONCE = 16
"""Buffers made in one go: what a save that begins meanwhile waits for at most."""
FEWEST = 3
"""Buffers: one being filled, one being written, one waiting."""


class Staging:
    """Buffers of one chunk each. ``take`` and ``give_back`` may be called from any thread.

    Args:
        limit: bytes that may be used; None: as many as the state has.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._most = None if limit is None else max(FEWEST, limit // CHUNK)
        self._free: deque[memoryview] = deque()
        self._returned = threading.Condition()
        self._growing = threading.Lock()
        self._thread: threading.Thread | None = None
        self._growing_to = 0
        self._stopped = threading.Event()
        self.buffers = 0
        """How many there are."""

    def reserve(self, chunks: int) -> None:
        """Have enough buffers for a state of so many chunks, as far as the limit allows. Touches new ones."""
        wanted = chunks if self._most is None else min(chunks, self._most)
        while self._add(wanted):
            pass

    def grow(self, chunks: int) -> None:
        """``reserve`` them beside the training, so that no save has to. For the training thread."""
        if chunks > self.buffers and (chunks > self._growing_to or self._thread is None):
            self.close()
            self._growing_to = chunks
            self._stopped.clear()
            self._thread = threading.Thread(target=self._grow, args=(chunks,), name="spotweld staging", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Grow no more."""
        if self._thread is not None:
            self._stopped.set()
            self._thread.join()
            self._thread = None

    def _grow(self, chunks: int) -> None:
        wanted = chunks if self._most is None else min(chunks, self._most)
        while not self._stopped.is_set() and self._add(wanted):
            pass

    def _add(self, wanted: int) -> bool:
        """Make some more buffers; False if there are as many as wanted."""
        with self._growing:
            missing = min(wanted - self.buffers, _AT_ONCE)
            if missing <= 0:
                return False
            arena = mmap.mmap(-1, missing * CHUNK)
            with suppress(AttributeError, OSError):
                arena.madvise(mmap.MADV_HUGEPAGE)
            # Not madvise(MADV_POPULATE_WRITE): Python would hold its lock meanwhile, and training stand still.
            ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(arena)), 0, len(arena))
            whole = memoryview(arena)
            with self._returned:
                self._free.extend(whole[start : start + CHUNK] for start in range(0, len(arena), CHUNK))
                self.buffers += missing
                self._returned.notify_all()
        return True

    def take(self) -> memoryview:
        """A buffer of ``CHUNK`` bytes with undefined content; waits until there is one."""
        with self._returned:
            while not self._free:
                self._returned.wait()
            return self._free.popleft()

    def give_back(self, buffer: memoryview) -> None:
        """The buffer is not used any more."""
        with self._returned:
            self._free.append(buffer)
            self._returned.notify()
