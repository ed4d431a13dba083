"""NumPy and nothing else: a regression in a process that cannot import PyTorch: ``lean``."""

from __future__ import annotations

import hashlib
import sys

import fate
import numpy as np

from spotweld import Checkpointer, Sampler


class NoTorch:
    def find_spec(self, name, *_):  # noqa: ANN001, ANN002, ANN201
        if name.partition(".")[0] in {"torch", "jax"}:
            raise ImportError(name)


def main() -> None:
    sys.meta_path.insert(0, NoTorch())
    np.random.seed(1)  # noqa: NPY002
    data, wanted = np.random.randn(50, 8), np.random.randn(50)  # noqa: NPY002
    weights, velocity = np.zeros(8), np.zeros(8)
    sampler = Sampler(50, 6, seed=3)
    state = {"weights": weights, "velocity": velocity, "sampler": sampler}
    for step in Checkpointer(state, every=2).steps(40):
        batch = sampler.next()
        noisy = data[batch] + 0.1 * np.random.randn(len(batch), 8)  # noqa: NPY002
        error = noisy @ weights - wanted[batch]
        velocity[:] = 0.9 * velocity - 0.01 * noisy.T @ error
        weights += velocity
        fate.tell(step, float((error**2).mean()).hex())
        fate.step_done(step)
    sys.stdout.write(hashlib.sha256(weights.tobytes() + velocity.tobytes()).hexdigest())
