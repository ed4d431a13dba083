"""torchdata's loader with two workers, shuffled, in a plain loop: ``streamed``. Tells which samples were trained on."""

from __future__ import annotations

import hashlib
import sys

import fate
import torch
from torchdata.stateful_dataloader import StatefulDataLoader

from spotweld import Checkpointer
from spotweld.checkpoint.adapters.loaders import Resumable


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    weight = torch.zeros(50)
    loader = Resumable(StatefulDataLoader(range(50), batch_size=6, shuffle=True, num_workers=2))
    batches = loader.batches()
    for step in Checkpointer({"weight": weight, "loader": loader}, every=2).steps(40):
        batch = next(batches)
        weight[batch] += torch.rand(len(batch))
        fate.tell(step, [loader.epoch, batch.tolist(), weight.sum().item().hex()])
        fate.step_done(step)
    sys.stdout.write(hashlib.sha256(weight.numpy().tobytes()).hexdigest())
