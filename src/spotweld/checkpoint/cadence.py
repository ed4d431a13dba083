"""How often to save: pure decisions from what saves cost and how long machines live.

``auto`` takes the interval that minimizes expected lost time, the higher-order estimate of J. T. Daly, "A higher order
estimate of the optimum checkpoint interval for restart dumps", FGCS 22(3), 2006, equation 37, which refines J. W.
Young, CACM 17(9), 1974: with the cost ``c`` of a save and the mean time ``m`` between interruptions,
``sqrt(2cm) * (1 + sqrt(c / 2m) / 3 + (c / 2m) / 9) - c`` for ``c < 2m``, else ``m``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from spotweld.project.nouns import EveryAuto, EverySeconds, EverySteps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotweld.project.nouns import Every

MEAN_LIFE = 3.2 * 3600
"""Seconds between interruptions where nothing has been observed: the mean life of a spot machine in the AWS traces of
"Can't Be Late" (Wu et al., NSDI'24, skypilot-org/spot-traces). Lives are heavy-tailed, with a median of 0.54 h."""
RISKY_LIFE = 600.0
"""Seconds assumed under a rebalance recommendation; AWS gives no figure, the two-minute notice often follows soon."""
SHORTEST, LONGEST = 1.0, 1800.0
"""Bounds of the interval, seconds."""
INTERFERENCE = 0.25
"""The share of a save's background seconds that it is charged with: it takes memory bandwidth, a core and the link from
training, but not all of them."""


class Cost(msgspec.Struct, frozen=True):
    """What a save took, in seconds."""

    stall: float
    """Training stood still."""
    seconds: float
    """From the start of the capture until published."""

    @property
    def charge(self) -> float:
        """Seconds of training that the save cost, as ``INTERFERENCE`` estimates it."""
        return self.stall + INTERFERENCE * max(0.0, self.seconds - self.stall)


class Situation(msgspec.Struct, frozen=True):
    """What is known when a step has ended."""

    step: int
    """Steps finished."""
    saved_step: int
    """Of the last snapshot that was taken or restored."""
    since: float
    """Seconds since then."""
    costs: tuple[Cost, ...]
    """Of the latest saves; none before the first."""
    hazard: float | None
    """Interruptions per machine-hour; None: not observed."""
    risky: bool
    """A rebalance recommendation stands."""


def due(every: Every, now: Situation) -> bool:
    """Whether to save now."""
    if now.step == now.saved_step:
        return False
    match every:
        case EverySteps(steps):
            # Multiples, so that a run saves at the same steps whatever happens to it; a missed one is made up for.
            asked = now.step // steps > now.saved_step // steps
        case EverySeconds(seconds):
            asked = now.since >= seconds
        case EveryAuto():
            return now.since >= interval(now)
    return asked or (now.risky and now.since >= interval(now))


def interval(now: Situation) -> float:
    """Seconds between saves under ``auto``. Before the first save the shortest: its cost has to be known."""
    if not now.costs:
        return SHORTEST
    mean_life = 3600 / now.hazard if now.hazard else MEAN_LIFE
    if now.risky:
        mean_life = min(mean_life, RISKY_LIFE)
    charge = median([cost.charge for cost in now.costs])
    return min(max(young_daly(charge, mean_life), SHORTEST), LONGEST)


def young_daly(cost: float, mean_life: float) -> float:
    """The interval that loses least, in seconds of work between two saves.

    Args:
        cost: seconds that a save takes from training.
        mean_life: mean seconds between interruptions.
    """
    if cost >= 2 * mean_life:
        return mean_life
    share = cost / (2 * mean_life)
    return math.sqrt(2 * cost * mean_life) * (1 + math.sqrt(share) / 3 + share / 9) - cost


def median(values: Sequence[float]) -> float:
    """The middle one, or the larger of the two in the middle."""
    # The standard library's takes 10 ms to import.
    return sorted(values)[len(values) // 2]


def retry_after(failures: int) -> float:
    """Seconds to wait before the next save after so many failures in a row: 1, 2, 4, ... up to 60."""
    return float(min(60, 2 ** min(failures - 1, 6)))


def latest(costs: Sequence[Cost], new: Cost) -> tuple[Cost, ...]:
    """The last five costs, ``new`` among them."""
    return (*costs[-4:], new)
