"""Starts groups of ranks quickly: imports PyTorch once, then forks. ``torchrun`` would need seconds for every group.

Reads a line of JSON for each group from stdin: ``{"program": name, "ranks": n, "argv": [...], "env": {...}, "folder":
"..."}``. Answers with the ranks' process ids at once, and with their exit codes when all have ended. Like torchrun it
ends the others when one fails.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import torch
import torch._dynamo  # what optimizers and DTensor would import in every rank
import torch.distributed as dist
import torch.distributed.checkpoint.state_dict
import torch.distributed.fsdp
import torch.distributed.tensor.parallel

_PATIENCE = 30.0


def be_rank(rank: int, asked: dict) -> None:
    folder = Path(asked["folder"])
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / f"{name}.{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ.update(asked["env"])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=asked["ranks"])
    importlib.import_module(asked["program"]).main(asked["argv"])
    dist.destroy_process_group()


def tell_all(pids: list[int], codes: dict[int, int], number: int) -> None:
    for pid in pids:
        if pid not in codes:
            os.kill(pid, number)


def watch(pids: list[int]) -> list[int]:
    codes: dict[int, int] = {}
    give_up = float("inf")
    while len(codes) < len(pids):
        for pid in [pid for pid in pids if pid not in codes]:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                codes[pid] = os.waitstatus_to_exitcode(status)
        if any(codes.values()) and give_up == float("inf"):
            give_up = time.monotonic() + _PATIENCE
            tell_all(pids, codes, signal.SIGTERM)
        if time.monotonic() > give_up:
            tell_all(pids, codes, signal.SIGKILL)
        time.sleep(0.01)
    return [codes[pid] for pid in pids]


def say(value: list[int]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    importlib.import_module("sharded")
    for line in sys.stdin:
        asked = json.loads(line)
        (Path(asked["folder"]) / "meet").unlink(missing_ok=True)
        pids = []
        for rank in range(asked["ranks"]):
            pid = os.fork()
            if pid == 0:
                sys.stdin = open(os.devnull)  # noqa: PTH123, SIM115 - the next line is not for this process
                be_rank(rank, asked)
                sys.exit(0)
            pids.append(pid)
        say(pids)
        say(watch(pids))
