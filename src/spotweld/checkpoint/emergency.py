"""What to do about a machine that will be taken: pure decisions, made at every step's edge while the notice stands.

The plan: save at once in the background, go on training, and as late as is safe take a last save, wait until it is
durable, and leave with exit status 75. Training to the last safe moment loses least; the save at once is there in case
that the machine goes early, which the clouds do not rule out.

What counts as durable is what outlives the machine. A copy on its own disk is worth nothing here unless that disk is
kept, so every prediction is for the first tier that does survive.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from spotweld.checkpoint.cadence import median

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotweld.checkpoint.cadence import Cost

SAFETY = 1.5
"""A prediction times this is how long a last save is allowed to take."""
MARGIN = 0.5
"""Seconds more, for what is measured too rarely to be known: the exit itself, a scheduler's pause."""
OVERDUE = 1 / 8
"""A save that runs is expected to need at least this share of the time that it has taken already: the longer it is
late, the less the prediction is worth."""
FULL, DELTA = "full", "delta"
"""Names of the ways to save."""
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


class Option(msgspec.Struct, frozen=True):
    """A way to save."""

    name: str
    """``FULL``, which stands alone, or ``DELTA``: differences from a checkpoint that is durable already."""
    likely: float | None
    """Seconds that it will take until it is durable in a tier that outlives the machine; None: not known yet."""
    slowest: float | None = None
    """The same if it goes as badly as the worst of the latest saves; None: as ``likely``."""

    @property
    def allowed(self) -> float | None:
        """Seconds that are set aside for it."""
        slowest = self.likely if self.slowest is None else self.slowest
        return None if slowest is None else SAFETY * slowest + MARGIN


class Situation(msgspec.Struct, frozen=True):
    """What is known when a step has ended."""

    remaining: float | None
    """Seconds to the deadline; None: not known."""
    options: tuple[Option, ...]
    """At least one, the best first; those after it take less time."""
    pace: float
    """Seconds of the slowest of the latest steps."""
    running: float | None
    """Seconds that the running save still needs, which a last one has to wait for; None: none runs."""
    durable: bool
    """The state after this step is published already, where it outlives the machine."""
    answered: bool
    """A save has been begun since the notice came."""


class Decision(msgspec.Struct, frozen=True):
    """What to do, and how to save."""

    act: Act
    option: Option | None = None
    """None: no save can be finished any more, or none is needed."""


def decide(now: Situation) -> Decision:
    """What to do."""
    if now.remaining is None:
        assumed = choose(replace(now, remaining=GRACE)) or now.options[-1]
        return Decision(Act.LEAVE) if now.durable else Decision(Act.LAST, assumed)
    option = choose(now)
    if option is None and not now.durable:
        return Decision(Act.LEAVE)
    if now.pace + needed(now, option or now.options[0]) >= now.remaining:
        return Decision(Act.LEAVE) if now.durable else Decision(Act.LAST, option)
    if not now.answered and not now.durable and now.running is None:
        return Decision(Act.SAVE, option)
    return Decision(Act.GO_ON, option)


def choose(now: Situation) -> Option | None:
    """The best that fits with a margin; else the quickest, if it fits at all; else None."""
    remaining = now.remaining or 0.0
    quickest = now.options[-1]
    fits = quickest.likely is None or (now.running or 0.0) + quickest.likely <= remaining
    return next((one for one in now.options if needed(now, one) <= remaining), quickest if fits else None)


def needed(now: Situation, option: Option) -> float:
    """Seconds to set aside for the last save. For one of which nothing is known that is a quarter of what remains."""
    allowed = option.allowed
    return (now.running or 0.0) + ((now.remaining or 0.0) / 4 + MARGIN if allowed is None else allowed)


def ways(efforts: Sequence[Cost], whole: int, *, differences: bool) -> tuple[Option, ...]:
    """How the state can be saved, best first: so that it stands alone, else as differences where these are quicker.

    A full one is predicted from all of the latest saves, since differences are fewer bytes over the same link: what
    was slow for them is slower for all. A delta is predicted from those that were deltas themselves: what differences
    come to, and what it takes to make them, can only be measured. Before the first one, none is counted upon.

    Args:
        efforts: of the latest saves until they were where they outlive the machine, without what they waited for.
        whole: bytes that the latest full one had to write; 0: not known.
        differences: there is a checkpoint that they can be taken against.
    """
    full = predict(FULL, efforts, whole or None)
    deltas = [cost for cost in efforts if cost.delta]
    if not differences or not deltas:
        return (full,)
    delta = predict(DELTA, deltas)
    return (full, delta) if _seconds(delta) < _seconds(full) else (full,)


def predict(name: str, costs: Sequence[Cost], size: int | None = None) -> Option:
    """What such a save will take, from the latest saves.

    Args:
        name: of the option.
        costs: of the latest saves.
        size: bytes that it has to write; None: as many as the latest one wrote.
    """
    if not costs:
        return Option(name, None)
    wanted = costs[-1].size if size is None else size
    seconds = [_scaled(cost, wanted) for cost in costs]
    return Option(name, median(seconds), max(seconds))


def still_needs(efforts: Sequence[Cost], whole: int, elapsed: float, *, alone: bool) -> float:
    """Seconds that a save which is under way will go on; 0 if nothing is known.

    Args:
        efforts: as for ``ways``.
        whole: as for ``ways``.
        elapsed: seconds that it has run for already.
        alone: it is a full one, which takes longer than the latest ones may have that were differences.
    """
    deltas = [cost for cost in efforts if cost.delta]
    likely = (predict(FULL, efforts, whole or None) if alone or not deltas else predict(DELTA, deltas)).likely
    return 0.0 if likely is None else max(likely - elapsed, OVERDUE * elapsed)


def _seconds(option: Option) -> tuple[float, float]:
    """To be set aside, and usually needed."""
    return option.allowed or 0.0, option.likely or 0.0


def _scaled(cost: Cost, size: int) -> float:
    """The seconds of a save at its own throughput, had it had so many bytes to write. All is copied in any case."""
    return cost.stall + cost.background * size / cost.size if cost.size and size else cost.seconds
