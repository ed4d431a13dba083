"""File names as text, and which of them are safe to be followed.

A file name on POSIX is any bytes but ``/`` and NUL. In a manifest it is UTF-8 text in which every byte that is not part
of valid UTF-8, every control character, ``%`` and the backslash is written ``%XX``. Each name has one such form, and
another form is refused, so no two names in a manifest can mean the same file.
"""

from __future__ import annotations

import re

_ESCAPED = re.compile("[\x00-\x1f\x7f%\\\\\udc80-\udcff]")
_ESCAPE = re.compile(rb"%([0-9A-F]{2})")


def to_text(name: bytes) -> str:
    """The form of a path that stands in a manifest."""
    return _ESCAPED.sub(lambda found: f"%{ord(found[0]) & 0xFF:02X}", name.decode("utf-8", "surrogateescape"))


def to_bytes(text: str) -> bytes:
    """What ``to_text`` was given.

    Raises:
        ValueError: no name has this form.
    """
    name = _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), text.encode("utf-8", "strict"))
    if to_text(name) != text or b"\0" in name:
        msg = f"not a file's name: {text[:120]!r}"
        raise ValueError(msg)
    return name


def to_path(text: str) -> bytes:
    """The relative path that stands in a manifest, once it is known to stay below the directory.

    Raises:
        ValueError: it is absolute, has ``..``, or has another form than ``to_text`` gives.
    """
    path = to_bytes(text)
    if any(part in {b"", b".", b".."} for part in path.split(b"/")):
        msg = f"not a path below the directory: {text[:120]!r}"
        raise ValueError(msg)
    return path


def stays_inside(path: bytes, target: bytes) -> bool:
    """Whether a symbolic link leads to a place below the directory, whatever other links there are.

    ``..`` may stand at the beginning only, where what it leaves is a folder and no link: behind the name of a link it
    would leave the folder that the link leads to, wherever that is.

    Args:
        path: of the link, relative to the directory, below folders that are no links.
        target: what it says.
    """
    if target.startswith(b"/") or not target:
        return False
    parts = [part for part in target.split(b"/") if part not in {b"", b"."}]
    up = next((at for at, part in enumerate(parts) if part != b".."), len(parts))
    return up <= path.count(b"/") and b".." not in parts[up:]
