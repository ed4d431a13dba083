"""As whom a job runs in its image: what ``USER`` means there, by the image's own lists of accounts.

https://github.com/opencontainers/image-spec/blob/main/config.md (``user``, ``uid``, ``user:group``, ``uid:gid``, ...),
passwd(5) and group(5). As with Docker, a name has to be in the list and a number need not be.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import msgspec

from spotweld.errors import ContainerRefused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LARGEST = 2**32 - 2


class Account(msgspec.Struct, frozen=True):
    """A user of an image."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    """Further ones."""
    name: str = "root"
    """Empty: the image's list has no such number."""
    home: str = "/root"


def account(user: str, passwd: str, group: str) -> Account:
    """What an image's ``USER`` stands for.

    Args:
        user: the text; empty: root.
        passwd: the image's ``/etc/passwd``.
        group: the image's ``/etc/group``.

    Raises:
        ContainerRefused: the image has no such user or group.
    """
    said, colon, group_said = user.partition(":")
    said = said or "0"
    found = next((row for row in _rows(passwd, 6) if row[0] == said), None)
    if found is None and said.isdecimal():
        found = next((row for row in _rows(passwd, 6) if row[2] == said), None)
    if found is not None and found[2].isdecimal() and found[3].isdecimal():
        uid, gid, name, home = int(found[2]), int(found[3]), found[0], found[5] or "/"
    elif said.isdecimal():
        uid, gid, name = int(said), 0, "root" if said == "0" else ""
        home = "/root" if uid == 0 else "/"
    else:
        raise _unknown(user, "user", "/etc/passwd", said)
    if colon and group_said:
        return Account(_checked(uid, user), _checked(_group(group_said, group, user), user), (), name, home)
    groups = tuple(int(row[2]) for row in _rows(group, 4) if name and name in row[3].split(",") and row[2].isdecimal())
    return Account(_checked(uid, user), _checked(gid, user), groups, name, home)


def read_list(file: Path) -> str:
    """The text of such a list; nothing where there is none."""
    try:
        return file.read_text(errors="replace")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return ""


PASSWD, GROUP = PurePosixPath("/etc/passwd"), PurePosixPath("/etc/group")


def _rows(text: str, least: int) -> Iterator[list[str]]:
    rows = (line.strip().split(":") for line in text.splitlines() if not line.startswith("#"))
    return (row for row in rows if len(row) >= least)


def _group(said: str, group: str, user: str) -> int:
    for row in _rows(group, 3):
        if row[0] == said and row[2].isdecimal():
            return int(row[2])
    if said.isdecimal():
        return int(said)
    raise _unknown(user, "group", "/etc/group", said)


def _checked(number: int, user: str) -> int:
    if number > _LARGEST:
        raise ContainerRefused(
            "the image cannot run a job", f"its USER is {user!r}, and {number} is no account's number"
        )
    return number


def _unknown(user: str, kind: str, file: str, said: str) -> ContainerRefused:
    why = f"its USER is {user!r}, and its {file} has no {kind} {said!r}"
    return ContainerRefused("the image cannot run a job", why, f"add the {kind} in the image, or write its number")
