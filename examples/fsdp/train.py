"""A small transformer, sharded over all ranks by FSDP2, learns to add two numbers.

``python -m spotweld.checkpoint.distributed.torchrun --standalone --nproc-per-node 2 train.py``
"""

from __future__ import annotations

import os
import sys

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard

from spotweld import Sampler
from spotweld.checkpoint.distributed import DistributedCheckpointer

WIDTH, DIGITS = 64, 4


class Adder(torch.nn.Module):
    """Reads the digits of both numbers, and says the digits of their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(10, WIDTH)
        self.place = torch.nn.Parameter(torch.randn(2 * DIGITS, WIDTH))
        self.blocks = torch.nn.ModuleList(
            torch.nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, dropout=0.1, batch_first=True) for _ in range(2)
        )
        self.say = torch.nn.Linear(2 * DIGITS * WIDTH, (DIGITS + 1) * 10)

    def forward(self, digits: torch.Tensor) -> torch.Tensor:
        """From ``(batch, 2 * DIGITS)`` digits to ``(batch, 10 * (DIGITS + 1))`` scores."""
        state = self.embed(digits) + self.place
        for block in self.blocks:
            state = block(state)
        return self.say(state.flatten(1))


def examples(numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The digits of two numbers each, and of their sums."""
    ten = 10 ** torch.arange(DIGITS + 1)
    digits = (numbers[:, :, None] // ten[:DIGITS]) % 10
    return digits.flatten(1), (numbers.sum(1)[:, None] // ten) % 10


def main(total: int) -> None:
    """Train for so many steps."""
    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(1)
    model = Adder()
    for block in model.blocks:
        fully_shard(block)
    fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    numbers = torch.randint(0, 10**DIGITS, (50_000, 2))
    # One order for all ranks, of which each takes its part: so another number of ranks goes on at the same sample.
    sampler = Sampler(len(numbers), batch_size=256, seed=1)
    torch.manual_seed(100 + rank)  # dropout differs between ranks
    checkpointer = DistributedCheckpointer({"model": model, "optimizer": optimizer, "sampler": sampler})
    for step in checkpointer.steps(total):
        digits, sums = examples(numbers[sampler.next()[rank::ranks]])
        loss = torch.nn.functional.cross_entropy(model(digits).unflatten(1, (10, DIGITS + 1)), sums)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        checkpointer.log(loss=loss)
        if rank == 0 and step % 50 == 0:
            sys.stdout.write(f"step {step}: loss {loss.item():.3f}\n")
            sys.stdout.flush()
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(os.environ.get("STEPS", "1000")))
