"""The seam between what is seen of a market and what to hold: for many jobs at once; the controller asks for one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spotweld.errors import UsageError
from spotweld.placement.market import SECOND, exact
from spotweld.values.durations import format_duration

if TYPE_CHECKING:
    from spotweld.placement.market import Bools, Floats, Ints, Market

NONE = -1
"""The code for holding nothing. ``z`` is spot in zone ``z``, ``Z + z`` is on-demand there."""


@dataclass(frozen=True)
class Task:
    """What there is to do. Durations are seconds, rounded to 1/1024 s.

    Raises:
        UsageError: a number that cannot be, or a deadline that no machine could meet.
    """

    work: float
    deadline: float
    """After the start."""
    changeover: float = 0.0
    """From a machine's start until it makes progress (boot, pull, restore): paid, at each start."""
    gang: int = 1
    """Machines at once. If one is lost, all are."""
    cadence: float = 0.0
    """A lost spot gang goes back to the last whole multiple of this, in seconds that it ran; 0: nothing is lost."""
    size: float = 0.0
    """GiB that move when a machine starts in another region than the one before."""
    egress: float = 0.0
    """What a GiB costs then."""

    def __post_init__(self) -> None:
        low = {"work": 1 / SECOND, "gang": 1}
        for name in ("work", "deadline", "changeover", "cadence", "gang", "size", "egress"):
            value = getattr(self, name)
            if not low.get(name, 0) <= value < 1e12:
                raise UsageError(f"a job's {name} cannot be {value}", "", f"give a number from {low.get(name, 0)} on")
        for name in ("work", "deadline", "changeover", "cadence"):
            object.__setattr__(self, name, exact(getattr(self, name)))
        if self.work + self.changeover > self.deadline:
            need = (
                f"{format_duration(self.work)} of work and {format_duration(self.changeover)} for the machine's start"
            )
            raise UsageError(
                f"a deadline of {format_duration(self.deadline)} cannot be met", f"it takes {need}", "allow more time"
            )

    @property
    def moving(self) -> float:
        """What a start in another region costs for egress."""
        return self.size * self.egress


class Past:
    """What has been seen of a market. Whoever asks says which tick it is, and gets nothing newer.

    Args:
        market: a recording of it, which may go on after that tick; while it is being recorded, a longer one may take
            its place.
    """

    def __init__(self, market: Market) -> None:
        self.market = market

    def before(self, tick: int, seconds: float) -> Market:
        """The ticks before ``tick``, as far back as ``seconds`` but one at least; none, if ``tick`` is 0."""
        return self.market.between(max(0, tick - max(1, round(seconds / self.market.gap))), tick)


@dataclass(frozen=True, eq=False)
class Seen:
    """All that a policy may look at: J jobs at one moment each, in a market of Z zones.

    Money is per hour of the whole gang. The present tick is seen, with all zones' capacity; the future is not.
    """

    up: Bools
    """(J, Z): whether the whole gang can be had as spot."""
    capacity: Ints
    """(J, Z)"""
    age: Floats
    """(J, Z): seconds since ``up`` changed, as far back as is known."""
    spot: Floats
    """(J, Z): price."""
    on_demand: Floats
    """(J, Z): price."""
    held: Ints
    """(J,): NONE; z: spot in zone z; Z + z: on-demand in zone z. A spot gang that was lost is not held any more."""
    warming: Floats
    """(J,): seconds of changeover left of what is held."""
    ran: Floats
    """(J,): seconds of progress since what is held was started."""
    home: Ints
    """(J,): the region that holds the job's state, as a number of ``regions``; NONE before the first start."""
    work: Floats
    """(J,): seconds of work left."""
    time: Floats
    """(J,): seconds left until the deadline."""
    tick: Ints
    """(J,): the present tick of the market."""
    regions: Ints
    """(Z,): each zone's region."""
    task: Task
    gap: float
    """Seconds until the next decision."""
    past: Past
    """What may be learned from."""
    unsaved: Floats | None = None
    """(J,): seconds of progress that a loss would take now. None: at each whole multiple of the cadence in ``ran`` all
    is saved, as in a recording; else nobody knows when the next save comes."""


class Policy(ABC):
    """A pure function; the simulator and the controller use the same object.

    It keeps nothing between two questions: what it answers for a job depends on that job's row alone.
    """

    name: str

    @abstractmethod
    def decide(self, seen: Seen) -> Ints:
        """(J,): what each job should hold until the next decision, in the codes of ``Seen.held``.

        Spot only in zones that are up. Whether a deadline allows it need not be looked at: the guard does.
        """

    def reckoned(self, seen: Seen) -> dict[int, float]:  # noqa: ARG002
        """What the one job of a batch is expected to pay to the end, by what it holds until the next decision.

        In the codes of ``Seen.held``; empty, if the policy does not reckon so.
        """
        return {}
