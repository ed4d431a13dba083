"""A small PyTorch training that kills itself: ``mlp.py TOTAL EVERY KILL_AT``."""

from __future__ import annotations

import hashlib
import os
import signal
import sys

import torch
from torch.utils.data import DataLoader, TensorDataset

from spotweld import Checkpointer, Sampler


def train(total: int, every: int | str, kill_at: int = -1, *, store: str | None = None) -> str:
    """Train; a digest of weights, optimizer, schedule and losses."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(8, 32), torch.nn.Dropout(0.3), torch.nn.BatchNorm1d(32), torch.nn.Linear(32, 2)
    )
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=total)
    data = TensorDataset(torch.randn(60, 8), torch.randint(0, 2, (60,)))
    sampler = Sampler(60, 8, seed=3)
    batches = sampler.batches(DataLoader(data, batch_sampler=sampler))
    log: dict[str, list[float]] = {"losses": []}
    state = {"model": model, "optimizer": optimizer, "schedule": schedule, "sampler": sampler, "log": log}
    checkpointer = Checkpointer(state, store=store, every=every)
    for step in checkpointer.steps(total):
        inputs, labels = next(batches)
        loss = torch.nn.functional.cross_entropy(model(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        log["losses"].append(loss.item())
        checkpointer.log(loss=loss)
        if step == kill_at:
            # Steps take a millisecond: no save may have ended yet, or even have been due.
            saves = checkpointer._session._saves
            while saves.durable is None:
                saves.begin(step + 1, "request")
                saves.wait(1.0)
                saves.settle()
            os.kill(os.getpid(), signal.SIGKILL)
    digest = hashlib.sha256(repr((log, schedule.state_dict(), sampler.state_dict())).encode())
    for value in [*model.state_dict().values(), *(v for s in optimizer.state.values() for v in s.values())]:
        digest.update(value.detach().numpy().tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    torch.set_num_threads(1)
    every = sys.argv[2]
    sys.stdout.write(train(int(sys.argv[1]), int(every) if every.isdigit() else every, int(sys.argv[3])))
