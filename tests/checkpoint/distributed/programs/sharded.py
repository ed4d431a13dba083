"""A small sharded training: ``sharded.py TOTAL EVERY [KIND] [PAUSE]``; every rank prints a digest of the state."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from spotweld import Sampler
from spotweld.checkpoint.distributed import DistributedCheckpointer


def whole(value: Any) -> torch.Tensor:  # noqa: ANN401
    return value.full_tensor() if isinstance(value, DTensor) else value


def digest(model: torch.nn.Module, optimizer: torch.optim.Optimizer, *others: object) -> str:
    found = hashlib.sha256(repr(others).encode())
    for name, value in model.state_dict().items():
        found.update(name.encode() + whole(value).detach().numpy().tobytes())
    for entries in optimizer.state_dict()["state"].values():
        for name, value in sorted(entries.items()):
            found.update(name.encode() + whole(value).numpy().tobytes())
    return found.hexdigest()


def build(kind: str) -> torch.nn.Module:
    torch.manual_seed(0)
    wide = 36 if kind in {"tp", "2d"} else 33  # FSDP has shards of different sizes, tensor parallelism may not
    model = torch.nn.Sequential(
        torch.nn.Linear(9, wide), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(wide, 7)
    )
    ranks = dist.get_world_size()
    if kind == "tp":
        mesh = init_device_mesh("cpu", (ranks,))
        return parallelize_module(model, mesh, {"0": ColwiseParallel(), "3": RowwiseParallel()})
    if kind == "2d":
        mesh = init_device_mesh("cpu", (ranks // 2, 2), mesh_dim_names=("dp", "tp"))
        parallelize_module(model, mesh["tp"], {"0": ColwiseParallel(), "3": RowwiseParallel()})
        return fully_shard(model, mesh=mesh["dp"])
    if kind == "plain":
        return model
    return fully_shard(model, mesh=init_device_mesh("cpu", (ranks,)))


def train(total: int, every: int | str, kind: str = "fsdp", pause: float = 0.0) -> str:
    rank, ranks = dist.get_rank(), dist.get_world_size()
    model = build(kind)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    data = torch.randn(64, 9)
    sampler = Sampler(64, 8, seed=3)
    seen: dict[str, list[float]] = {"losses": []}
    torch.manual_seed(7 if kind in {"tp", "plain"} else 100 + rank)
    checkpointer = DistributedCheckpointer(
        {"model": model, "optimizer": optimizer, "schedule": schedule, "sampler": sampler},
        per_rank={"seen": seen},
        every=every,
    )
    for step in checkpointer.steps(total):
        batch = sampler.next()
        mine = batch if kind in {"tp", "plain"} else batch[rank::ranks]
        loss = model(data[mine]).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        seen["losses"].append(loss.item())
        checkpointer.log(loss=loss)
        if os.environ.get("STEPS"):
            with Path(f"{os.environ['STEPS']}.{rank}").open("a") as file:
                file.write(f"{step} {os.getpid()}\n")
        if pause:
            time.sleep(pause)
    return digest(model, optimizer, schedule.state_dict(), sampler.state_dict(), seen, torch.get_rng_state().sum())


def main(arguments: list[str]) -> None:
    every = arguments[1]
    text = train(
        int(arguments[0]),
        int(every) if every.isdigit() else every,
        arguments[2] if len(arguments) > 2 else "fsdp",
        float(arguments[3]) if len(arguments) > 3 else 0.0,
    )
    sys.stdout.write(f"rank {dist.get_rank()} {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    main(sys.argv[1:])
    dist.destroy_process_group()
