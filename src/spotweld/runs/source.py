"""The job's files, frozen when the run is opened.

Every attempt of a run must run the same program, whatever is edited meanwhile: a resumed training is only the same
training if its code is. The files are blobs named by their digest; one manifest names them all.
"""

from __future__ import annotations

import fnmatch
import os
import stat
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import msgspec

from spotweld.errors import Corrupt, UsageError
from spotweld.project.words import quoted
from spotweld.store.blobs import get_blob, put_blob
from spotweld.values.digests import Digest, digest, hex_of
from spotweld.values.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from spotweld.store.objects import Objects

IGNORE_FILE = ".spotweldignore"
"""Patterns (``fnmatch``, one a line, ``#`` begins a comment) of names or relative paths that a run does not need."""
_IGNORED = (".git", ".spotweld", ".venv", "venv", "node_modules", "__pycache__", ".*_cache", "*.pyc", ".hypothesis")
_LARGEST = 1_000_000_000
_MOST_FILES = 20_000


class SourceFile(msgspec.Struct, frozen=True):
    """One file of the tree."""

    path: str
    """Relative, with slashes."""
    size: int
    digest: Digest
    executable: bool


class Source(msgspec.Struct, frozen=True):
    """A frozen tree. Its key in the store is the digest of this value as JSON."""

    files: tuple[SourceFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def key(self) -> str:
        """Where it is in the store."""
        return f"sources/{hex_of(digest(msgspec.json.encode(self)))}.json"


def scan(folder: Path, without: Sequence[Path] = ()) -> Source:
    """What a run of the job in ``folder`` would freeze. Reads every file; writes nothing.

    A link to a folder is followed: the run gets a copy.

    Args:
        folder: the job's.
        without: folders that are left out, wherever they are.

    Raises:
        UsageError: the folder is missing, too large, unreadable, or holds a link that leads out of it or in a circle.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}", "the job's `workdir` names it", "make it, or mend `workdir`")
    try:
        return Source(tuple(_files(folder, tuple(path.resolve() for path in without))))
    except OSError as error:
        raise UsageError(
            f"{error.filename or folder} cannot be read",
            str(error.strerror),
            f"make it readable, or name it in {folder / IGNORE_FILE}",
        ) from error


def _files(folder: Path, without: tuple[Path, ...]) -> Iterator[SourceFile]:
    total = 0
    for count, path in enumerate(_walk(folder, folder, (folder.resolve(),), _patterns(folder), without), 1):
        status = path.stat()
        total += status.st_size
        if total > _LARGEST or count > _MOST_FILES:
            raise UsageError(
                f"{folder} is too large to be frozen with a run",
                f"more than {format_size(_LARGEST)} or {_MOST_FILES} files",
                f"name what the job does not need in {folder / IGNORE_FILE}",
            )
        name = path.relative_to(folder).as_posix()
        if "\\" in name or any("\ud800" <= letter <= "\udfff" for letter in name):
            raise UsageError(
                f"{quoted(str(path))} cannot be frozen", "its name has a backslash or is not UTF-8", "rename it"
            )
        data = path.read_bytes()
        yield SourceFile(name, len(data), digest(data), bool(status.st_mode & stat.S_IXUSR))


def freeze(folder: Path, source: Source, objects: Objects, progress: Callable[[int], None] = lambda _: None) -> None:
    """Put the scanned files into the store, the manifest last.

    Args:
        folder: what was scanned.
        source: the result.
        objects: the store.
        progress: called with the bytes of each file that is done.

    Raises:
        UsageError: a file has changed since the scan, or is gone.
        StoreError: the store failed.
    """
    for file in source.files:
        try:
            data = (folder / file.path).read_bytes()
        except OSError as error:
            raise _changed(folder / file.path, str(error.strerror)) from error
        if digest(data) != file.digest:
            raise _changed(folder / file.path)
        put_blob(objects, _blob_key(file), data)
        progress(file.size)
    put_blob(objects, source.key, msgspec.json.encode(source))


def lay_out(key: str, objects: Objects, folder: Path) -> None:
    """Write the tree under ``key`` into ``folder``. Every file is verified; no path leaves the folder.

    Raises:
        Corrupt: the manifest or a file differs from its digest, or a path leads out.
        StoreError: the store failed.
    """
    data = objects.get(key)
    if key != f"sources/{hex_of(digest(data))}.json":
        raise Corrupt(f"{key} differs from its digest", "", "launch a new run: it freezes the files again")
    for file in msgspec.json.decode(data, type=Source).files:
        path = PurePosixPath(file.path)
        if path.is_absolute() or ".." in path.parts or "\\" in file.path or "\0" in file.path or not path.parts:
            raise Corrupt(f"{key} names a path that leads out of the folder", repr(file.path))
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(get_blob(objects, _blob_key(file), file.digest, file.size))
        target.chmod(0o755 if file.executable else 0o644)


def _changed(path: Path, why: str = "") -> UsageError:
    return UsageError(f"{path} changed while it was being frozen", why, "run the command again")


def _blob_key(file: SourceFile) -> str:
    return f"blobs/{hex_of(file.digest)}"


def _patterns(folder: Path) -> tuple[str, ...]:
    path = folder / IGNORE_FILE
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    return (*_IGNORED, *(line.strip().rstrip("/") for line in lines if line.strip() and not line.startswith("#")))


def _walk(
    root: Path, folder: Path, above: tuple[Path, ...], patterns: tuple[str, ...], without: tuple[Path, ...]
) -> Iterator[Path]:
    """All files below ``folder``; ``above`` are the real places of the root and of all folders down to this one."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = Path(entry.path)
        relative = path.relative_to(root).as_posix()
        real = path.resolve() if entry.is_symlink() or entry.is_dir() else path
        if real in without or any(fnmatch.fnmatchcase(name, p) for name in (entry.name, relative) for p in patterns):
            continue
        if entry.is_symlink() and not real.is_relative_to(above[0]):
            raise UsageError(
                f"{path} is a link that leads out of {root}",
                "the run's machines would not have what it points to",
                f"copy the file into the folder, or name it in {root / IGNORE_FILE}",
            )
        if entry.is_dir():
            if real in above:
                raise UsageError(f"{path} is a link to a folder that it is in", "", f"name it in {root / IGNORE_FILE}")
            yield from _walk(root, path, (*above, real), patterns, without)
        elif entry.is_file():
            yield path
