"""The cloud's own clock: seconds since it began, the same in every process, whatever happens to the wall clock."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from spotweld.providers.local import records

if TYPE_CHECKING:
    from spotweld.values.clocks import Clock

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Birth(msgspec.Struct, frozen=True):
    """When a cloud began."""

    born: float
    """Seconds since 1970 UTC."""
    boot: str = ""
    """The host's boot id then (random(4)). While it is still the same, monotonic clocks can be compared."""
    monotonic: float = 0.0


def read_birth(cloud: Path) -> Birth | None:
    """When the cloud in this folder began; None: not yet."""
    return records.read(cloud / "cloud.json", Birth)


def begin(cloud: Path, clock: Clock) -> Birth:
    """Let the cloud in this folder begin now, unless it has begun. The caller holds ``cloud.lock``."""
    birth = read_birth(cloud)
    if birth is None:
        birth = Birth(born=clock.now(), boot=_boot_id(), monotonic=clock.monotonic())
        records.write(cloud / "cloud.json", birth)
    return birth


def elapsed(birth: Birth, clock: Clock) -> float:
    """Seconds since the cloud began. After a reboot of the host the wall clock has to do."""
    passed = clock.monotonic() - birth.monotonic if birth.boot == _boot_id() else clock.now() - birth.born
    return max(0.0, passed)


def _boot_id() -> str:
    return _BOOT_ID.read_text().strip()
