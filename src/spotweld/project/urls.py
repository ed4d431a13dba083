"""A store's URL as people write it, and as code wants it."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote, unquote

DEFAULT_STORE = "file:.spotweld/store"
_BUCKET = r"(?:s3|gs|az)://[A-Za-z0-9][A-Za-z0-9._-]*(?:/[^?#@]*)?"
_OPTIONS = r"(?:\?single-writer=(?:true|false))?"
STORE_URL = rf"(?:file:[^?#]+|{_BUCKET}){_OPTIONS}"
"""The form of a store's URL. There is no place for a user and a password in it: credentials come from the environment.

``memory:`` is missing on purpose: a run's controller and its machines are processes of their own.
"""

TIER_URL = rf"(?:file:/[^?#]+|{_BUCKET}){_OPTIONS}"
"""The form of a fast tier's URL: a path is one of the machine, where the project file's folder means nothing."""


def check_store(url: str) -> str:
    """The URL as it is.

    Raises:
        ValueError: it is not one that a run can use.
    """
    if re.fullmatch(STORE_URL, url) is None:
        scheme = url.partition(":")[0]
        if scheme == "memory":
            raise ValueError("a store in memory ends with its process, and a run is more than one process")
        raise ValueError("a store is a URL that begins with file:, s3://, gs:// or az://")
    if re.match(r"file://[^/]", url):
        raise ValueError("a file: URL has no host; write file:/absolute/path or file:relative/path")
    return url


def absolute_store(url: str, folder: Path) -> str:
    """A checked URL with the path of a ``file:`` URL made absolute, starting from ``folder`` (itself absolute)."""
    path, mark, options = url.partition("?")
    if not path.startswith("file:"):
        return url
    return f"file:{quote(str(folder / _path(path)))}{mark}{options}"


def store_folder(url: str) -> Path | None:
    """The folder of a ``file:`` store; None for the others."""
    path = url.partition("?")[0]
    return Path(_path(path)) if path.startswith("file:") else None


def _path(url: str) -> str:
    return unquote(url.removeprefix("file:").removeprefix("//"))
