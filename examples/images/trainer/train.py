"""Find the weights of a linear model by gradient descent, in a way that survives the loss of the machine."""

from __future__ import annotations

import os
import time

import numpy as np

from spotweld import Checkpointer

STEPS = int(os.environ.get("STEPS", "300"))

rng = np.random.default_rng(1)
truth = rng.normal(size=64)
data = rng.normal(size=(4096, 64))
target = data @ truth + 0.1 * rng.normal(size=4096)
weights = np.zeros(64)

checkpointer = Checkpointer({"weights": weights})
for step in checkpointer.steps(STEPS):
    rows = np.random.default_rng(step).integers(0, len(data), 64)
    error = data[rows] @ weights - target[rows]
    weights -= 0.03 * data[rows].T @ error / len(rows)
    checkpointer.log(loss=float(np.mean(error**2)))
    time.sleep(0.05)

print(f"distance to the truth: {np.linalg.norm(weights - truth):.4f}")
