"""What the local provider needs, and whether it is here."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from spotweld.errors import ProjectError
from spotweld.providers.local import records
from spotweld.providers.local.births import elapsed, read_birth
from spotweld.providers.local.zones import PROVIDER, Zone
from spotweld.providers.provider import Finding
from spotweld.values.clocks import SystemClock

if TYPE_CHECKING:
    from spotweld.project.nouns import LocalProvider


def examine(cloud: Path, config: LocalProvider) -> list[Finding]:
    """What is there, what is missing, how to get it. Leaves nothing behind."""
    return [_system(), _folder(cloud), *(_zone(cloud, config, index) for index in range(len(config.zones)))]


def last_line(log: Path) -> str:
    """The last thing that was said in ``log``."""
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except FileNotFoundError:
        lines = []
    return lines[-1] if lines else "it left no word"


def _system() -> Finding:
    if sys.platform == "linux" and Path("/proc/self/stat").exists() and hasattr(os, "pidfd_open"):
        return Finding(ok=True, what=f"{PROVIDER}: Linux with /proc, machines can be ended for certain")
    return Finding(
        ok=False, what=f"{PROVIDER}: no Linux 5.3 or newer with /proc", todo="use Linux, or another provider"
    )


def _folder(cloud: Path) -> Finding:
    place = cloud
    while not place.exists():
        place = place.parent
    try:
        with (
            tempfile.TemporaryDirectory(dir=place, prefix=".spotweld-doctor-") as scratch,
            records.alone(Path(scratch) / "lock"),
        ):
            os.mkfifo(Path(scratch) / "fifo")
    except OSError as error:
        return Finding(
            ok=False,
            what=f"{PROVIDER}: {cloud} cannot hold machines ({error.strerror})",
            todo="put the project on a local file system that you can write to",
        )
    return Finding(ok=True, what=f"{PROVIDER}: {cloud} can hold machines")


def _zone(cloud: Path, config: LocalProvider, index: int) -> Finding:
    noun = config.zones[index]
    try:
        zone = Zone(config, noun)
    except ProjectError as error:
        return Finding(ok=False, what=f"{PROVIDER}/{noun.name}: {error}", todo=error.todo)
    birth = read_birth(cloud)
    now = 0.0 if birth is None else elapsed(birth, SystemClock())
    taken = sum(1 for _ in records.occupants(cloud, noun.name))
    return Finding(ok=True, what=f"{PROVIDER}/{noun.name}: {taken} of {zone.capacity(now)} spot machines taken")
