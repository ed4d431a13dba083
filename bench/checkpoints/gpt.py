"""A byte-level GPT of any size, in any floating dtype, with or without low-rank adapters on frozen weights."""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional

CONTEXT = 256
VALUES = 256


class Shape(msgspec.Struct, frozen=True):
    """What a model looks like. ``rank`` 0: every weight is trained; else only the adapters are."""

    width: int
    layers: int
    dtype: str
    rank: int = 0

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype of every weight."""
        found = getattr(torch, self.dtype)
        assert isinstance(found, torch.dtype)
        return found


class Adapted(nn.Module):
    """A frozen linear layer, and a trained product of two thin matrices beside it (LoRA, arXiv:2106.09685)."""

    def __init__(self, into: int, out: int, rank: int) -> None:
        super().__init__()
        self.frozen = nn.Linear(into, out, bias=False)
        self.frozen.weight.requires_grad_(False)
        self.down, self.up = nn.Linear(into, rank, bias=False), nn.Linear(rank, out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (..., into) to (..., out)."""
        product: Tensor = self.frozen(x) + self.up(self.down(x))
        return product


def _linear(into: int, out: int, rank: int) -> nn.Module:
    return Adapted(into, out, rank) if rank else nn.Linear(into, out, bias=False)


class Block(nn.Module):
    """Causal attention, then a two-layer perceptron, each added to what came in."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.heads = width // 64
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = _linear(width, 3 * width, rank), _linear(width, width, rank)
        self.widen, self.narrow = _linear(width, 4 * width, rank), _linear(4 * width, width, rank)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (batch, time, width) to the same."""
        batch, time, width = x.shape
        parts = self.qkv(self.before_attention(x)).view(batch, time, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, time, width))
        found: Tensor = x + self.narrow(functional.gelu(self.widen(self.before_mlp(x))))
        return found


class Gpt(nn.Module):
    """A decoder-only transformer over the values of a byte; the output shares its weights with the input."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.byte, self.place = nn.Embedding(VALUES, shape.width), nn.Embedding(CONTEXT, shape.width)
        self.blocks = nn.Sequential(*(Block(shape.width, shape.rank) for _ in range(shape.layers)))
        self.last = nn.LayerNorm(shape.width)

    def forward(self, text: Tensor) -> Tensor:
        """Byte values (batch, time) to logits (batch, time, 256)."""
        x = self.byte(text) + self.place(torch.arange(text.shape[1]))
        return functional.linear(self.last(self.blocks(x)), self.byte.weight)


def build(shape: Shape, *, seed: int | None) -> Gpt:
    """A model in memory of its own, every page of it written. ``seed`` None: all zeros, to be restored into."""
    with torch.device("meta"):
        model = Gpt(shape)
    model = model.to(shape.torch_dtype).to_empty(device="cpu")
    with torch.no_grad():
        if seed is not None:
            torch.manual_seed(seed)
        for name, value in model.named_parameters():
            if seed is None or name.endswith(("bias", "up.weight")):
                value.zero_()
            elif value.dim() == 1:
                value.fill_(1.0)
            else:
                value.normal_(std=0.02)
    if shape.rank:
        for name, value in model.named_parameters():
            value.requires_grad_(".up." in name or ".down." in name)
    return model
