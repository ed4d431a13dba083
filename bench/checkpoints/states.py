"""The three states that are saved, trained on the source text of Python's own library, and the loop that goes on.

A state is trained once and kept in ``bench/.cache``.
"""

from __future__ import annotations

import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional

from checkpoints.gpt import CONTEXT, Shape, build

if TYPE_CHECKING:
    from collections.abc import Callable

CACHE = Path(__file__).parents[1] / ".cache"


class Kind(msgspec.Struct, frozen=True):
    """One of the states: the model, how it is trained into shape, and what a step of the measured loop takes."""

    name: str
    shape: Shape
    tokens: int
    """Bytes of text in a step of the measured loop."""
    made_from: str = ""
    """The kind whose trained layers are the frozen ones of this kind."""


KINDS = {
    kind.name: kind
    for kind in (
        Kind("fp32", Shape(768, 13, "float32"), 64),
        Kind("bf16", Shape(1024, 15, "bfloat16"), 64),
        Kind("lora", Shape(768, 37, "float32", rank=10), 32, made_from="fp32"),
        Kind("small-fp32", Shape(256, 11, "float32"), 256),
        Kind("small-bf16", Shape(256, 22, "bfloat16"), 256),
        Kind("small-lora", Shape(256, 32, "float32", rank=4), 64, made_from="small-fp32"),
    )
}
TRAINED = 40
"""Steps that a state is trained, of ``TRAINED_TOKENS`` bytes each."""
TRAINED_TOKENS = 512
RATE = 3e-4


def library_text() -> Tensor:
    """The modules at the top of the standard library in the order of their names, as bytes (uint8): about 4.7 MB."""
    modules = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    return torch.frombuffer(bytearray().join(module.read_bytes() for module in modules), dtype=torch.uint8)


class Training:
    """A model, its optimizer and the text: what is measured goes on with exactly this.

    Args:
        kind: which one.
        fresh: a new one, with zeros for weights and no moments, as a program has it before it restores.
    """

    def __init__(self, kind: Kind, *, fresh: bool = False, seed: int | None = None) -> None:
        self.kind = kind
        self.text = library_text().long()
        self.order = torch.Generator().manual_seed(1)
        self.model: nn.Module = build(kind.shape, seed=seed)
        learning = [value for value in self.model.parameters() if value.requires_grad]
        self.optimizer = torch.optim.AdamW(learning, lr=RATE, betas=(0.9, 0.98), weight_decay=0.05, fused=True)
        if not fresh and seed is None:
            self.put(torch.load(trained(kind)))

    def step(self, before_update: Callable[[], None] | None = None, tokens: int = 0) -> float:
        """One update of the weights; gives the loss before it.

        Args:
            before_update: called between the gradients and the update.
            tokens: bytes of text; 0: what this kind's steps take.
        """
        length = min(CONTEXT, tokens or self.kind.tokens)
        rows = max(1, (tokens or self.kind.tokens) // length)
        begins = torch.randint(len(self.text) - length - 1, (rows, 1), generator=self.order)
        text = self.text[begins + torch.arange(length + 1)]
        loss = functional.cross_entropy(self.model(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())
        self.optimizer.zero_grad(set_to_none=False)
        loss.backward()  # type: ignore[no-untyped-call]
        if before_update is not None:
            before_update()
        self.optimizer.step()
        return float(loss.detach())

    def parts(self) -> dict[str, Any]:
        """What a program saves, as the nested dicts that PyTorch gives."""
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def put(self, parts: dict[str, Any]) -> None:
        """The opposite of ``parts``."""
        self.model.load_state_dict(parts["model"])
        self.optimizer.load_state_dict(parts["optimizer"])

    def changing(self) -> dict[str, Any]:
        """Only what a step changes, as ``parts`` has it."""
        names = {name for name, value in self.model.named_parameters() if value.requires_grad}
        model = {name: value for name, value in self.model.state_dict().items() if name in names}
        return {"model": model, "optimizer": self.optimizer.state_dict()}


def flat(parts: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of ``parts`` by name, and what is left of the optimizer without them."""
    tensors = {f"model.{name}": value for name, value in parts["model"].items()}
    for index, moments in parts["optimizer"]["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
    return tensors, {"param_groups": parts["optimizer"]["param_groups"]}


def nested(tensors: dict[str, Tensor], rest: dict[str, Any]) -> dict[str, Any]:
    """The opposite of ``flat``."""
    model: dict[str, Tensor] = {}
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        part, _, inner = name.partition(".")
        if part == "model":
            model[inner] = value
        else:
            index, _, moment = inner.partition(".")
            state.setdefault(int(index), {})[moment] = value
    return {"model": model, "optimizer": {"state": state, **rest}}


def empty(training: Training) -> dict[str, Any]:
    """Nested dicts like those that were saved, with memory of their own that nobody has written to yet."""
    parts = training.parts()
    learning = [value for value in training.model.parameters() if value.requires_grad]
    moments = {
        index: {
            "step": torch.zeros((), dtype=torch.float32),
            "exp_avg": torch.empty_like(value),
            "exp_avg_sq": torch.empty_like(value),
        }
        for index, value in enumerate(learning)
    }
    return {"model": parts["model"], "optimizer": {**parts["optimizer"], "state": moments}}


def size(parts: dict[str, Any]) -> int:
    """Bytes of all tensors."""
    return sum(value.nbytes for value in flat(parts)[0].values())


def trained(kind: Kind) -> Path:
    """The file with the trained state; it is made if it is not there yet."""
    path = CACHE / f"{kind.name}.pt"
    if not path.exists():
        CACHE.mkdir(exist_ok=True)
        training = _stacked(kind) if kind.made_from else Training(kind, seed=1)
        begun, last = time.monotonic(), 0.0
        for step in range(TRAINED):
            last = training.step(tokens=TRAINED_TOKENS if not kind.made_from else kind.tokens)
            if step % 10 == 0:
                print(f"training {kind.name}: step {step} of {TRAINED}, loss {last:.3f}", flush=True)
        print(f"trained {kind.name}: loss {last:.3f}, {time.monotonic() - begun:.0f} s", flush=True)
        unfinished = path.with_suffix(".tmp")
        torch.save(training.parts(), unfinished)
        unfinished.rename(path)
    return path


def _stacked(kind: Kind) -> Training:
    """Frozen layers that are trained ones with their rows in another order, over and over: real values, none twice."""
    training = Training(kind, seed=1)
    base: dict[str, Tensor] = torch.load(trained(KINDS[kind.made_from]))["model"]
    layers = KINDS[kind.made_from].shape.layers
    order = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in training.model.state_dict().items():
            block, layer, rest = (*name.split(".", 2), "", "")[:3]
            source = name if block != "blocks" else f"blocks.{int(layer) % layers}.{rest.replace('.frozen', '')}"
            if source in base:
                found = base[source]
                value.copy_(found[torch.randperm(len(found), generator=order)] if ".frozen." in name else found)
    return training
