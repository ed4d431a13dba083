"""What to do about a machine that will be taken: pure decisions, made at every step's edge while the notice stands.

The plan: save at once in the background, go on training, and as late as is safe take a last save, wait until it is
durable, and leave with exit status 75. Training to the last safe moment loses least; the save at once is there in case
that the machine goes early, which the clouds do not rule out.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from spotweld.checkpoint.cadence import Cost, median

SAFETY = 1.5
"""The slowest of the latest saves times this is how long the last one is allowed to take."""
MARGIN = 0.5
"""Seconds more, for what is measured too rarely to be known: the exit itself, a scheduler's pause."""
GRACE = 25.0
"""Seconds assumed where nobody gave a deadline and a failed save could be tried again: Kubernetes and most others kill
30 s after TERM."""


class Act(StrEnum):
    """What to do now."""

    GO_ON = "go on"
    """Train another step."""
    SAVE = "save"
    """Begin a save in the background and train on."""
    LAST = "last"
    """Take the last save, wait until it is durable, leave."""
    LEAVE = "leave"
    """Leave: the step is durable already, or a save cannot be finished any more."""


class Situation(msgspec.Struct, frozen=True):
    """What is known when a step has ended."""

    remaining: float | None
    """Seconds to the deadline; None: not known."""
    costs: tuple[Cost, ...]
    """Of the latest saves."""
    pace: float
    """Seconds of the slowest of the latest steps."""
    running: float | None
    """Seconds since the save that is running began; None: none runs."""
    durable: bool
    """The state after this step is published already."""
    answered: bool
    """A save has been begun since the notice came."""


def decide(now: Situation) -> Act:
    """What to do."""
    if now.remaining is None:
        return Act.LEAVE if now.durable else Act.LAST
    wait = running_for(now)
    if not now.durable and now.costs and wait + typical(now) > now.remaining:
        return Act.LEAVE
    if now.pace + wait + predicted(now) + MARGIN >= now.remaining:
        return Act.LEAVE if now.durable else Act.LAST
    if not now.answered and not now.durable and now.running is None:
        return Act.SAVE
    return Act.GO_ON


def typical(now: Situation) -> float:
    """Seconds that a save usually takes: below this none is tried. 0 if none has been measured: then one is tried."""
    return median([cost.seconds for cost in now.costs]) if now.costs else 0.0


def predicted(now: Situation) -> float:
    """Seconds that a save is allowed to take. If none has been measured yet, a quarter of what remains."""
    if not now.costs:
        return (now.remaining or 0.0) / 4
    return SAFETY * max(cost.seconds for cost in now.costs)


def running_for(now: Situation) -> float:
    """Seconds that the running save still needs, which a last one has to wait for."""
    return 0.0 if now.running is None else max(0.0, typical(now) - now.running)
