"""What the measured loop asks of everybody who saves its state, and what all peers have in common."""

from __future__ import annotations

import importlib
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec

from checkpoints.states import Training


class LeftOut(Exception):
    """A contender that cannot run here, and why."""


class Contender(Protocol):
    """Saves one training's state and restores it. All methods are for the training thread."""

    def begin(self) -> None:
        """Save the state as it is; returns when the training may go on."""

    def before_update(self) -> None:
        """Called in each step between the gradients and the update."""

    def after_step(self) -> None:
        """Called after each step."""

    def finished(self) -> float | None:
        """Seconds from the start of the latest save to its end as the contender itself sees it; None: it still runs."""

    def newest(self) -> Path:
        """The folder with the newest checkpoint."""

    def tidy(self) -> None:
        """Remove older checkpoints. Not measured."""

    def close(self) -> None:
        """Stop everything that was started."""


class Pending(msgspec.Struct, frozen=True):
    """A save that goes on in the background. Both block until something is done, and raise if it failed."""

    stored: Callable[[], object]
    staged: Callable[[], object] | None = None
    """Until then the state must not be updated."""


class Peer(msgspec.Struct, frozen=True):
    """How another library saves and restores."""

    write: Callable[[dict[str, Any], Path], Pending | None]
    """Nested state dicts into a new folder."""
    read: Callable[[Training, Path], None]
    """From such a folder into a training."""
    close: Callable[[], None] = lambda: None


class PeerSaves:
    """A peer in the role of a contender: each save has a folder of its own, and the one before goes when it is done."""

    def __init__(self, peer: Peer, training: Training, folder: Path) -> None:
        self._peer, self._training, self._folder = peer, training, folder
        self._saves = 0
        self._pending: Pending | None = None
        self._waiter: threading.Thread | None = None
        self._seconds: float | None = None
        self._error: BaseException | None = None

    def begin(self) -> None:
        began = time.perf_counter()
        self._saves += 1
        self.newest().mkdir(parents=True)
        self._seconds = None
        self._pending = self._peer.write(self._training.parts(), self.newest())
        if self._pending is None:
            self._seconds = time.perf_counter() - began
            return
        self._waiter = threading.Thread(target=self._wait, args=(self._pending, began), daemon=True)
        self._waiter.start()

    def before_update(self) -> None:
        if self._pending is not None and self._pending.staged is not None:
            self._pending.staged()

    def after_step(self) -> None:
        pass

    def finished(self) -> float | None:
        if self._waiter is not None and not self._waiter.is_alive():
            self._waiter, self._pending = None, None
            if self._error is not None:
                raise self._error
        return self._seconds if self._waiter is None else None

    def newest(self) -> Path:
        return self._folder / f"save-{self._saves}"

    def tidy(self) -> None:
        for folder in self._folder.glob("save-*"):
            if folder != self.newest():
                shutil.rmtree(folder)

    def close(self) -> None:
        self._peer.close()

    def _wait(self, pending: Pending, began: float) -> None:
        try:
            pending.stored()
            self._seconds = time.perf_counter() - began
        except BaseException as error:  # noqa: BLE001  told by ``finished``
            self._error = error


def optional(name: str) -> Any:  # noqa: ANN401  libraries without types
    """Import a library that may not be there.

    Raises:
        LeftOut: it is not, or does not start.
    """
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise LeftOut(f"{name} cannot be imported: {type(error).__name__}: {error}") from error
