"""Generators of a rank that the checkpoint knows, and of one that it does not."""

from __future__ import annotations

import random
import sys
from typing import Any

from blake3 import blake3

from spotweld.checkpoint.rng import restore_rng


def restore_or_derive(states: Any, rank: int, ranks: int, step: int) -> None:  # noqa: ANN401
    """Set this rank's generators.

    A rank that was there then goes on where it was. A new one is seeded from the last old rank's generators and its
    own number, so that the same resume always draws the same numbers, and no two ranks draw alike.

    Args:
        states: of the rank with this number, or of the last one if there was none.
        rank: this one's.
        ranks: how many saved the checkpoint.
        step: of the checkpoint.
    """
    restore_rng(states)
    if rank < ranks:
        return
    words = blake3(f"spotweld rank {rank} step {step} {random.getrandbits(256)}".encode()).digest(length=16)
    random.seed(words)
    if "numpy.random" in sys.modules:
        import numpy as np  # noqa: PLC0415

        np.random.seed(int.from_bytes(words[:4], "little"))  # noqa: NPY002 - the generator that programs use
    if "torch" in sys.modules:
        import torch  # noqa: PLC0415

        torch.manual_seed(int.from_bytes(words[4:11], "little"))
