"""How likely it is that this machine will be taken soon, for programs that want to act on it."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from spotweld.checkpoint import hazard as hazards
from spotweld.checkpoint.cadence import RISKY
from spotweld.preemption.notices import Kind, Notice
from spotweld.values.durations import format_duration

_ELEVATED = 2.0
"""So many times the hazard that is usual at a machine's age, and ..."""
_WORTH_A_WORD = 1 / 3.2
"""... so many interruptions an hour, those of a machine with the mean life of the traces, are an elevated risk: twice
next to nothing is still next to nothing."""


class Level(StrEnum):
    """From calm to certain."""

    LOW = "low"
    ELEVATED = "elevated"
    """Machines of this age are taken much more often here than is usual."""
    HIGH = "high"
    """The provider says that the machine is at risk."""
    LEAVING = "leaving"
    """The machine will be taken."""


class Risk(msgspec.Struct, frozen=True):
    """The risk that a machine is at."""

    level: Level
    why: str
    """In words for people."""
    hazard: float
    """Interruptions per machine-hour that are reckoned with."""
    notice: Notice | None = None
    """The one that stands."""
    left: float | None = None
    """Seconds until the machine goes; None: not known, perhaps at once."""


UNKNOWN = Risk(Level.LOW, "nothing is known before the loop has begun", 0.0)


def assess(notice: Notice | None, left: float | None, hazard: hazards.Hazard, age: float) -> Risk:
    """The risk as things stand.

    Args:
        notice: the one that stands.
        left: seconds until the machine goes, if the notice says so.
        hazard: of machines like this one, by age.
        age: seconds since the machine came up.
    """
    hourly, usual = hazards.hourly(hazard, age), hazards.hourly(hazards.USUAL, age)
    if notice is not None and notice.kind is Kind.TERMINATE:
        end = "" if left is None else f" in {format_duration(left)}"
        return Risk(Level.LEAVING, f"{notice.source} says that this machine goes{end}", hourly, notice, left)
    if notice is not None:
        why = f"{notice.source} says that this machine is at risk"
        return Risk(Level.HIGH, why, max(hourly, RISKY), notice)
    taken = f"a machine of this age ({format_duration(age)}) is taken once in {format_duration(3600 / hourly)}"
    if hourly >= _ELEVATED * usual and hourly >= _WORTH_A_WORD:
        return Risk(Level.ELEVATED, f"{taken}, {hourly / usual:.1f} times as often as is usual", hourly)
    return Risk(Level.LOW, taken, hourly)
