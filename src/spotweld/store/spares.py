"""Files that are not needed any more, written over by the next ones.

A disk takes bytes about twice as fast where it has given out its blocks already (``bench/checkpoint.py``), and a run
that keeps its newest checkpoints deletes as much as it writes. So a large file that is deleted loses its name at once,
but not its blocks, until the next large file takes them over.

A spare is held open under a lock (flock(2)), which its process gives up whatever way it ends. So whoever comes next can
tell the spares of the living from those of the dead, and no disk stays full after a kill.
"""

from __future__ import annotations

import fcntl
import os
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

from spotweld.store.files import scratch, write_over
from spotweld.store.keys import RESERVED

if TYPE_CHECKING:
    from pathlib import Path

    from spotweld.store.pieces import Pieces

LARGE = 8 * 2**20
"""Bytes: smaller files are not worth it."""
_MOST = 256
"""Spares, for each is an open file."""
_MARK = f"{RESERVED}spare-"


class Spares:
    """The spares of one store. From any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: list[tuple[Path, int]] = []
        self._written, self._deleting = 0, False
        # When the store is let go, or the interpreter ends.
        weakref.finalize(self, _drop, self._files)

    def keep(self, path: Path) -> bool:
        """Take the file ``path`` away and keep it as a spare; False if it is not fit for one, and is still there.

        Raises:
            OSError: as the kernel says.
        """
        with self._lock:
            self._deleting = True
            # No more than were written since the last time: what a state once needed it may never need again.
            if len(self._files) >= min(_MOST, self._written):
                return False
            try:
                handle = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError:
                return False
            try:
                status = os.fstat(handle)
                # With a second name it is somebody's copy.
                if status.st_size < LARGE or status.st_nlink != 1:
                    os.close(handle)
                    return False
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                new = path.with_name(_MARK + scratch(path.parent).name.removeprefix(RESERVED))
                path.rename(new)
            except OSError:
                os.close(handle)
                return False
            self._files.append((new, handle))
            return True

    def write(self, path: Path, data: Pieces) -> bool:
        """Write a large file under the new name ``path``, over a spare; False if there is none.

        Raises:
            OSError: as the kernel says; nothing is left then.
        """
        with self._lock:
            if self._deleting:
                self._written, self._deleting = 0, False
            self._written += 1
            if not self._files:
                return False
            spare, handle = self._files.pop()
        try:
            spare.rename(path)
            write_over(handle, data)
        except FileNotFoundError:
            return False  # somebody else has cleaned up
        except BaseException:
            with suppress(OSError):
                path.unlink()
            raise
        finally:
            os.close(handle)
        return True

    def drop(self) -> bool:
        """Give the spares' blocks back, because the disk is full; False if there were none.

        What is deleted before anything is written again is given back, too.
        """
        with self._lock:
            found = bool(self._files)
            self._written = 0
            _drop(self._files)
        return found


def is_orphan(path: Path) -> bool:
    """It is a spare whose process has ended."""
    if not path.name.startswith(_MARK):
        return False
    try:
        handle = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _drop(files: list[tuple[Path, int]]) -> None:
    while files:
        path, handle = files.pop()
        with suppress(OSError):
            path.unlink()
        os.close(handle)
