"""A training loop of NumPy's size, quick to start and to kill: ``walk.py TOTAL EVERY PAUSE [same-thread]``."""

from __future__ import annotations

import hashlib
import random
import sys
import time
from typing import TYPE_CHECKING

import numpy as np

from spotweld import Checkpointer, Sampler
from spotweld.checkpoint.saving import Saver

if TYPE_CHECKING:
    from spotweld.checkpoint.snapshot import Snapshot


def train(total: int, every: int, pause: float = 0.0, *, store: str | None = None) -> str:
    """Walk; a digest of the last state and of every random number on the way."""
    random.seed(1)
    np.random.seed(2)  # noqa: NPY002
    weights = np.zeros(200)
    log: dict[str, list[float]] = {"losses": []}
    sampler = Sampler(50, 7, seed=3)
    checkpointer = Checkpointer(
        {"weights": weights, "log": log, "sampler": sampler}, store=store, every=every, keep_last=2
    )
    for _ in checkpointer.steps(total):
        batch = sampler.next()
        weights[batch] += np.random.standard_normal(len(batch))  # noqa: NPY002
        log["losses"].append(random.random() + float(weights.sum()))
        checkpointer.log(loss=log["losses"][-1])
        if pause:
            time.sleep(pause)
    return hashlib.sha256(weights.tobytes() + repr((log, sampler.state_dict())).encode()).hexdigest()


def in_this_thread(self: Saver, snapshot: Snapshot, reason: str) -> None:
    """``Saver.start`` without a thread, so that system calls come in one order and can be counted."""
    snapshot.copy(self._publisher.unchanged)
    self._run(snapshot, reason)


if __name__ == "__main__":
    if "same-thread" in sys.argv:
        Saver.start = in_this_thread  # type: ignore[method-assign]
    sys.stdout.write(train(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
