"""Which git commit a folder is at: a label for people, never part of a key."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

_PATIENCE = 20.0


class Commit(msgspec.Struct, frozen=True):
    """A commit; ``name`` is empty where there is no git, or no repository."""

    name: str = ""
    dirty: bool = False
    """Whether files in the folder differ from it, or are not in it."""


def commit_of(folder: Path) -> Commit:
    """The commit that ``folder`` is at."""
    name = _git(folder, "rev-parse", "--verify", "HEAD")
    if not name:
        return Commit()
    status = _git(folder, "status", "--porcelain", "--", ".")
    return Commit(name.strip(), bool(status is None or status.strip()))


def content_at(folder: Path, commit: str, path: str) -> bytes | None:
    """A file's bytes at a commit, ``path`` being relative to ``folder``; None: they cannot be had."""
    found = _run(folder, "show", f"{commit}:./{path}")
    return found.stdout if found and found.returncode == 0 else None


def _git(folder: Path, *words: str) -> str | None:
    found = _run(folder, *words)
    return found.stdout.decode(errors="replace") if found and found.returncode == 0 else None


def _run(folder: Path, *words: str) -> subprocess.CompletedProcess[bytes] | None:
    try:
        # No locks: it may be somebody's working tree.
        return subprocess.run(
            ["git", "--no-optional-locks", *words], cwd=folder, capture_output=True, timeout=_PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
