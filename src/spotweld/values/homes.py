"""Where a user's own files are, by the XDG base directory specification."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def own_folder(environ: Mapping[str, str], variable: str, usual: str) -> Path:
    """The folder that ``variable`` names, else the ``usual`` one in the user's home."""
    base = environ.get(variable, "")
    # The specification says that a relative path is invalid and to be ignored.
    return Path(base) if base.startswith("/") else Path(environ.get("HOME") or _home()) / usual


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        # A container's user may be a bare number, without an account. Container engines give it this home.
        return Path("/")
