"""Which keys an object may have: the same rule for every store, strict enough to be a path on any of them."""

from __future__ import annotations

import re

from spotweld.errors import UsageError

RESERVED = ".~"
"""What no key contains: the mark of the file store's own scratch files and version folders."""

_BAD = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")


def check_key(key: str) -> None:
    """Refuse a key that is not a plain relative path.

    Raises:
        UsageError: it is empty, absolute, too long, or has an empty, ``.`` or ``..`` part, a backslash, a control
            character or the reserved mark ``.~``.
    """
    if not key:
        raise _refusal(key, "it is empty")
    check_prefix(key)
    if any(part in {"", ".", ".."} for part in key.split("/")):
        raise _refusal(key, "no part of a key may be empty, '.' or '..'")


def check_prefix(prefix: str) -> None:
    """Refuse a prefix that no key can start with (see `check_key`).

    Raises:
        UsageError: no key can start so.
    """
    if _BAD.search(prefix):
        raise _refusal(prefix, "it holds a backslash, a control character or half a surrogate pair")
    if RESERVED in prefix:
        raise _refusal(prefix, f"{RESERVED!r} is reserved for the store's own files")
    parts = prefix.split("/")
    # 255 bytes is what a file name may have; the version folder's suffix takes ten of them.
    if len(prefix.encode()) > 1000 or any(len(part.encode()) > 200 for part in parts):
        raise _refusal(prefix, "a key has at most 1000 bytes and each of its parts at most 200")
    if any(part in {"", ".", ".."} for part in parts[:-1]):
        raise _refusal(prefix, "no part of a key may be empty, '.' or '..'")


def _refusal(key: str, why: str) -> UsageError:
    return UsageError(f"{key[:80]!r} cannot be an object's key", why, "Use a relative path such as runs/digits/head.")
