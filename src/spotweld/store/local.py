"""Objects as files: ``file:`` stores, on POSIX primitives alone."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from spotweld.errors import Conflict, NotFound, UsageError
from spotweld.store import versions
from spotweld.store.files import (
    explained,
    link,
    make_folder,
    read_into,
    read_part,
    remove_folder,
    scratch,
    sweep,
    sync_folder,
    write_new,
)
from spotweld.store.keys import RESERVED, check_key, check_prefix
from spotweld.store.objects import Meta, Objects, Version
from spotweld.store.pieces import size_of
from spotweld.store.spares import LARGE, Spares, is_orphan
from spotweld.values.digests import digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spotweld.store.pieces import Pieces
    from spotweld.values.digests import Data


class LocalObjects(Objects):
    """The files under one folder. What a method has written when it returns survives a power cut.

    Two limits that the object stores do not have: a key cannot be a folder of other keys at the same time, and ``put``
    or ``delete`` of a key that is being replaced for the first time at the very same moment is not ordered with it.

    Args:
        root: the folder; it is made by the first write.
    """

    streams = 2
    portion = 64 * 2**20

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root))  # noqa: PTH100  a link in the path is the user's choice and stays
        self.url = f"file:{quote(str(self.root))}"
        self._ready: set[Path] = set()
        self._spares = Spares()

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        return self._read(key, start, length)[0]

    def read(self, key: str) -> tuple[bytes, Version]:
        data, token = self._read(key, 0, None)
        return data, Version(token or _plain(data))

    def put(self, key: str, data: Data) -> None:
        path = self._path(key)
        with explained("write", path):
            token = versions.current(versions.folder_of(path))
            if token is None:
                self._refuse_folder(path)
                new = self._write(path.parent, data)
                try:
                    new.rename(path)
                except OSError:
                    new.unlink(missing_ok=True)
                    raise
                sync_folder(path.parent)
                token = versions.current(versions.folder_of(path))
        while token is not None:
            try:
                versions.replace_next(path, data, token)
                break
            except Conflict:
                token = versions.current(versions.folder_of(path))

    def create(self, key: str, data: Pieces) -> None:
        path = self._path(key)
        with explained("write", path):
            if path.exists() or versions.folder_of(path).exists() or not self._link(path, data):
                self._refuse_folder(path)
                # Whoever hears "taken" relies on it, and its writer may not have come to its own fsync yet.
                sync_folder(path.parent)
                raise versions.conflict(path)

    def replace(self, key: str, data: Data, version: Version) -> None:
        path = self._path(key)
        with explained("write", path):
            if not version.startswith("blake3:"):
                return versions.replace_next(path, data, version)
            if versions.folder_of(path).exists():
                raise versions.conflict(path)
            try:
                first = read_part(path)
            except FileNotFoundError as error:
                raise versions.conflict(path) from error
        if _plain(first) != version:
            raise versions.conflict(path)
        return versions.replace_first(path, data)

    def read_into(self, key: str, start: int, into: memoryview) -> int:
        path = self._path(key)
        if versions.folder_of(path).exists():
            return super().read_into(key, start, into)
        with explained("read", path):
            try:
                count = read_into(path, start, into)
                path.stat()  # deleted meanwhile, its blocks may have been written over before they were read
            except FileNotFoundError as error:
                raise NotFound(f"There is no object {key} in {self.url}") from error
        return count

    def list(self, prefix: str) -> Iterator[Meta]:
        check_prefix(prefix)
        folder = prefix.rpartition("/")[0]
        with explained("list", self.root / folder):
            yield from self._walk(f"{folder}/" if folder else "", prefix)

    def delete(self, key: str) -> None:
        path = self._path(key)
        with explained("delete", path), suppress(NotADirectoryError):
            self._refuse_folder(path)
            folder = versions.folder_of(path)
            if folder.exists() or not self._spares.keep(path):
                path.unlink(missing_ok=True)
            if folder.exists():
                # Should the folder's going be the only thing that survives, the first content would be back.
                sync_folder(path.parent)
                remove_folder(folder)

    def _path(self, key: str) -> Path:
        check_key(key)
        return self.root / key

    def _read(self, key: str, start: int, length: int | None) -> tuple[bytes, str | None]:
        path = self._path(key)
        with explained("read", path):
            try:
                return versions.read_current(path, start, length)
            except FileNotFoundError as error:
                raise NotFound(f"There is no object {key} in {self.url}") from error

    def _link(self, path: Path, data: Pieces) -> bool:
        """Give the object its first content; False if the name is taken."""
        new = self._write(path.parent, data)
        try:
            link(new, path)
            sync_folder(path.parent)
        except FileExistsError:
            return False
        finally:
            with suppress(OSError):
                new.unlink()
        return True

    def _write(self, folder: Path, data: Pieces) -> Path:
        """A scratch file in ``folder`` that holds ``data``, durable but for its name."""
        self._prepare(folder)
        new = scratch(folder)
        try:
            if size_of(data) < LARGE or not self._spares.write(new, data):
                write_new(new, data)
        except FileNotFoundError:
            # Somebody removed the folder since we made it.
            self._ready.clear()
            self._prepare(folder)
            write_new(new, data)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT} or not self._spares.drop():
                raise
            write_new(new, data)
        return new

    def _prepare(self, folder: Path) -> None:
        """Make ``folder`` with all above it, durably, whoever else is making it right now."""
        if folder in self._ready:
            return
        try:
            if folder == self.root:
                make_folder(folder)
            else:
                self._prepare(folder.parent)
                folder.mkdir(exist_ok=True)
                sync_folder(folder.parent)
        except (FileExistsError, NotADirectoryError) as error:
            what = f"{folder} cannot hold objects"
            raise UsageError(what, "it is an object itself", "Use another key; object stores allow both.") from error
        sweep(folder, is_orphan)
        self._ready.add(folder)

    def _refuse_folder(self, path: Path) -> None:
        if path.is_dir():
            what = f"{path} cannot be an object"
            raise UsageError(what, "it is a folder of other objects", "Use another key; object stores allow both.")

    def _walk(self, folder: str, prefix: str) -> Iterator[Meta]:
        """Objects below ``folder`` (empty or with a slash at its end), by key."""
        found: dict[str, os.DirEntry[str]] = {}
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.root / folder) as entries:
            for entry in entries:
                if entry.name.endswith(versions.SUFFIX):
                    found[entry.name.removesuffix(versions.SUFFIX)] = entry
                elif RESERVED not in entry.name and entry.is_dir(follow_symlinks=False):
                    found[f"{entry.name}/"] = entry
                elif RESERVED not in entry.name and entry.is_file(follow_symlinks=False):
                    found.setdefault(entry.name, entry)
        for name in sorted(found):
            key = folder + name
            if name.endswith("/"):
                if key.startswith(prefix) or prefix.startswith(key):
                    yield from self._walk(key, prefix)
            elif key.startswith(prefix) and (meta := self._meta(key)):
                yield meta

    def _meta(self, key: str) -> Meta | None:
        try:
            status = versions.stat_current(self.root / key)
        except FileNotFoundError:
            return None
        return Meta(key=key, size=status.st_size, modified=status.st_mtime)


def _plain(data: bytes) -> str:
    """The version of an object that was never replaced: what it says, so that a deleted and new one differs."""
    return digest(data)
