"""How long an image's builds take, by what has changed since the last one, from how long its instructions took.

An instruction runs anew if it has changed, or one that it builds upon has; all others are found in the cache. A build
that loses its machine keeps the instructions that it has finished, and begins anew the one in which it was: a machine
is as likely taken at one moment of the build as at another, and so in an instruction in proportion to its length, half
of which is lost on average: ``sum(t²) / (2 sum(t))`` seconds (the inspection paradox; W. Feller, "An Introduction to
Probability Theory and Its Applications", volume 2, I.4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from spotweld.costs.renewals import Range

if TYPE_CHECKING:
    from collections.abc import Sequence


class Instruction(msgspec.Struct, frozen=True):
    """One instruction of an image."""

    text: str
    """For people."""
    seconds: Range | None
    """That it takes when it runs; None: nobody has seen it run."""
    needs: tuple[int, ...]
    """The places, among the image's instructions, of those that it builds upon directly."""
    real: bool
    """It makes files; the others only say something about the image, and take no time."""


class Course(msgspec.Struct, frozen=True):
    """A build of the image."""

    case: str
    what: str
    """In words."""
    runs: int
    """Instructions that run."""
    of: int
    """All that there are, without those that take no time."""
    seconds: Range | None
    """None: unknown."""


def courses(instructions: Sequence[Instruction], changeover: float) -> tuple[Course, ...]:
    """A build of nothing, of a small and of a big change, and one that loses its machine once.

    Args:
        instructions: in the order of the Dockerfile.
        changeover: seconds until the machine after a lost one is at work.
    """
    real = [place for place, one in enumerate(instructions) if one.real]
    every = frozenset(real)
    found = [
        _course("cold", "nothing is in the cache", instructions, every),
        _course("no change", "the image is in its registry", instructions, frozenset()),
    ]
    for case, places in (("minor", real[-1:]), ("major", real[:1])):
        for place in places:
            what = f"{instructions[place].text} changes"
            found.append(_course(case, what, instructions, _touched(instructions, place) & every))
    if real:
        cold = found[0].seconds
        after = None if cold is None else _after_loss(cold, [instructions[place].seconds for place in real], changeover)
        found.append(Course("after a preemption", "cold, and the machine is lost once", len(real), len(real), after))
    return tuple(found)


def _course(case: str, what: str, instructions: Sequence[Instruction], runs: frozenset[int]) -> Course:
    times = [instructions[place].seconds for place in sorted(runs)]
    known = [one for one in times if one is not None]
    whole = Range(sum(one.low for one in known), sum(one.expected for one in known), sum(one.high for one in known))
    of = sum(one.real for one in instructions)
    return Course(case, what, len(runs), of, whole if len(known) == len(times) else None)


def _touched(instructions: Sequence[Instruction], changed: int) -> frozenset[int]:
    """The instruction that has changed, and all that build upon it."""
    found: set[int] = set()
    more = {changed}
    while more:
        found |= more
        more = {at for at, one in enumerate(instructions) if at not in found and not found.isdisjoint(one.needs)}
    return frozenset(found)


def _after_loss(cold: Range, times: Sequence[Range | None], changeover: float) -> Range:
    known = [one for one in times if one is not None]
    squares = sum(one.expected**2 for one in known)
    half = squares / (2 * cold.expected) if cold.expected else 0.0
    longest = max(one.high for one in known)
    return Range(cold.low + changeover, cold.expected + changeover + half, cold.high + changeover + longest)
