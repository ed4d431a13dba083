"""Which codec a chunk gets: what was measured on chunks of the same kind says what is worth its time.

A save encodes chunks on some threads while others go over the link to the store, so a codec costs whichever takes
longer, its seconds over the threads or its bytes over the link. Where the link is fast, nothing is faster than ``raw``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from spotweld.checkpoint.codecs import RAW

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

_DELTA = "delta"
_CLEARLY = 0.97
"""A codec must beat ``raw`` by this much, and a difference must beat what stands alone: it ties a chunk to another."""
_MEMORY = 64 * 2**20
"""Raw bytes after which what was measured before counts half."""
_EARLY = 64
"""So many chunks of a kind are its first ones, in which each codec is tried on one chunk in ``_OFTEN``."""
_OFTEN = 16
_SELDOM = 128
"""Later each codec is tried again on one chunk in so many: differences grow, gradients die down, other jobs come."""
_HOPELESS = 2.0
"""A codec that is so many times as bad as the best is not tried again, as long as the link stays as it is."""


class Goal(StrEnum):
    """What a codec is chosen for."""

    TIME = "time"
    """The state is durable as early as can be."""
    BYTES = "bytes"
    """As few bytes as can be."""


class Choice(msgspec.Struct, frozen=True):
    """A codec, and what is expected of it."""

    codec: str
    ratio: float = 1.0
    """Stored bytes over raw bytes."""
    seconds: float = 0.0
    """To encode a raw byte, by all threads together."""

    def time(self, link: float) -> float:
        """Seconds a raw byte, by the slower of encoding and sending at ``link`` bytes a second."""
        return max(self.seconds, self.ratio / link)


class Trial(msgspec.Struct, frozen=True):
    """What a codec did on chunks of one kind; newer ones count more."""

    raw: float
    """Bytes."""
    stored: float
    """Bytes."""
    seconds: float
    """Of one thread, to encode them."""
    times: int = 1
    """How often it was tried."""

    def choice(self, codec: str, threads: int) -> Choice:
        """What is expected of the codec on that many threads."""
        return Choice(codec, self.stored / self.raw, self.seconds / self.raw / threads)


def choose(trials: Mapping[str, Trial], *, goal: Goal, threads: int, link: float | None) -> Choice:
    """The best of the codecs that were tried, or ``raw``.

    Args:
        trials: by codec. Those of ``deltaN`` only where there is a base.
        goal: see ``Goal``.
        threads: how many encode at a time; at least 1.
        link: bytes a second, more than 0; None: not known yet, and then time is no reason to choose anything.
    """
    tried = [trial.choice(codec, threads) for codec, trial in trials.items() if codec != RAW]
    alone = min((choice.ratio for choice in tried if not choice.codec.startswith(_DELTA)), default=1.0)
    worth = _CLEARLY * min(1.0, alone)
    tried = [choice for choice in tried if choice.ratio <= (worth if choice.codec.startswith(_DELTA) else _CLEARLY)]
    if goal is Goal.BYTES:
        return min(tried, key=lambda choice: (choice.ratio, choice.seconds), default=Choice(RAW))
    if link is None:
        return Choice(RAW)
    tried = [choice for choice in tried if choice.time(link) <= _CLEARLY / link]
    return min(tried, key=lambda choice: (choice.time(link), choice.ratio), default=Choice(RAW))


class Chooser:
    """Tries codecs on a few chunks of each kind and uses the best on the others.

    A kind is what chunks that compress alike have in common, say a part of the state and a dtype. Several threads may
    use one chooser: at worst something that was learned is lost.
    """

    def __init__(self, *, goal: Goal = Goal.TIME, threads: int = 1, link: float | None = None) -> None:
        self.goal = goal
        self.threads = threads
        self.link = link
        """Bytes a second to the store, as last measured; whoever measures it sets it."""
        self._seen: dict[Hashable, int] = {}
        self._trials: dict[Hashable, dict[str, Trial]] = {}

    def codec_for(self, kind: Hashable, names: Sequence[str]) -> str:
        """The codec for the next chunk of that kind, one of ``names``, which begin with ``raw``."""
        seen = self._seen[kind] = self._seen.get(kind, -1) + 1
        turn = seen % (_OFTEN if seen < _EARLY else _SELDOM) + 1
        best = self.choice(kind, names)
        if turn < len(names) and not self._hopeless(self._trials.get(kind, {}).get(names[turn]), best):
            return names[turn]
        return best.codec

    def choice(self, kind: Hashable, names: Sequence[str]) -> Choice:
        """What chunks of that kind get when nothing is tried."""
        trials = {codec: trial for codec, trial in self._trials.get(kind, {}).items() if codec in names}
        return choose(trials, goal=self.goal, threads=self.threads, link=self.link)

    def learn(self, kind: Hashable, codec: str, raw: int, stored: int, seconds: float) -> None:
        """Take in that ``raw`` bytes became ``stored`` bytes in ``seconds`` on one thread."""
        if codec == RAW or raw <= 0:
            return
        trials = self._trials.setdefault(kind, {})
        before, now = trials.get(codec), Trial(raw, stored, seconds)
        if before is None or before.times == 1:  # the first one is cold: modules to import, memory to touch
            trials[codec] = msgspec.structs.replace(now, times=1 if before is None else 2)
            return
        weight = 0.5 ** (raw / _MEMORY)
        trials[codec] = Trial(
            before.raw * weight + raw,
            before.stored * weight + stored,
            before.seconds * weight + seconds,
            before.times + 1,
        )

    def _hopeless(self, trial: Trial | None, best: Choice) -> bool:
        if trial is None or trial.times == 1:
            return False
        tried = trial.choice("", self.threads)
        if self.goal is Goal.BYTES:
            return tried.ratio > _HOPELESS * best.ratio
        return self.link is not None and tried.time(self.link) > _HOPELESS * best.time(self.link)
