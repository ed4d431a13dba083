"""Which builder this machine has."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from spotweld.errors import BuilderUnavailable, UsageError
from spotweld.images.builders.buildkit import BUILDX
from spotweld.project.words import nearest, quoted

if TYPE_CHECKING:
    from pathlib import Path

    from spotweld.images.builders.builder import Builder

NAMES = ("auto", "buildah", "buildkit")
_PATIENCE = 20.0
_STORE = "io.containerd.snapshotter"
"""What Docker names its storage by where it keeps images in containerd, which sending a cache needs."""


def choose_builder(name: str, state: Path) -> Builder:
    """The builder of that name; of ``auto``, BuildKit where it can work, and otherwise buildah.

    Args:
        name: one of ``NAMES``.
        state: the project's own folder; buildah keeps its layers in it.

    Raises:
        UsageError: there is no such builder.
        BuilderUnavailable: this machine has none.
    """
    if name not in NAMES:
        near = nearest(name, NAMES)
        todo = f"did you mean {near}?" if near else f"it takes {', '.join(NAMES)}"
        raise UsageError(f"there is no builder {quoted(name)}", "", todo)
    if name == "auto":
        name = "buildkit" if has_buildkit() else "buildah"
        if name == "buildah" and shutil.which("buildah") is None:
            raise BuilderUnavailable(
                "this machine can build no images",
                "it has neither buildah nor Docker with buildx, a running daemon and its images in containerd",
                "Debian: apt-get install buildah",
            )
    if name == "buildkit":
        from spotweld.images.builders.buildkit import BuildKit  # noqa: PLC0415 - only one of them is needed

        return BuildKit()
    from spotweld.images.builders.buildah import Buildah  # noqa: PLC0415 - as above

    return Buildah(storage_of(state))


def storage_of(state: Path) -> Path:
    """Where buildah keeps a project's layers on this machine.

    Args:
        state: the project's own folder.
    """
    return state / "buildah"


def has_buildkit() -> bool:
    """Whether there is a BuildKit behind buildx that can send its cache to registries."""
    if shutil.which(BUILDX[0]) is None:
        return False
    inspected = _say(*BUILDX, "inspect")
    driver = next((line.split()[-1] for line in inspected.splitlines() if line.startswith("Driver:")), "")
    return bool(driver) and (driver != "docker" or _STORE in _say("docker", "info", "--format", "{{.DriverStatus}}"))


def _say(*words: str) -> str:
    try:
        told = subprocess.run(words, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return told.stdout if told.returncode == 0 else ""
