"""Climbing the ladder beside a build: each rung is sent as soon as its instruction has ended.

The whole document is solved as ever. When an instruction ends there, its rung is solved too; the builder has the result
already, so all that this does is to send it, while the next instruction runs.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

from spotweld.errors import SpotweldError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from spotweld.images.builders.ladder import Rung


class Climber:
    """Sends rungs in a thread of its own, one at a time.

    When several instructions of one stage end while another rung is being sent, they are sent together: the last
    rung holds the others. Leaving the ``with`` block waits until all is sent; after an exception, only for what is
    under way.

    Args:
        send: gets rungs of one stage in order, solves the last one and sends its cache under the tags of all; gives
            what went wrong, or nothing.
    """

    def __init__(self, send: Callable[[tuple[Rung, ...]], str]) -> None:
        self._send = send
        self._waiting: dict[int, list[Rung]] = {}
        self._change = threading.Condition()
        self._over = False
        self._thread = threading.Thread(target=self._climb, name="spotweld-ladder", daemon=True)
        self.troubles: list[str] = []
        """What went wrong, one text for each rung that was not sent."""

    def reached(self, rung: Rung) -> None:
        """The instruction of this rung has ended."""
        with self._change:
            self._waiting.setdefault(rung.stage, []).append(rung)
            self._change.notify()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._change:
            if kind is not None:
                self._waiting.clear()
            self._over = True
            self._change.notify()
        self._thread.join()

    def _climb(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._waiting or self._over)
                if not self._waiting:
                    return
                together = self._waiting.pop(next(iter(self._waiting)))
            try:
                trouble = self._send(tuple(sorted(together, key=lambda rung: rung.number)))
            except (SpotweldError, OSError) as error:
                trouble = str(error)
            if trouble:
                self.troubles.append(trouble)
