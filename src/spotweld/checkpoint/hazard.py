"""How often machines are taken, by their age: a table that begins with recorded traces and learns from lives seen.

Lives are heavy-tailed: a machine that has lasted a day will rather last another day than one that has just come up
will last an hour. So there is no one mean life, and the hazard is a table of rates, constant between two ages.

What is seen corrects the table as in a gamma-Poisson model, which is the conjugate one for a rate that is constant
within an interval (Gelman et al., "Bayesian Data Analysis", 3rd edition, 2.6): first one factor for all ages, since a
zone that is worse is mostly worse at every age, then each age by itself, which learns a limit such as the 24 hours of
Google's preemptible machines.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_HOUR = 3600.0


class Rate(msgspec.Struct, frozen=True, array_like=True):
    """The hazard from an age on, until the next one."""

    age: float
    """Seconds since the machine came up."""
    hourly: float
    """Interruptions per machine-hour."""


Hazard: TypeAlias = tuple[Rate, ...]
"""Rising ages, the first of them 0."""


class Life(msgspec.Struct, frozen=True):
    """How long a machine was seen."""

    seconds: float
    taken: bool
    """False: it ended for another reason, or it goes on."""


USUAL: Hazard = tuple(
    Rate(hours * _HOUR, hourly)
    for hours, hourly in ((0, 1.5), (0.5, 0.8), (1, 0.45), (2, 0.19), (4, 0.14), (8, 0.095), (24, 0.025))
)
"""Spot machines of which nothing is known: deaths over exposure in the availability traces of AWS p3.2xlarge in 2023
(skypilot-org/spot-traces, of "Can't Be Late", Wu et al., NSDI'24; 1,106 deaths in 27 days) and of GCP a3-highgpu-1g in
2025 (andylizf/skynomad-artifact; 12,128 deaths in 9 days), rounded between the two. From half an hour to a day they
differ by less than a third; below that they give 1.2 and 2.0, as far as ticks of 3 and 10 minutes can tell."""
STEADY: Hazard = (Rate(0.0, 6.5 / 24_000),)
"""Machines that are not taken away but do fail: 6.5 failures in a thousand days of a machine with eight GPUs (Kokolis
et al., "Revisiting Reliability in Large-Scale Machine Learning Research Clusters", HPCA 2025, the larger cluster)."""
_TRUST_IN_LEVEL = 2.0
"""Interruptions that a table's general level is worth, against those that are seen."""
_TRUST_IN_SHAPE = 1.0
"""The same for each of its ages."""


def hourly(hazard: Hazard, age: float) -> float:
    """Interruptions per machine-hour at this age in seconds."""
    return next(rate.hourly for rate in reversed(hazard) if rate.age <= max(age, 0.0))


def informed(hazard: Hazard, lives: Iterable[Life]) -> Hazard:
    """The table after these lives have been seen. An interruption never lowers a rate, nor a longer life raises one."""
    deaths, hours = [0] * len(hazard), [0.0] * len(hazard)
    for life in lives:
        spans = list(_spans(hazard, life.seconds))
        for at, seconds in enumerate(spans):
            hours[at] += seconds / _HOUR
        if life.taken:
            deaths[max(len(spans) - 1, 0)] += 1
    expected = sum(rate.hourly * time for rate, time in zip(hazard, hours, strict=True))
    level = (_TRUST_IN_LEVEL + sum(deaths)) / (_TRUST_IN_LEVEL + expected)
    return tuple(
        Rate(rate.age, (_TRUST_IN_SHAPE + died) / (_TRUST_IN_SHAPE / (level * rate.hourly) + time))
        for rate, died, time in zip(hazard, deaths, hours, strict=True)
    )


def spelled(hazard: Hazard) -> str:
    """The table as the environment carries it: ``[[0.0,1.5],[1800.0,0.8]]``."""
    return msgspec.json.encode(hazard).decode()


def read(text: str | None) -> Hazard | None:
    """The table from the environment, or a plain number, which holds at every age; None: nothing that makes sense.

    It is advice only: what cannot be read is as good as nothing observed.
    """
    try:
        found = msgspec.json.decode(text or "", type=float | Hazard)
    except msgspec.MsgspecError:
        return None
    hazard = (Rate(0.0, found),) if isinstance(found, float) else found
    rates = all(0 < rate.hourly < math.inf for rate in hazard)
    rising = all(one.age < other.age for one, other in pairwise(hazard))
    return hazard if hazard and hazard[0].age == 0 and rates and rising else None


def _spans(hazard: Hazard, seconds: float) -> Iterator[float]:
    """How much of a life was spent at each of the table's ages that it reached."""
    ends = [rate.age for rate in hazard[1:]]
    for rate, end in zip(hazard, [*ends, math.inf], strict=True):
        if rate.age < seconds:
            yield min(seconds, end) - rate.age
