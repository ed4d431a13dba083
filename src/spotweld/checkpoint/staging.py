"""Staging memory: where a state is copied to, chunk by chunk, and from where it is written.

Fresh memory is the enemy: its first touch costs a page fault, ten times as much as the copy itself and far more on a
virtual machine. So the buffers are made once, touched ahead of time in huge pages where the kernel has them, and
used again from save to save. They are aligned to blocks, so the disk can fetch from them directly.

What is copied from an accelerator goes to pinned memory, which is as fast as the bus. PyTorch makes it in powers of
two, and that is what is made in one go.

Without a limit there is a buffer of the right size for each chunk, and the memory is what the state takes. With a limit
all buffers are alike, and a copy waits for those that are being written. Where the machine has not as much memory left
as the state takes, what it has is the limit: a training must not be killed for what its checkpoints need.
"""

from __future__ import annotations

import ctypes
import mmap
import threading
from collections import Counter, defaultdict, deque
from contextlib import suppress
from typing import TYPE_CHECKING

from spotweld.checkpoint.devices import pinned
from spotweld.checkpoint.headroom import headroom
from spotweld.checkpoint.layout import CHUNK
from spotweld.checkpoint.voice import warn
from spotweld.values.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_AT_ONCE = 16 * CHUNK
"""Bytes made in one go: what a save that begins meanwhile waits for at most."""
FEWEST = 3
"""Buffers under a limit: one being filled, one being written, one waiting."""


class Staging:
    """Buffers of whole chunks. ``take`` and ``give_back`` may be called from any thread.

    Args:
        limit: bytes that may be used; None: as many as the state has, if there are as many.
        room: says how many bytes there are; None: nobody knows.
    """

    def __init__(self, limit: int | None = None, room: Callable[[], int | None] = headroom) -> None:
        self._room = room
        self.pinned = False
        """What is made from now on is pinned, as far as that can be had."""
        self._most = None if limit is None else max(FEWEST, limit // CHUNK)
        self._wanted: Counter[int] = Counter()
        self._made: Counter[int] = Counter()
        """How many buffers there are of each size, those that are taken too."""
        self._free: dict[int, deque[memoryview]] = defaultdict(deque)
        self._returned = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._failure: Exception | None = None

    @property
    def at_once(self) -> int | None:
        """Chunks that can be held at the same time; None: all."""
        return None if self._most is None else self._wanted[CHUNK]

    @property
    def idle(self) -> bool:
        """No buffer is taken."""
        with self._returned:
            return sum(map(len, self._free.values())) == self._made.total()

    def reserve(self, sizes: Sequence[int]) -> None:
        """Have buffers for chunks of these sizes (bytes), as far as the limit allows. Touches new ones.

        Raises:
            OSError: there is no memory.
        """
        self.close()
        self._want(sizes)
        while self._add():
            pass

    def grow(self, sizes: Sequence[int]) -> None:
        """``reserve`` them beside the training, so that no save has to. For the training thread."""
        if self._counted(sizes) == self._wanted and self._failure is None:
            return
        self.close()
        self._want(sizes)
        if self._missing():
            self._stopped.clear()
            thread = threading.Thread(target=self._grow, name="spotweld staging", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the machine gives no more: the next save fails, and is tried again
                self._failure = error
            else:
                self._thread = thread

    def close(self) -> None:
        """Grow no more."""
        if self._thread is not None:
            self._stopped.set()
            self._thread.join()
            self._thread = None

    def take(self, size: int) -> memoryview:
        """A buffer of ``size`` bytes at least, with undefined content; waits until there is one.

        Raises:
            OSError: there is no memory for it.
            RuntimeError: there is no thread to make it.
        """
        with self._returned:
            free = self._free[size if self._most is None else CHUNK]
            while not free:
                if self._failure is not None:
                    raise self._failure
                self._returned.wait()
            return free.popleft()

    def give_back(self, buffer: memoryview) -> None:
        """The buffer is not used any more."""
        with self._returned:
            self._free[buffer.nbytes].append(buffer)
            self._returned.notify_all()

    def _counted(self, sizes: Sequence[int]) -> Counter[int]:
        return Counter(sizes) if self._most is None else Counter({CHUNK: min(len(sizes), self._most)})

    def _fit(self, sizes: Sequence[int]) -> None:
        """Begin to keep to a limit if there is no room for so much."""
        needed, room = sum((Counter(sizes) - self._made).elements()), self._room()
        if room is not None and needed > max(room, FEWEST * CHUNK):
            self._most = max(FEWEST, self._made[CHUNK] + room // CHUNK)
            self._wanted = Counter()
            state, copy = format_size(sum(sizes)), format_size(self._most * CHUNK)
            warn(
                f"memory is short: the copy of a state of {state} gets {copy}, "
                "so a save holds the training up until the rest is written"
            )

    def _want(self, sizes: Sequence[int]) -> None:
        if self._most is None:
            self._fit(sizes)
        wanted = self._counted(sizes)
        with self._returned:
            # A state that comes and goes in size, as a directory does, keeps what it will need again.
            self._wanted = wanted if self._most is None else self._wanted | wanted
            self._failure = None
            for size, many in (self._made - self._wanted).items():
                for _ in range(min(many, len(self._free[size]))):
                    self._free[size].popleft()
                    self._made[size] -= 1

    def _grow(self) -> None:
        try:
            while not self._stopped.is_set() and self._add():
                pass
        except OSError as error:
            with self._returned:
                self._failure = error
                self._returned.notify_all()

    def _missing(self) -> list[int]:
        return list((self._wanted - self._made).elements())

    def _add(self) -> bool:
        """Make some more buffers; False if there are as many as wanted."""
        sizes, size = list[int](), 0
        for one in self._missing():
            if sizes and size + one > _AT_ONCE:
                break
            sizes.append(one)
            size += one
        if not sizes:
            return False
        whole = (pinned(size) if self.pinned else None) or _touched(size)
        with self._returned:
            for one in sizes:
                self._free[one].append(whole[:one])
                self._made[one] += 1
                whole = whole[one:]
            self._returned.notify_all()
        return True


def _touched(size: int) -> memoryview:
    arena = mmap.mmap(-1, size)
    with suppress(AttributeError, OSError):
        arena.madvise(mmap.MADV_HUGEPAGE)
    # Not madvise(MADV_POPULATE_WRITE): Python would hold its lock meanwhile, and training stand still.
    ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(arena)), 0, size)
    return memoryview(arena)
