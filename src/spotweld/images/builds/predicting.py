"""How long instructions will take: from what they, or those like them, took before."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import msgspec

from spotweld.images.builders.builder import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from spotweld.images.builds.records import Build
    from spotweld.images.steps.preimages import Preimage
    from spotweld.values.digests import Digest

_UNLIKE = (0.3, 3.0)
"""What one time that was seen once says of the next: machines and mirrors differ by about this much."""


class Estimate(msgspec.Struct, frozen=True):
    """Seconds that are expected.

    Attributes:
        seconds: most likely.
        low: hardly less.
        high: hardly more.
        unknown: instructions that nobody has seen run; they count as nothing.
    """

    seconds: float = 0.0
    low: float = 0.0
    high: float = 0.0
    unknown: int = 0

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(
            self.seconds + other.seconds, self.low + other.low, self.high + other.high, self.unknown + other.unknown
        )


def total(estimates: Iterable[Estimate]) -> Estimate:
    """Of one after the other."""
    return sum(estimates, Estimate())


class History:
    """What instructions took in earlier builds.

    Args:
        builds: of one image, newest first; their attempts may have failed.
    """

    def __init__(self, builds: Sequence[Build]) -> None:
        self._same: dict[Digest, list[float]] = {}
        self._alike: dict[tuple[str, str], list[float]] = {}
        self._words: dict[str, list[float]] = {}
        self._found: list[float] = []
        seen: set[tuple[Digest, float]] = set()
        for build in builds:
            for done in build.steps:
                key = done.preimage.key
                # FROM is never reported, and takes what its base takes.
                if done.outcome is Outcome.HIT and done.preimage.instruction.name != "FROM":
                    self._found.append(done.seconds)
                # A hit repeats the time of the run that it is a hit of.
                if done.ran is None or (key, done.ran) in seen:
                    continue
                seen.add((key, done.ran))
                one = done.preimage
                self._same.setdefault(key, []).append(done.ran)
                self._alike.setdefault((one.stage, one.text()), []).append(done.ran)
                self._words.setdefault(one.instruction.name, []).append(done.ran)

    def of(self, preimage: Preimage, *, hit: bool) -> Estimate:
        """What an instruction will take.

        Args:
            preimage: its inputs.
            hit: whether its result is there already.
        """
        word = preimage.instruction.name
        if word == "FROM":
            return Estimate()
        if hit:
            times = self._found
            return Estimate(statistics.median(times), min(times), max(times)) if times else Estimate()
        key = preimage.key
        times = self._same.get(key) or self._alike.get((preimage.stage, preimage.text())) or self._words.get(word, [])
        if not times:
            return Estimate(unknown=1 if word in {"RUN", "COPY", "ADD"} else 0)
        if len(times) == 1:
            return Estimate(times[0], _UNLIKE[0] * times[0], _UNLIKE[1] * times[0])
        return Estimate(statistics.median(times), min(times), max(times))

    def ran(self, key: Digest) -> float | None:
        """Seconds that this very instruction took when it was last run; None: nobody knows."""
        return self._same.get(key, [None])[0]


def share(done: Iterable[Estimate], left: Iterable[Estimate]) -> float:
    """How much of the work is done, 0 to 1; instructions that nobody has seen count like the average of the others."""
    behind, ahead = list(done), list(left)
    known = [one.seconds for one in (*behind, *ahead) if not one.unknown]
    usual = max(statistics.fmean(known), 0.1) if known else 1.0

    def weight(estimates: list[Estimate]) -> float:
        return sum(usual if one.unknown else one.seconds for one in estimates)

    whole = weight(behind) + weight(ahead)
    return weight(behind) / whole if whole else float(not ahead)
