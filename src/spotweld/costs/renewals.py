"""How long a job keeps machines that may be taken from under it, by how long machines live.

A machine needs ``changeover`` seconds until the program goes on, then works, and may be taken at any age. The next one
begins at age 0 again: a renewal process. Ages matter, since young machines are taken far more often than old ones, so
the hazard is the table by age that cadence and placement go by (``checkpoint.hazard``). With ``S(a)`` for the chance
that a machine reaches the age ``a``, and ``G(a)`` for the integral of ``S`` from 0 to ``a``, the mean life up to it:

- Without checkpoints each machine begins with all of the work, ``d`` seconds with the changeover. As many machines are
  needed as tries until one lives that long, so their time is ``G(d) / S(d)`` in the mean. With one hazard ``h`` for all
  ages that is ``(exp(h d) - 1) / h``, the form known from Daly (FGCS 22(3), 2006, equation 1); for any law of lives see
  Asmussen, Fiorini, Lipsky, Rolski and Sheahan, "Asymptotic Behavior of Total Times for Jobs That Must Start Over If a
  Failure Occurs", Mathematics of Operations Research 33(4), 2008.
- With checkpoints a machine leaves behind all cadences that it has finished. How many are left is a Markov chain over
  the interruptions, and its law is computed exactly, interruption by interruption.

What is counted is time that is paid: waiting between two machines costs nothing. Saves take no time from the program.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    from typing import TypeAlias

    import numpy.typing as npt

    from spotweld.checkpoint.hazard import Hazard

    Floats: TypeAlias = npt.NDArray[np.float64]

_HOUR = 3600.0
LOW, HIGH = 0.1, 0.9
"""The shares of jobs that are interrupted no more often than the low and the high figure say."""
FINEST = 4096
"""Parts into which the work is cut at most; saves that are closer count as that far apart."""
_MOST = 2000
"""Interruptions after which a job is taken never to end."""
_LONGEST = 10 * 365 * 24 * _HOUR
"""The same of seconds."""
_REST = 1e-9
"""Jobs that may still be under way when the reckoning stops, as a share."""


class Range(msgspec.Struct, frozen=True):
    """A figure that is not known for certain."""

    low: float
    expected: float
    high: float

    @classmethod
    def exactly(cls, value: float) -> Range:
        """A figure that is."""
        return cls(value, value, value)


class Faced(msgspec.Struct, frozen=True):
    """What a job meets on its way: one job in ten has less than the low figures, one in ten more than the high ones."""

    interruptions: Range
    seconds: Range
    """Of machines, from each one's start on. ``low`` and ``high`` are the means at so many interruptions."""


def with_checkpoints(hazard: Hazard, work: float, changeover: float, cadence: float) -> Faced | None:
    """A job that saves.

    Args:
        hazard: how often machines are taken, by their age.
        work: seconds on a machine that is never lost.
        changeover: seconds from a machine's start until the program goes on.
        cadence: seconds between two saves.

    Returns:
        None: it would hardly ever end, as machines are taken before a save.
    """
    count = min(math.ceil(work / cadence), FINEST)
    part = max(cadence, work / count)
    # A machine that is taken between two neighbours leaves as many parts as there are before the first of them.
    ages: Floats = changeover + part * np.arange(count + 1, dtype=np.float64)
    ages[0] = 0.0
    ends: Floats = changeover + work - part * np.arange(count, dtype=np.float64)
    alive, mean = _alive(hazard, ages), _lives_until(hazard, ages)
    alive_at_end, mean_at_end = _alive(hazard, ends), _lives_until(hazard, ends)
    leaves, takes = alive[:-1] - alive[1:], mean[1:] - mean[:-1]
    # Into the last part, which may be shorter than the others.
    last, last_takes = (alive[:-1] - alive_at_end[::-1])[::-1], (mean_at_end[::-1] - mean[:-1])[::-1]
    here, spent = np.zeros(count), np.zeros(count)
    here[0] = 1.0
    chances, times = [], []
    for _ in range(_MOST):
        ended = here * alive_at_end
        chances.append(float(ended.sum()))
        times.append(float((spent * alive_at_end + ended * ends).sum()))
        if sum(chances) > 1.0 - _REST:
            return _faced(np.array(chances), np.array(times))
        into_last = float(here @ last), float(spent @ last + here @ last_takes)
        here, spent = _beyond(here, leaves), _beyond(spent, leaves) + _beyond(here, takes)
        here[-1], spent[-1] = into_last
    return None


