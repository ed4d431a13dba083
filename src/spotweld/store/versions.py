"""Compare-and-swap on a file system, without a lock that a stopped process could hold.

An object that was replaced at least once has a folder beside it. In the folder lies one empty file, the *pointer*,
whose name is ``@`` and the current token, and the content under the token alone. A token is the number of the
replacement and a random part; none is ever used twice. To replace, a writer puts its content there and renames the
pointer it saw to its own: a rename consumes the source name, so exactly one of several racers wins and all others find
nothing to rename. ``docs/decisions/0002-compare-and-swap-on-files.md`` has the whole argument.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from spotweld.errors import Conflict, Corrupt
from spotweld.store.files import explained, read_part, scratch, sync_folder, write_new
from spotweld.store.keys import RESERVED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from spotweld.values.digests import Data

T = TypeVar("T")

SUFFIX = f"{RESERVED}versions"
"""What an object's version folder adds to its name."""

_TOKEN = re.compile(r"(\d{12})-[0-9a-f]{16}")
_POINTER = re.compile("@" + _TOKEN.pattern)
_ROUNDS = 2000


def folder_of(path: Path) -> Path:
    """The version folder of the object whose first content is at ``path``."""
    return path.with_name(path.name + SUFFIX)


def current(folder: Path) -> str | None:
    """The current token, or None for an object that was never replaced.

    Raises:
        Corrupt: the folder is there and its pointer stays away: somebody changed it by hand.
        OSError: as the kernel says.
    """
    for turn in range(_ROUNDS):
        try:
            pointers = [name[1:] for name in os.listdir(folder) if _POINTER.fullmatch(name)]  # noqa: PTH208
        except (FileNotFoundError, NotADirectoryError):
            return None
        if len(pointers) == 1:
            return pointers[0]
        # A listing that runs while the pointer is renamed may show both names or none.
        _breathe(turn)
    what = f"{folder} has {len(pointers)} pointers instead of one"
    raise Corrupt(what, "its files were changed by hand or lost", "Restore that folder from a copy.")


def read_current(path: Path, start: int = 0, length: int | None = None) -> tuple[bytes, str | None]:
    """Bytes of the object at ``path`` and its token, which is None while it was never replaced.

    Raises:
        FileNotFoundError: there is no such object.
        Corrupt: the pointer names a content that is not there.
        OSError: as the kernel says.
    """
    return _of_current(path, lambda file: read_part(file, start, length))


def stat_current(path: Path) -> os.stat_result:
    """What the file system says of the object at ``path``.

    Raises:
        FileNotFoundError: there is no such object.
        Corrupt: the pointer names a content that is not there.
        OSError: as the kernel says.
    """
    return _of_current(path, lambda file: file.stat())[0]


def _of_current(path: Path, look: Callable[[Path], T]) -> tuple[T, str | None]:
    """What ``look`` finds at the object's content, and its token."""
    folder = folder_of(path)
    for turn in range(_ROUNDS):
        token = current(folder)
        if token is None:
            return look(path), None
        with suppress(FileNotFoundError):
            return look(folder / token), token
        # The content was replaced and removed since the pointer was read.
        _breathe(turn)
    raise Corrupt(f"The content of {path} is missing", f"{folder} points at {token}", "Restore it from a copy.")


def replace_first(path: Path, data: Data) -> None:
    """Replace an object that never was replaced; its first file stays, so that no ``create`` can ever win again.

    Raises:
        Conflict: another writer was first.
        Unavailable: the kernel refused.
    """
    prepared = scratch(path.parent)
    token = _successor(None)
    try:
        with explained("write", path):
            prepared.mkdir()
            write_new(prepared / token, data)
            write_new(prepared / f"@{token}", b"")
            sync_folder(prepared)
            try:
                prepared.rename(folder_of(path))
            except OSError as error:
                if error.errno in {errno.EEXIST, errno.ENOTEMPTY}:
                    raise conflict(path) from error
                raise
            sync_folder(path.parent)
    finally:
        shutil.rmtree(prepared, ignore_errors=True)


def replace_next(path: Path, data: Data, token: str) -> None:
    """Replace an object whose current token is ``token``.

    Raises:
        Conflict: it has another token by now, or is gone.
        Unavailable: the kernel refused.
    """
    folder = folder_of(path)
    if not _TOKEN.fullmatch(token) or not (folder / f"@{token}").exists():
        raise conflict(path)
    new = _successor(token)
    with explained("write", path):
        try:
            write_new(folder / new, data)
            (folder / f"@{token}").rename(folder / f"@{new}")
        except FileNotFoundError as error:
            (folder / new).unlink(missing_ok=True)
            raise conflict(path) from error
        except OSError:
            (folder / new).unlink(missing_ok=True)
            raise
        try:
            sync_folder(folder)
        except FileNotFoundError as error:
            raise conflict(path) from error
        _drop_doomed(folder, new)


def conflict(path: Path) -> Conflict:
    """The answer to whoever came second."""
    return Conflict(f"{path} was written by somebody else first", "", "Read it again and decide anew.")


def _drop_doomed(folder: Path, token: str) -> None:
    """Remove the contents that no pointer can ever name any more.

    Those are the ones with our number or a lower one: the pointer that their writers would have to rename is consumed.
    A racer for the next number is not touched.
    """
    with suppress(OSError):
        for name in os.listdir(folder):  # noqa: PTH208
            found = _TOKEN.fullmatch(name)
            if found and name != token and int(found[1]) <= _number(token):
                (folder / name).unlink(missing_ok=True)


def _successor(token: str | None) -> str:
    return f"{_number(token) + 1:012d}-{os.urandom(8).hex()}"


def _number(token: str | None) -> int:
    return int(token[:12]) if token else 0


def _breathe(turn: int) -> None:
    if turn > 20:
        time.sleep(0.001)
