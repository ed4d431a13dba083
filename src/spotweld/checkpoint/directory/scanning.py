"""What is in a directory, without reading any file: names, kinds, and marks that change when a file does."""

from __future__ import annotations

import os
import stat

import msgspec

from spotweld.checkpoint.directory.names import stays_inside, to_text
from spotweld.errors import UnsupportedState

MOST = 250_000
"""Files, folders and links in a directory. Each takes some hundred bytes of the manifest, which is read as a whole."""


class Mark(msgspec.Struct, frozen=True):
    """What the kernel says of a file or a folder. Whoever changes it changes its mark, the coarse clock permitting."""

    device: int
    inode: int
    size: int
    """Bytes; 0 for a folder, where it means nothing."""
    mode: int
    """The permission bits."""
    mtime_ns: int
    ctime_ns: int


class Scan(msgspec.Struct, frozen=True):
    """A directory. All paths are relative to it."""

    root: Mark
    files: dict[bytes, Mark]
    folders: dict[bytes, Mark]
    links: dict[bytes, bytes]
    """Symbolic links and what they say."""
    left_out: dict[bytes, str]
    """What cannot be saved, and why."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(mark.size for mark in self.files.values())

    def twins(self) -> dict[bytes, bytes]:
        """The hard links: every further name of a file, and its first name."""
        first: dict[tuple[int, int], bytes] = {}
        named = {path: first.setdefault((mark.device, mark.inode), path) for path, mark in self.files.items()}
        return {path: name for path, name in named.items() if name != path}


def mark_of(status: os.stat_result) -> Mark:
    """The mark of what has this status."""
    folder = stat.S_ISDIR(status.st_mode)
    return Mark(
        status.st_dev,
        status.st_ino,
        0 if folder else status.st_size,
        status.st_mode & 0o777,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def scan(root: bytes) -> Scan | None:
    """What is in the directory ``root`` right now; None if there is none. What goes away meanwhile is not in it.

    Raises:
        UnsupportedState: more is in it than can be saved.
        OSError: it cannot be read.
    """
    try:
        found = Scan(mark_of(os.stat(root)), {}, {}, {}, {})
        _scan(root, b"", found)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found


def _scan(folder: bytes, inside: bytes, found: Scan) -> None:
    """Note everything in ``folder``, whose path below the root is ``inside``, with a slash at its end."""
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    if len(found.files) + len(found.folders) + len(found.links) + len(ordered) > MOST:
        raise UnsupportedState(
            f"{to_text(folder)} holds too many files",
            f"more than {MOST} files, folders and links cannot be saved together",
            "Name a narrower directory, or let the program pack them (tar).",
        )
    for entry in ordered:
        path = inside + entry.name
        try:
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                found.folders[path] = mark_of(status)
                _scan(entry.path, path + b"/", found)
            elif stat.S_ISREG(status.st_mode):
                found.files[path] = mark_of(status)
            elif stat.S_ISLNK(status.st_mode):
                target = os.readlink(entry.path)
                if stays_inside(path, target):
                    found.links[path] = target
                else:
                    found.left_out[path] = f"it is a link that leads out of the directory, to {to_text(target)}"
            else:
                found.left_out[path] = f"it is a {_special(status.st_mode)}"
        except (FileNotFoundError, NotADirectoryError):
            continue


def _special(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "named pipe"
    return "socket" if stat.S_ISSOCK(mode) else "device"
