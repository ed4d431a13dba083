"""How often to save: pure decisions from what saves cost and how often machines of this age are taken.

``auto`` takes the interval that minimizes expected lost time, the higher-order estimate of J. T. Daly, "A higher order
estimate of the optimum checkpoint interval for restart dumps", FGCS 22(3), 2006, equation 37, which refines J. W.
Young, CACM 17(9), 1974: with the cost ``c`` of a save and the mean time ``m`` between interruptions,
``sqrt(2cm) * (1 + sqrt(c / 2m) / 3 + (c / 2m) / 9) - c`` for ``c < 2m``.

Both assume one hazard for ever. Where it changes with age, the best density of saves at each moment is the one for the
hazard of that moment (Y. Ling, J. Mi, X. Lin, "A variational calculus approach to optimal checkpoint placement", IEEE
Transactions on Computers 50(7), 2001, equation 8). So the interval is decided anew at every step's edge.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from spotweld.project.nouns import EveryAuto, EverySeconds, EverySteps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotweld.project.nouns import Every

RISKY = 6.0
"""Interruptions per hour assumed under a rebalance recommendation, one in ten minutes; AWS gives no figure, the
two-minute notice often follows soon."""
SHORTEST, LONGEST = 1.0, 1800.0
"""Bounds of the interval that ``auto`` chooses, seconds."""
INTERFERENCE = 0.25
"""The share of a save's background seconds that it is charged with until that has been measured: it takes memory
bandwidth, a core and the link from training, but not all of them."""
NOTEWORTHY = 0.1
"""The share by which an interval has to change for it to be told."""


class Cost(msgspec.Struct, frozen=True):
    """What a save took."""

    stall: float
    """Seconds that training stood still."""
    seconds: float
    """From the start of the capture until it was published."""
    size: int = 0
    """Bytes that had to be written; 0: not known."""
    delta: bool = False
    """Some of it was written as differences from another checkpoint."""

    @property
    def background(self) -> float:
        """Seconds that it ran beside the training."""
        return max(0.0, self.seconds - self.stall)


class Situation(msgspec.Struct, frozen=True):
    """What is known when a step has ended."""

    costs: tuple[Cost, ...]
    """Of the latest saves, until they were in the fastest tier; none before the first."""
    deliveries: tuple[Cost, ...]
    """Of the latest that were published where they outlive the machine, until then."""
    interference: float | None
    """Seconds by which a save slows down the steps beside it; None: not measured yet."""
    hazard: float
    """Interruptions per machine-hour at this machine's age."""
    age: float
    """Seconds since the machine came up."""
    risky: bool
    """A rebalance recommendation stands."""
    pace: float
    """Seconds of the longest of the latest steps."""
    max_lost_work: float | None
    """Seconds of work that a loss may cost; None: as many as it does."""


class Rule(StrEnum):
    """What an interval comes from."""

    FIRST = "first"
    """What a save costs has to be found out."""
    LEAST_LOSS = "least_loss"
    """Young/Daly."""
    SHORTEST = "shortest"
    LONGEST = "longest"
    ONE_AT_A_TIME = "one_at_a_time"
    """The next save waits until the former is durable."""
    ASKED = "asked"
    """So many steps or seconds."""
    RISK = "risk"
    """Young/Daly in place of what was asked, since the machine is at risk."""
    MAX_LOST_WORK = "max_lost_work"


class Plan(msgspec.Struct, frozen=True):
    """How often to save, and why."""

    interval: float | None
    """Seconds between saves; None: by steps alone."""
    steps: int | None
    """Steps between saves, if that was asked for."""
    rule: Rule
    stall: float | None
    """Seconds that a save holds training up; None: no save has ended yet."""
    interference: float | None
    """Seconds by which it slows down what runs beside it."""
    measured: bool
    """The interference is not ``INTERFERENCE``'s guess."""
    durable: float | None
    """Seconds until a save is where it outlives the machine; None: none has got there yet."""
    hazard: float
    """Interruptions per machine-hour that were reckoned with."""
    age: float
    """Seconds since the machine came up."""
    risky: bool
    max_lost_work: float | None
    kept: bool = True
    """False: saves take too long for ``max_lost_work``; they follow one another without a pause."""


