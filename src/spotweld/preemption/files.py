"""A file that holds the standing notice: how the agent tells the process, and anybody who wants to tell either."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import msgspec

from spotweld.preemption.notices import Notice
from spotweld.preemption.polled import PolledSource
from spotweld.preemption.reading import read_json

if TYPE_CHECKING:
    from pathlib import Path

    from spotweld.values.clocks import Clock

_LARGEST = 64 * 1024


def write_notice(path: Path, notice: Notice) -> None:
    """Put ``notice`` into the file in one step: a reader sees the old one, or none, or the whole new one.

    Raises:
        OSError: the folder is missing, read-only or full.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_native_id()}")
    try:
        draft.write_bytes(msgspec.json.encode(notice))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def clear_notice(path: Path) -> None:
    """Take the notice back. Nothing happens if there is none."""
    path.unlink(missing_ok=True)


class FileSource(PolledSource):
    """Watches one file; its notice holds as long as it lies there.

    Args:
        path: the file; neither it nor its folder need exist.
        interval: seconds between looks. A look is one ``stat`` while nothing changes.
        clock: by which it paces itself and stamps what it hears.
    """

    name = "file"

    def __init__(self, path: Path, *, interval: float = 0.05, clock: Clock | None = None) -> None:
        super().__init__(interval, clock)
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._held: list[Notice] = []

    def look(self, timeout: float) -> list[Notice]:  # noqa: ARG002, there is no change to wait for
        """What the file says; half-written or foreign content changes nothing."""
        try:
            found = self._path.stat()
            version = (found.st_ino, found.st_mtime_ns, found.st_size)
            if version == self._seen:
                return self._held
            with self._path.open("rb") as file:
                content = file.read(_LARGEST)
        except FileNotFoundError:
            self._seen = None
            self._held = []
            return self._held
        except OSError:
            return self._held
        self._seen = version
        notice = read_json(content, Notice)
        if notice is not None:
            # Whoever wrote it may have heard it long ago; here it is heard now.
            self._held = [msgspec.structs.replace(notice, received=self.clock.now())]
        return self._held
