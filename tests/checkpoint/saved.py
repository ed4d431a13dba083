"""Checkpoints without a training loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from spotweld.checkpoint.publishing import Publisher
from spotweld.checkpoint.snapshot import capture
from spotweld.checkpoint.staging import Staging
from spotweld.store.heads import take_over
from spotweld.values.clocks import SystemClock

if TYPE_CHECKING:
    from spotweld.store.objects import Objects


def save(store: Objects, state: dict[str, Any], step: int = 1, run: str = "default", keep_last: int = 5) -> None:
    staging, clock = Staging(), SystemClock()
    snapshot = capture(state, step, staging, clock)
    staging.reserve(snapshot.content.sizes)
    snapshot.copy()
    Publisher(store, run, take_over(store, run, 0), clock, keep_last=keep_last, keep_every=0).publish(snapshot)


def model(seed: int = 1) -> torch.nn.Sequential:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
