"""What passes between the ranks at a step's edge: what each has heard, and what rank 0 has decided."""

from __future__ import annotations

import math
from enum import IntEnum
from typing import TYPE_CHECKING

import msgspec

from spotweld.preemption.notices import Kind, Notice
from spotweld.preemption.watcher import Watcher

if TYPE_CHECKING:
    from spotweld.checkpoint.distributed.group import Group
    from spotweld.values.clocks import Clock


class Command(IntEnum):
    """What all ranks do now."""

    GO_ON = 1
    """Train another step."""
    PREPARE = 2
    """Make staging memory."""
    SAVE = 3
    """Begin a save of the state after this step."""
    LEAVE = 4
    """Leave with status 75."""
    FAIL = 5
    """Leave with the error that rank 0 tells next."""
    RISK = 6
    """Call back whoever wants to hear of the risk that rank 0 tells next."""
    DONE = 7
    """The run is over, and the last state is durable."""
    STRAIGHT = 8
    """From now on save straight to the store."""


class Heard(msgspec.Struct, frozen=True):
    """What a rank has heard since, as numbers of which the largest over all ranks is what counts."""

    wanted: float = 0.0
    """A save was asked for."""
    risky: float = 0.0
    """A rebalance recommendation stands."""
    terminal: float = 0.0
    """The machine will be taken,"""
    vague: float = 0.0
    """nobody knows when,"""
    urgency: float = -math.inf
    """in minus so many seconds."""
    over: float = 0.0
    """The run is to end after this step."""

    @property
    def remaining(self) -> float | None:
        """Seconds until the first machine goes; None: not known."""
        return None if self.vague or self.urgency == -math.inf else -self.urgency


def heard(watcher: Watcher, *, wanted: bool) -> Heard:
    """What this rank has heard."""
    notice = watcher.current()
    if notice is None or notice.kind is not Kind.TERMINATE:
        return Heard(wanted=float(wanted), risky=float(notice is not None))
    remaining = watcher.remaining()
    if remaining is None:
        return Heard(wanted=float(wanted), terminal=1.0, vague=1.0)
    return Heard(wanted=float(wanted), terminal=1.0, urgency=-remaining)


def exchange(group: Group, one: Heard) -> Heard:
    """What all ranks together have heard."""
    return Heard(*group.largest(list(msgspec.structs.astuple(one))))


def give(group: Group, command: Command) -> None:
    """Tell the other ranks what to do. For rank 0."""
    group.largest([float(command)])


def take_command(group: Group) -> Command:
    """What rank 0 says."""
    return Command(int(group.largest([0.0])[0]))


class GroupWatcher(Watcher):
    """Rank 0's watcher, which has the others' ears, too. What they heard is as old as the last step's edge.

    Args:
        watcher: of this rank.
        clock: the watcher's.
    """

    def __init__(self, watcher: Watcher, clock: Clock) -> None:
        super().__init__((), clock=clock)
        self._watcher, self._time = watcher, clock
        self._others = Heard()
        self._at = 0.0
        self._since: dict[str, float] = {}

    def hear(self, others: Heard) -> None:
        """Take note of what the others have heard."""
        self._others, self._at = others, self._time.monotonic()

    def current(self) -> Notice | None:
        """As ``Watcher.current``, over all ranks."""
        own, others = self._watcher.current(), self._others
        if (own is not None and own.kind is Kind.TERMINATE) or not (others.terminal or others.risky):
            return own
        if others.terminal:
            remaining = self._remaining()
            deadline = None if remaining is None else self._time.now() + remaining
            return self._notice(Kind.TERMINATE, deadline)
        return own or self._notice(Kind.REBALANCE, None)

    def remaining(self) -> float | None:
        """As ``Watcher.remaining``, over all ranks."""
        own = self._watcher.current()
        if not self._others.terminal:
            return self._watcher.remaining()
        ends = [self._remaining()]
        if own is not None and own.kind is Kind.TERMINATE:
            ends.append(self._watcher.remaining())
        known = [end for end in ends if end is not None]
        return min(known) if len(known) == len(ends) else None

    def _remaining(self) -> float | None:
        remaining = self._others.remaining
        return None if remaining is None else max(0.0, remaining - (self._time.monotonic() - self._at))

    def _notice(self, kind: Kind, deadline: float | None) -> Notice:
        return Notice("another rank", kind, "group", deadline, self._since.setdefault(kind, self._time.now()))
