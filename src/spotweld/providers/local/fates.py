"""What is decided about a machine. Pure; times are seconds on the supervisor's monotonic clock."""

from __future__ import annotations

import msgspec

from spotweld.providers.provider import MachineEnd

GRACE = 5.0
"""Seconds between TERM and KILL when the owner stops a machine."""
LAST_MOMENT = 0.3
"""Seconds between TERM and KILL when a machine is taken, at most: a cloud powers it off, it does not wait."""


class Fate(msgspec.Struct, frozen=True):
    """How and when a machine ends, unless its guest exits before."""

    end: MachineEnd
    announced: bool
    """Whether the machine's metadata service tells of it, from the decision on."""
    term: float | None
    """When the guest gets TERM; None: never."""
    kill: float
    """When everything on the machine is killed."""


def taken(at: float, lead: float | None, now: float) -> Fate:
    """The provider takes the machine at ``at``, with a warning of ``lead`` seconds or (None) without one."""
    kill = max(at, now)
    if lead is None:
        return Fate(MachineEnd.INTERRUPTED, announced=False, term=None, kill=kill)
    return Fate(MachineEnd.INTERRUPTED, announced=True, term=max(now, kill - min(lead, LAST_MOMENT)), kill=kill)


def stopped(now: float) -> Fate:
    """The owner ends the machine."""
    return Fate(MachineEnd.STOPPED, announced=False, term=now, kill=now + GRACE)


def sooner(one: Fate | None, other: Fate) -> Fate:
    """Which of two decisions holds: the one that kills first, and of equals the first one made."""
    return other if one is None or other.kill < one.kill else one
