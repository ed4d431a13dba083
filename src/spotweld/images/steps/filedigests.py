"""Digests of files, remembered: a file is read again only when its inode says that it may have changed."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Self

import msgspec
from blake3 import blake3

from spotweld.values.digests import Digest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_PIECE = 1 << 20
_SETTLED_NS = 2_000_000_000
"""A file changed more recently than this may change once more without its times showing it: some file systems count
in two seconds."""


class _Seen(msgspec.Struct, frozen=True, array_like=True):
    size: int
    modified: int
    changed: int
    inode: int
    digest: str


class FileDigests:
    """Digests by path, size, times and inode, kept in one small file between uses.

    The time of the inode's last change is compared too, since programs can set the time of modification as they like.
    The file is a mere memory: a damaged or missing one costs reading the files again, and of two writers the last wins.

    Args:
        memory: where to keep it; None keeps nothing.
        clock: the time in nanoseconds since 1970, as file systems count it.
    """

    def __init__(self, memory: Path | None = None, *, clock: Callable[[], int] = time.time_ns) -> None:
        self._memory = memory
        self._clock = clock
        self._known: dict[str, _Seen] = {}
        self._used: dict[str, _Seen] = {}
        self.read = 0
        if memory is not None:
            with contextlib.suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
                self._known = msgspec.json.decode(memory.read_bytes(), type=dict[str, _Seen])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.save()

    def of(self, path: str, name: str, before: os.stat_result) -> Digest:
        """The digest of the file at ``path``, remembered under ``name``.

        Args:
            path: where it is.
            name: what it is called in the memory.
            before: what its inode says.

        Raises:
            OSError: it cannot be read.
        """
        known = self._known.get(name)
        if known is not None and _same(known, before):
            self._used[name] = known
            return Digest(known.digest)
        self.read += 1
        hasher = blake3()
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - a context may have many thousand files
            while piece := file.read(_PIECE):
                hasher.update(piece)
            after = os.fstat(file.fileno())
        found = _Seen(after.st_size, after.st_mtime_ns, after.st_ctime_ns, after.st_ino, "blake3:" + hasher.hexdigest())
        if _same(found, before) and max(found.modified, found.changed) < self._clock() - _SETTLED_NS:
            self._used[name] = found
        else:
            self._known.pop(name, None)
        return Digest(found.digest)

    def save(self) -> None:
        """Write what was learnt. A memory that cannot be written is no error: the next use reads the files again."""
        if self._memory is None or self._used.items() <= self._known.items():
            return
        # What this use did not touch may belong to another Dockerfile with the same context, but not for ever.
        others = self._known if len(self._known) <= 1000 + 2 * len(self._used) else {}
        scratch = self._memory.with_name(f"{self._memory.name}.{os.getpid()}")
        with contextlib.suppress(OSError):
            self._memory.parent.mkdir(parents=True, exist_ok=True)
            scratch.write_bytes(msgspec.json.encode({**others, **self._used}))
            scratch.replace(self._memory)


def _same(seen: _Seen, now: os.stat_result) -> bool:
    return (seen.size, seen.modified, seen.changed, seen.inode) == (
        now.st_size,
        now.st_mtime_ns,
        now.st_ctime_ns,
        now.st_ino,
    )
