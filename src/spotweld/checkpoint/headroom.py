"""How much memory a process may still take, before the kernel ends it or a neighbour.

The kernel's own estimate for the machine (``MemAvailable``, https://docs.kernel.org/filesystems/proc.html), and what
the limits of the control groups leave that the process is in, as a container's is
(https://docs.kernel.org/admin-guide/cgroup-v2.html, cgroup-v1/memory.html): the limit less what is used, files that
nobody has used lately not counted, as Kubernetes does before it evicts.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SPARED = 10
"""One part in so many of all memory is left alone: a training takes more in some steps than in others."""


class Bound(msgspec.Struct, frozen=True):
    """What memory is there, for the machine or for a group of processes."""

    size: int
    """Bytes in all."""
    free: int
    """Bytes that could still be had."""


def headroom(root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> int | None:
    """Bytes that this process may take; None: this system does not say.

    Args:
        root: of the file system.
        environ: ``LOCAL_WORLD_SIZE``, as torchrun sets it, says how many processes share the memory, all of which are
            about to take some.
    """
    bounds = [*_machine(root), *_groups(root)]
    if not bounds:
        return None
    least = min(bound.free - bound.size // _SPARED for bound in bounds)
    ranks = environ.get("LOCAL_WORLD_SIZE", "")
    return max(0, least) // (max(1, int(ranks)) if ranks.isdigit() else 1)


def _machine(root: Path) -> Iterator[Bound]:
    told = _pairs(root / "proc/meminfo", ":")
    if "MemTotal" in told and "MemAvailable" in told:
        yield Bound(told["MemTotal"] * 1024, told["MemAvailable"] * 1024)


def _groups(root: Path) -> Iterator[Bound]:
    """Of every group from the process's own up to the first: each has a limit of its own."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            names = "memory.max", "memory.current", "inactive_file"
            yield from _chain(root / "sys/fs/cgroup", path, names)
        elif "memory" in controllers.split(","):
            names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
            yield from _chain(root / "sys/fs/cgroup/memory", path, names)


def _chain(mount: Path, path: str, names: tuple[str, str, str]) -> Iterator[Bound]:
    limit, used, idle = names
    parts = [part for part in path.split("/") if part not in {"", ".."}]
    # In a container its own group is mounted as the first, and the path may be the host's.
    for depth in range(len(parts) + 1):
        folder = mount.joinpath(*parts[:depth])
        try:
            most, taken = int((folder / limit).read_text()), int((folder / used).read_text())
        except (OSError, ValueError):
            continue  # none of that name, or no limit ("max")
        yield Bound(most, most - taken + min(taken, _pairs(folder / "memory.stat", " ").get(idle, 0)))


def _pairs(path: Path, separator: str) -> dict[str, int]:
    """The lines ``name, separator, number``."""
    found = {}
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    for line in lines:
        name, _, rest = line.partition(separator)
        number = rest.split()[:1]
        if number and number[0].isdigit():
            found[name] = int(number[0])
    return found
