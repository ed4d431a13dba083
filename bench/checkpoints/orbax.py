"""Orbax's asynchronous checkpointer, given the tensors as NumPy arrays that share their memory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from checkpoints.contender import Peer, Pending, optional
from checkpoints.states import empty, flat, nested

if TYPE_CHECKING:
    from pathlib import Path

    from checkpoints.states import Training


def asynchronous() -> Peer:
    """``AsyncCheckpointer`` with the PyTree handler."""
    optional("jax").config.update("jax_platforms", "cpu")
    library, numpy, ml_dtypes = optional("orbax.checkpoint"), optional("numpy"), optional("ml_dtypes")
    checkpointer = library.AsyncCheckpointer(library.PyTreeCheckpointHandler())

    def array(value: Tensor) -> Any:  # noqa: ANN401  a NumPy array
        if value.dtype == torch.bfloat16:
            return value.detach().view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
        return value.detach().numpy()

    def write(parts: dict[str, Any], folder: Path) -> Pending:
        tensors, rest = flat(parts)
        (folder / "rest.json").write_text(json.dumps(rest))
        checkpointer.save(folder / "tree", {name: array(value) for name, value in tensors.items()})
        return Pending(checkpointer.wait_until_finished)

    def read(training: Training, folder: Path) -> None:
        found = checkpointer.restore(folder / "tree")
        into = flat(empty(training))[0]
        for name, value in into.items():
            whole = numpy.asarray(found[name])
            bits = torch.from_numpy(whole.view(numpy.uint8 if whole.ndim else whole.dtype).copy())
            value.copy_(bits.view(value.dtype).view(value.shape))
        training.put(nested(into, json.loads((folder / "rest.json").read_text())))

    return Peer(write, read, checkpointer.close)
