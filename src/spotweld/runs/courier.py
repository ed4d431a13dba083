"""Carries signs of life and what is new in files to the store, in a thread of its own.

A store that hangs must not keep the agent from hearing a notice and passing it on.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, TypeVar

from spotweld.errors import StoreError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from spotweld.runs.shipping import Shipper

T = TypeVar("T")

_BEAT = 1.0
"""Seconds between two signs of life. GCS takes one write per second and object."""
_SHIP = 0.25
_LONGEST_SHIP = 5.0
_SHARE = 400
"""A shipment waits for this part of the age, so that a long run does not consist of a million tiny objects."""
_AFTER_A_FAULT = 1.0


class Courier:
    """Works from ``start`` until ``finish``.

    Args:
        say_alive: writes one sign of life.
        shippers: what is to be shipped.
        url: the store's; a folder bears more objects than a bucket that is paid by the request.
    """

    def __init__(self, say_alive: Callable[[], None], shippers: Sequence[Shipper], url: str) -> None:
        self._say_alive = say_alive
        self._shippers = shippers
        self._shortest = _SHIP if url.startswith(("file:", "memory:")) else 4 * _SHIP
        self._began = time.monotonic()
        self._wake = threading.Event()
        self._over = False
        self._hurried = False
        self._trouble = ""
        self._thread = threading.Thread(target=self._work, name="spotweld-courier", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def hurry(self) -> None:
        """Give a sign of life and ship at once: there may be little time left."""
        self._hurried = True
        self._wake.set()

    def finish(self, patience: float) -> None:
        """Ship the rest and end; after ``patience`` seconds the rest is given up."""
        self._over = True
        self._wake.set()
        until = time.monotonic() + patience
        self._thread.join(patience)
        if self._thread.is_alive():
            say("the store hangs; giving up on the last output")
            return
        for shipper in self._shippers:
            try:
                persist(shipper.ship_all, until - time.monotonic())
            except StoreError as error:
                say(f"{error}; giving up on the last output")

    def _work(self) -> None:
        beat, shipment = 0.0, 0.0
        while not self._over:
            now = time.monotonic()
            hurried, self._hurried = self._hurried, False
            try:
                if hurried or now >= beat:
                    self._say_alive()
                    beat = now + _BEAT
                if hurried or now >= shipment:
                    for shipper in self._shippers:
                        shipper.ship()
                    shipment = now + max(self._shortest, min((now - self._began) / _SHARE, _LONGEST_SHIP))
                self._trouble = ""
            except (StoreError, OSError) as error:
                if str(error) != self._trouble:
                    self._trouble = str(error)
                    say(f"{error}; trying again")
                beat = shipment = now + _AFTER_A_FAULT
            self._wake.wait(max(0.0, min(beat, shipment) - time.monotonic()))
            self._wake.clear()


def persist(act: Callable[[], T], patience: float) -> T:
    """Do it, again and again while the store does not answer, for ``patience`` seconds.

    Raises:
        Unavailable: it never answered.
    """
    until = time.monotonic() + patience
    while True:
        try:
            return act()
        except Unavailable as error:
            if time.monotonic() > until:
                raise
            say(f"{error}; trying again")
            time.sleep(_AFTER_A_FAULT)


def say(text: str) -> None:
    """A line on the machine's console."""
    print(f"spotweld agent: {text}", file=sys.stderr, flush=True)