def plan(every: Every, now: Situation) -> Plan:
    """How often to save as things stand."""
    interval, rule = _asked(every, now)
    if now.risky and not isinstance(every, EveryAuto):
        advised, _ = _advised(now)
        if interval is None or advised < interval:
            interval, rule = advised, Rule.RISK
    kept = True
    if now.max_lost_work is not None:
        ceiling, kept = _ceiling(now, now.max_lost_work)
        if interval is None or ceiling < interval or not kept:
            interval = ceiling if interval is None else min(ceiling, interval)
            rule = Rule.MAX_LOST_WORK if now.costs else Rule.FIRST
    return Plan(
        interval=interval,
        steps=every.steps if isinstance(every, EverySteps) else None,
        rule=rule,
        stall=median([cost.stall for cost in now.costs]) if now.costs else None,
        interference=_interference(now) if now.costs else None,
        measured=now.interference is not None,
        durable=median([cost.seconds for cost in now.deliveries]) if now.deliveries else None,
        hazard=_hazard(now),
        age=now.age,
        risky=now.risky,
        max_lost_work=now.max_lost_work,
        kept=kept,
    )


def due(plan: Plan, step: int, saved_step: int, since: float) -> bool:
    """Whether to save now.

    Args:
        plan: how often to save.
        step: steps finished.
        saved_step: of the last snapshot that was taken or restored.
        since: seconds since then.
    """
    if step == saved_step:
        return False
    # Multiples, so that a run saves at the same steps whatever happens to it; a missed one is made up for.
    if plan.steps is not None and step // plan.steps > saved_step // plan.steps:
        return True
    return plan.interval is not None and since >= plan.interval


def differs(new: Plan, old: Plan | None) -> bool:
    """Whether a person should be told of the new plan soon."""
    if old is None or (new.kept, new.risky) != (old.kept, old.risky):
        return True
    if new.interval is None or old.interval is None:
        return new.interval is not old.interval
    return abs(new.interval - old.interval) > NOTEWORTHY * old.interval


def young_daly(cost: float, mean_life: float) -> float:
    """The interval that loses least, in seconds of work between two saves.

    Where a save takes more than twice the mean life, Daly gives the mean life. That would be a jump upwards, so 4/9 of
    the cost, which is what the formula gives there, is kept until it meets the mean life.

    Args:
        cost: seconds that a save takes from training.
        mean_life: mean seconds between interruptions.
    """
    if cost >= 2 * mean_life:
        return min(mean_life, cost * 4 / 9)
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


def _asked(every: Every, now: Situation) -> tuple[float | None, Rule]:
    match every:
        case EverySteps():
            return None, Rule.ASKED
        case EverySeconds(seconds):
            return seconds, Rule.ASKED
        case EveryAuto():
            return _advised(now)


def _advised(now: Situation) -> tuple[float, Rule]:
    """What loses least, within bounds."""
    if not now.costs:
        return SHORTEST, Rule.FIRST
    charge = median([cost.stall for cost in now.costs]) + _interference(now)
    best, durable = young_daly(charge, 3600 / _hazard(now)), median([cost.seconds for cost in now.costs])
    bounded = min(max(best, SHORTEST), LONGEST)
    if durable > bounded:
        return durable, Rule.ONE_AT_A_TIME
    return bounded, Rule.LEAST_LOSS if bounded == best else Rule.SHORTEST if best < bounded else Rule.LONGEST


def _interference(now: Situation) -> float:
    if now.interference is not None:
        return now.interference
    return INTERFERENCE * median([cost.background for cost in now.costs])


def _hazard(now: Situation) -> float:
    return max(now.hazard, RISKY) if now.risky else now.hazard


def _ceiling(now: Situation, most: float) -> tuple[float, bool]:
    """The longest interval after which no more than ``most`` seconds are lost; False: none is short enough.

    The most is lost just before a save becomes durable: the interval before it, the save itself, and the step for which
    it may have had to wait. On its way to a slow tier a save also waits for the former one, as long as that takes.
    """
    if not now.costs:
        return min(SHORTEST, max(most - now.pace, 0.0)), True
    durable = max(cost.seconds for cost in now.deliveries or now.costs)
    ceiling = most - durable - now.pace
    return (ceiling, True) if ceiling >= durable else (durable, False)
