"""How long machines have given no sign of life, by the clock of whoever listens and never by their own."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from spotweld.values.clocks import Clock


class Silences:
    """Of machines that one process listens to, from now on.

    Time in which it could not listen is nobody's silence: while the store does not answer, machines cannot leave their
    signs of life there either, and the first look afterwards may well come before the first sign.

    Args:
        clock: whose monotonic time counts.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[str, tuple[int, float]] = {}
        self._looked = clock.monotonic()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Around what reads signs of life: if it fails, the time since the last look does not count."""
        try:
            yield
        except BaseException:
            self._looked = self._clock.monotonic()
            raise

    def look(self, beats: Mapping[str, int]) -> dict[str, float]:
        """Seconds since the last new beat of each machine, 0 for one that is looked at first.

        Args:
            beats: what every machine's last sign of life says; 0: it has given none. Machines that are not named are
                forgotten.
        """
        now = self._clock.monotonic()
        passed, self._looked = now - self._looked, now
        known, self._known = self._known, {}
        for name, beat in beats.items():
            former, silent = known.get(name, (None, 0.0))
            self._known[name] = beat, silent + passed if beat == former else 0.0
        return {name: silent for name, (_, silent) in self._known.items()}
