"""Training through a tier to a store: ``tiered.py TOTAL EVERY PAUSE COMPRESS TIER|- [same-thread]``.

Its weights are large enough for codecs and for files past the page cache, and change a little in every step, so that
differences from a base are worth it.
"""

from __future__ import annotations

import hashlib
import sys
import time
from threading import current_thread
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from spotweld import Checkpointer, Sampler
from spotweld.checkpoint import relaying
from spotweld.checkpoint.relaying import Load, Relay
from spotweld.checkpoint.saving import Saver

if TYPE_CHECKING:
    from spotweld.checkpoint.snapshot import Snapshot

SIZE = 300_000
"""Numbers of 4 bytes: more than 1 MiB."""


def train(
    total: int, every: int, pause: float = 0.0, compress: str = "none", tier: str = "-", *, store: str | None = None
) -> str:
    """Train; a digest of the last state."""
    np.random.seed(2)  # noqa: NPY002
    weights = np.random.standard_normal(SIZE).astype("<f4")  # noqa: NPY002
    log: dict[str, list[float]] = {"losses": []}
    sampler = Sampler(50, 7, seed=3)
    state: dict[str, Any] = {"model": {"w": weights}, "log": log, "sampler": sampler}
    tiers = [] if tier == "-" else [tier]
    for _ in Checkpointer(state, store=store, every=every, keep_last=2, tiers=tiers, compress=compress).steps(total):
        batch = sampler.next()
        weights[batch[0] :: 11] *= np.float32(1 + np.random.standard_normal() / 1e4)  # noqa: NPY002
        log["losses"].append(float(weights[batch].sum()))
        if pause:
            time.sleep(pause)
    return hashlib.sha256(weights.tobytes() + repr((log, sampler.state_dict())).encode()).hexdigest()


class _Now:
    """A thread that has run when ``start`` returns."""

    def __init__(self, target: Any, args: tuple[Any, ...] = (), **_: object) -> None:  # noqa: ANN401
        self._target, self._args = target, args

    def start(self) -> None:
        self._target(*self._args)

    def join(self) -> None:
        pass


def _save(self: Saver, snapshot: Snapshot, reason: str) -> None:
    snapshot.copy(self._publisher.unchanged)
    self._run(snapshot, reason)


def _offer(self: Relay, load: Load) -> None:
    self._waiting = load
    self._thread = current_thread()
    self._run()


def in_one_thread() -> None:
    """Save and carry in the training thread, so that system calls come in one order and can be counted."""
    Saver.start = _save  # type: ignore[method-assign]
    Relay.offer = _offer  # type: ignore[method-assign]
    real = relaying.threading
    relaying.threading = SimpleNamespace(Thread=_Now, Lock=real.Lock, Event=real.Event)  # type: ignore[assignment]


if __name__ == "__main__":
    if "same-thread" in sys.argv:
        in_one_thread()
    sys.stdout.write(train(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), *sys.argv[4:6]))
