"""Accelerate with prepared objects; its loader fetches a batch ahead: ``accelerated plain|stateful``.

On several processes ``plain`` alone.
"""

from __future__ import annotations

import hashlib
import sys

import fate
import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from torch.utils.data import DataLoader, TensorDataset

from spotweld import Checkpointer
from spotweld.checkpoint.adapters.loaders import Resumable
from spotweld.checkpoint.distributed import DistributedCheckpointer


class Noisy(TensorDataset):
    def __getitem__(self, index):  # noqa: ANN001, ANN204
        inputs, label = super().__getitem__(index)
        return (inputs if sys.argv[1] == "stateful" else inputs + 0.1 * torch.randn(8)), label


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    stateful = sys.argv[1] == "stateful"
    config = DataLoaderConfiguration(use_stateful_dataloader=stateful, use_seedable_sampler=stateful)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2, dataloader_config=config)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Dropout(0.3), torch.nn.Linear(16, 2))
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 5, 0.7)
    data = Noisy(torch.randn(50, 8), torch.randint(0, 2, (50,)))
    loader = DataLoader(data, batch_size=4, shuffle=True)
    model, optimizer, schedule, loader = accelerator.prepare(model, optimizer, schedule, loader)
    resumable = Resumable(loader)
    batches = resumable.batches()
    state, own = {"model": model, "optimizer": optimizer, "schedule": schedule}, {"loader": resumable}
    if fate.ranks() > 1:
        checkpointer: Checkpointer = DistributedCheckpointer(state, per_rank=own, every=2)
    else:
        checkpointer = Checkpointer(state | own, every=2)
    for step in checkpointer.steps(24):
        loss = torch.zeros(())
        while True:  # Accelerate also steps at the end of an epoch, where fewer batches are left
            with accelerator.accumulate(model):
                inputs, labels = next(batches)
                part = torch.nn.functional.cross_entropy(model(inputs), labels)
                accelerator.backward(part)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                loss += part.detach()
            if accelerator.sync_gradients:
                break
        fate.tell(step, [loss.item().hex(), schedule.get_last_lr()[0].hex()])
        fate.step_done(step)
    digest = hashlib.sha256(repr(schedule.state_dict()).encode())
    for value in [*model.state_dict().values(), *(v for s in optimizer.state.values() for v in s.values())]:
        digest.update(value.detach().numpy().tobytes())
    sys.stdout.write(digest.hexdigest())