def without_checkpoints(hazard: Hazard, work: float, changeover: float) -> Faced | None:
    """A job that begins anew on each machine. The arguments and what is returned are those of ``with_checkpoints``."""
    whole = changeover + work
    reached = float(_alive(hazard, np.array([whole]))[0])
    mean = float(_lives(hazard, np.array([whole]))[0])
    if mean > _LONGEST * reached:
        return None
    lost = 1.0 - reached
    a_try = float(_lives_until(hazard, np.array([whole]))[0]) / lost if lost else 0.0
    low, high = (_tries(lost, share) for share in (LOW, HIGH))
    return Faced(_around(low, lost / reached, high), _around(low * a_try + whole, mean / reached, high * a_try + whole))


def interrupted(times: int, work: float, changeover: float, cadence: float) -> Range:
    """Seconds of machines for a job that is interrupted so often: each costs a changeover and half a cadence.

    An interruption is as likely at one moment between two saves as at another; ``low`` loses nothing each time, and
    ``high`` a whole cadence (J. W. Young, CACM 17(9), 1974).
    """
    least = work + changeover * (1 + times)
    lost = times * min(cadence, work)
    return Range(least, least + lost / 2, least + lost)


def _faced(chances: Floats, times: Floats) -> Faced:
    """From the chance of each number of interruptions, and the mean time where it came to that, times the chance."""
    at = np.searchsorted(np.cumsum(chances), (LOW, HIGH))
    low, high = (float(times[place] / chances[place]) for place in at)
    often = float(chances @ np.arange(len(chances)))
    return Faced(_around(float(at[0]), often, float(at[1])), _around(low, float(times.sum()), high))


def _around(low: float, mean: float, high: float) -> Range:
    """A mean may lie beyond a decile, where few jobs have far more than all others; the range reaches it then."""
    return Range(min(low, mean), mean, max(high, mean))


def _tries(lost: float, share: float) -> int:
    """Machines that this share of the jobs lose at most, where each is lost with that chance."""
    return max(0, math.ceil(math.log1p(-share) / math.log(lost)) - 1) if 0.0 < lost < 1.0 else 0


def _beyond(here: Floats, moves: Floats) -> Floats:
    """Where jobs are next, from where they are and how far they go."""
    count, size = len(here), 2 * len(here)
    found: Floats = np.fft.irfft(np.fft.rfft(here, size) * np.fft.rfft(moves, size), size)[:count]
    return np.maximum(found, 0.0)


def _alive(hazard: Hazard, ages: Floats) -> Floats:
    """The chance to reach each age."""
    return _walk(hazard, ages)[0]


def _lives(hazard: Hazard, ages: Floats) -> Floats:
    """The mean of lives that are cut off at each age."""
    return _walk(hazard, ages)[1]


def _lives_until(hazard: Hazard, ages: Floats) -> Floats:
    """The mean of lives that end before each age, where longer ones count as 0."""
    alive, lives = _walk(hazard, ages)
    found: Floats = lives - ages * alive
    return found


def _walk(hazard: Hazard, ages: Floats) -> tuple[Floats, Floats]:
    """The chance to reach each age, and the integral of it until there: exact, as rates are constant between edges."""
    begins = np.array([rate.age for rate in hazard])
    rates = np.array([rate.hourly for rate in hazard]) / _HOUR
    passed = [0.0]
    for (one, other), rate in zip(pairwise(begins), rates[:-1], strict=True):
        passed.append(passed[-1] + rate * (other - one))
    survive = np.exp(-np.array(passed))
    whole = np.append(0.0, np.cumsum(survive[:-1] * -np.expm1(-np.diff(passed)) / rates[:-1]))
    which = np.searchsorted(begins, ages, side="right") - 1
    beyond = rates[which] * (ages - begins[which])
    return survive[which] * np.exp(-beyond), whole[which] + survive[which] * -np.expm1(-beyond) / rates[which]
