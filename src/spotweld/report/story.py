"""Everything that a report tells of one run, as one frozen value.

Whoever knows a run (its event log, its attempts' event files, the ledger) fills a ``Story``; the page, the summary and
the JSON are pure functions of it, so that the same run always gives the same bytes. Times are seconds since 1970 UTC,
durations are seconds, sizes are bytes. Steps count finished steps: after the first one a run is at step 1.
"""

from __future__ import annotations

import struct
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from spotweld.costs.focus import Row
from spotweld.costs.reconciling import Difference
from spotweld.runs.events import Cause
from spotweld.values.money import Money
from spotweld.values.offers import CapacityType

if TYPE_CHECKING:
    from collections.abc import Iterable


class State(StrEnum):
    """Where a run stands."""

    WAITING = "waiting"
    """No machine now; another attempt will come."""
    RUNNING = "running"
    DONE = "done"
    LATE = "late"
    """Done after its deadline."""
    FAILED = "failed"
    CANCELLED = "cancelled"
    BUDGET = "budget"
    """Stopped because its budget is spent."""


class Attempt(msgspec.Struct, frozen=True):
    """One placement of the run on a machine, or the try at one."""

    number: int
    zone: str
    machine_type: str
    capacity_type: CapacityType
    hourly: Money
    started: float
    """When the machine was asked for."""
    booted: float | None = None
    """When the process started; until then the machine booted and was set up."""
    running_since: float | None = None
    """When the first step began; between ``booted`` and this the state was restored."""
    ended: float | None = None
    """None: it still runs."""
    cause: Cause | None = None
    detail: str = ""
    """What the cause was, in the words of whoever reported it."""
    first_step: int | None = None
    """The step that it resumed from; 0: from the beginning; None: it never got that far."""
    last_step: int | None = None
    """The furthest step that it reached."""
    durable_step: int | None = None
    """The newest step that was in the run's store when it ended."""
    origin: str = ""
    """Where the state came from and why from there, if it could have come from elsewhere."""
    steps_lost: int = 0
    """Steps of this attempt that a later one had to do again."""
    seconds_lost: float = 0.0
    """The time that those steps had taken: the tail of this attempt."""
    noticed: float | None = None
    """When the warning came; None: there was none."""
    notice_lead: float | None = None
    """Seconds between the warning and the end that it announced."""

    @property
    def interrupted(self) -> bool:
        """Whether the machine was taken away."""
        return self.cause is not None and self.cause.interruption


class Decision(msgspec.Struct, frozen=True):
    """What was decided about machines, or seen of the market."""

    time: float
    what: str
    why: str = ""


class Outcome(StrEnum):
    """What became of a checkpoint."""

    SAVED = "saved"
    FAILED = "failed"
    """It could not be written; training went on."""
    CUT = "cut-off"
    """The machine went while it was being written."""
    DAMAGED = "damaged"
    """It was written, and found damaged when it was to be restored."""


class Carry(msgspec.Struct, frozen=True):
    """A checkpoint came to a slower tier."""

    store: str
    """Its URL."""
    seconds: float
    """Seconds from the decision to save."""
    published: bool
    """That is the run's store."""


class Checkpoint(msgspec.Struct, frozen=True):
    """One save."""

    step: int
    time: float
    """When it was saved, or given up."""
    attempt: int
    reason: str
    """Why then: ``cadence``, ``notice``, ``finished``, ..."""
    stall: float
    """Seconds for which training stood still."""
    seconds: float
    """Seconds from the decision until it was saved."""
    size: int
    """Bytes written for it."""
    outcome: Outcome = Outcome.SAVED
    detail: str = ""
    tier: str = ""
    """The URL of the fast tier that it was saved in, where it shared the machine's fate; empty: the run's store."""
    carried: tuple[Carry, ...] = ()
    """Where it came to from there."""

    @property
    def durable(self) -> float | None:
        """Seconds from the decision until it was in the run's store; None: it never was."""
        if self.outcome is not Outcome.SAVED:
            return None
        if not self.tier:
            return self.seconds
        return next((carry.seconds for carry in self.carried if carry.published), None)


class Point(msgspec.Struct, frozen=True):
    """One logged value."""

    step: int
    attempt: int
    value: float
    redone: bool = False
    """Whether this step had been done before."""
    same: bool | None = None
    """Whether a redone step gave the very bits of the first time; None: not redone."""


class Curve(msgspec.Struct, frozen=True):
    """One metric, in the order in which it was logged."""

    name: str
    points: tuple[Point, ...]


class Comparison(msgspec.Struct, frozen=True):
    """The same job, undisturbed. None: not compared, or not known."""

    weights_identical: bool | None = None
    """Whether the final states are equal bit for bit."""
    curves_identical: bool | None = None
    """Whether every logged value is equal bit for bit."""
    seconds: float | None = None
    """Wall time of the undisturbed run."""
    cost: Money | None = None
    detail: str = ""


class Story(msgspec.Struct, frozen=True):
    """One run, as it stood at ``told``."""

    run: str
    job: str
    project: str
    state: State
    told: float
    """When this was put together."""
    opened: float
    closed: float | None = None
    total_steps: int | None = None
    labels: dict[str, str] = {}
    """Labels, seed, versions: whatever helps to recognise the run."""
    results: dict[str, str] = {}
    """What the job itself says of its result, ready to be read: ``{"test accuracy": "97.8 %"}``."""
    attempts: tuple[Attempt, ...] = ()
    """By number."""
    decisions: tuple[Decision, ...] = ()
    """By time."""
    checkpoints: tuple[Checkpoint, ...] = ()
    """By time."""
    curves: tuple[Curve, ...] = ()
    """The first one is drawn large."""
    rows: tuple[Row, ...] = ()
    """The ledger."""
    differences: tuple[Difference, ...] = ()
    """Where the provider's record of a machine was not what we had logged."""
    undisturbed: Comparison | None = None


def curve(name: str, samples: Iterable[tuple[int, int, float]]) -> Curve:
    """Put logged values together and flag those of steps that had been done before.

    Args:
        name: the metric's.
        samples: (step, attempt, value) in the order of logging.

    Returns:
        A curve whose redone points say whether they equal the first value of their step, bit for bit: two NaNs of the
        same bits are the same, 0.0 and -0.0 are not.
    """
    first: dict[int, bytes] = {}
    points = []
    for step, attempt, value in samples:
        bits = struct.pack("<d", value)
        redone = step in first
        same = first.setdefault(step, bits) == bits
        points.append(Point(step, attempt, value, redone, same if redone else None))
    return Curve(name, tuple(points))
