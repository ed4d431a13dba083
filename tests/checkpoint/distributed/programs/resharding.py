"""``resharding.py save|load STEPS KIND``: through ``torch.distributed.checkpoint``; prints a digest of the state."""

from __future__ import annotations

import sys
from typing import Any

import sharded
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

from spotweld.checkpoint.distributed import SpotweldReader, SpotweldWriter, load


class Picky(dcp.DefaultLoadPlanner):
    """Would read a pickle."""

    def load_bytes(self, _read_item: Any, _value: Any) -> None:  # noqa: ANN401
        raise AssertionError


def main(arguments: list[str]) -> None:
    verb, step, kind = arguments
    model = sharded.build(kind)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    if verb == "save":
        model(torch.ones(4, 9)).square().sum().backward()
        optimizer.step()
    else:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
    models, optimizers = get_state_dict(model, optimizer)
    state: dict[str, Any] = {"model": models, "optimizer": optimizers}
    state["extra"] = {"step": int(step), "rate": 0.1, "names": ("a", "b"), "array": [1, 2], "raw": b"raw"}
    if verb == "save":
        writer = SpotweldWriter(keep_last=2)
        for at in range(int(step)):
            state["counter"] = torch.tensor([at + 1])
            dcp.save(state, checkpoint_id=str(at + 1), storage_writer=writer)
        if step == "0":
            dcp.save({"bad": object()}, storage_writer=writer)
    else:
        state["counter"] = torch.tensor([-1])
        state["extra"] = {"step": -1, "rate": 0.0, "names": (), "array": [], "raw": b""}
        reader = SpotweldReader()
        found = load(state, reader, planner=Picky() if kind == "picky" else None)
        assert state["counter"].item() == found
        assert state["extra"]["names"] == ("a", "b")
        assert state["extra"]["raw"] == b"raw"
        set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
    text = sharded.digest(model, optimizer)
    sys.stdout.write(f"rank {dist.get_rank()} {text}\n")
    sys.stdout.flush()
