"""Train a small byte-level GPT on the source text of Python's own standard library, on machines that come and go.

Run it, stop it with Ctrl-C or ``kill -9``, run it again: it goes on where it was, and ends with the same weights.
SEED and STEPS in the environment change the run.
"""

from __future__ import annotations

import math
import os
import sysconfig
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from spotweld import Checkpointer, Sampler

SEED = int(os.environ.get("SEED", "1"))
STEPS = int(os.environ.get("STEPS", "1500"))
BATCH = 8
CONTEXT = 128
WIDTH = 128
HEADS = 4
LAYERS = 4
WARMUP = 100


def library_text() -> Tensor:
    """The modules at the top of the standard library in the order of their names, as bytes (uint8): about 4.7 MB."""
    modules = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    return torch.frombuffer(bytearray().join(module.read_bytes() for module in modules), dtype=torch.uint8)


class Block(nn.Module):
    """Causal attention, then a two-layer perceptron, each added to what came in."""

    def __init__(self) -> None:
        super().__init__()
        self.before_attention, self.before_mlp = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH), nn.Dropout(0.1))

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (batch, time, WIDTH) to the same."""
        batch, time, _ = x.shape
        heads = self.qkv(self.before_attention(x)).view(batch, time, 3, HEADS, WIDTH // HEADS)
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, time, WIDTH))
        return x + self.mlp(self.before_mlp(x))


class Gpt(nn.Module):
    """A decoder-only transformer over the 256 values of a byte; the output shares its weights with the input."""

    def __init__(self) -> None:
        super().__init__()
        self.byte = nn.Embedding(256, WIDTH)
        self.place = nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.last = nn.LayerNorm(WIDTH)
        for weights in (self.byte.weight, self.place.weight):
            nn.init.normal_(weights, std=0.02)

    def forward(self, text: Tensor) -> Tensor:
        """Byte values (batch, time) to logits (batch, time, 256)."""
        x = self.byte(text) + self.place(torch.arange(text.shape[1]))
        return functional.linear(self.last(self.blocks(x)), self.byte.weight)


def rate(step: int) -> float:
    """The learning rate as a share of its peak: a linear warm-up, then half a cosine down to a tenth."""
    if step < WARMUP:
        return (step + 1) / WARMUP
    return 0.55 + 0.45 * math.cos(math.pi * (step - WARMUP) / max(1, STEPS - WARMUP))


class Training:
    """The text, the model and everything else that one step of training changes."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(mode=True)
        torch.manual_seed(SEED)
        text = library_text()
        chunks = text[: len(text) // (CONTEXT + 1) * (CONTEXT + 1)].view(-1, CONTEXT + 1).long()
        held_out = torch.arange(len(chunks)) % 500 == 0
        self.chunks, self.test = chunks[~held_out], chunks[held_out]
        self.model = Gpt()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=3e-3, betas=(0.9, 0.98), weight_decay=0.05)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, rate)
        self.sampler = Sampler(len(self.chunks), BATCH, seed=SEED)

    def loss(self, chunks: Tensor) -> Tensor:
        """Mean cross-entropy of every byte given those before it in its chunk, in nats."""
        return functional.cross_entropy(self.model(chunks[:, :-1]).flatten(0, 1), chunks[:, 1:].flatten())

    def step(self) -> float:
        """One update of the weights; gives the loss before it."""
        loss = self.loss(self.chunks[self.sampler.next()])
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        return loss.item()

    @torch.no_grad()
    def bits_per_byte(self) -> float:
        """How many bits the model needs for a byte of the text that it has never seen; 8 is knowing nothing."""
        self.model.eval()
        nats = self.loss(self.test).item()
        self.model.train()
        return nats / math.log(2)

    @torch.no_grad()
    def sample(self, start: str, length: int = 200) -> str:
        """``start`` and ``length`` more bytes, drawn from the model."""
        self.model.eval()
        text = torch.tensor([list(start.encode())])
        for _ in range(length):
            logits = self.model(text[:, -CONTEXT:])[0, -1]
            following = torch.multinomial(torch.softmax(logits / 0.8, 0), 1)
            text = torch.cat([text, following.view(1, 1)], 1)
        self.model.train()
        return bytes(text[0].tolist()).decode("utf-8", "replace")


def main() -> None:
    """Train to the end, however many processes it takes."""
    training = Training()
    checkpointer = Checkpointer(
        {
            "model": training.model,
            "optimizer": training.optimizer,
            "schedule": training.schedule,
            "sampler": training.sampler,
        }
    )
    for _ in checkpointer.steps(STEPS):
        checkpointer.log(loss=training.step())
    bits = training.bits_per_byte()
    checkpointer.log(bits_per_byte=bits)
    print(f"{bits:.3f} bits per byte on held-out text after {STEPS} steps; a sample:\n")
    print(training.sample("def "))


if __name__ == "__main__":
    main()
