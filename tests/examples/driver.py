"""Runs a training script several times, some of them to a sudden end, and tells a digest of the state each trained.

Reads a JSON list of runs from standard input: ``folder`` to run in, ``env`` to add, and ``kill``, the number of calls
of ``log`` from which on the process kills itself, or null: in the first step after that in which a checkpoint is known
to be published, so that the next process has something to resume from. Writes ``[exit status, what it printed]`` for
each run.

The runs are processes forked from this one, which has imported what takes long and has done nothing else.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
import time
from pathlib import Path

import numpy as np
import sklearn.datasets  # noqa: F401  imported for the forked processes
import torch
import torch._dynamo  # every optimizer imports it
from blake3 import blake3

import spotweld

Checkpointer = spotweld.Checkpointer
made: list[object] = []
logged: list[dict[str, float]] = []


def remember(self: spotweld.Checkpointer, state: object, **options: object) -> None:
    made.append(state)
    make(self, state, **options)


def log_and_die(self: spotweld.Checkpointer, **values: float) -> None:
    log(self, **values)
    logged.append(values)
    if kill_after is None:
        return
    if len(logged) == 1:
        self.save()
    if len(logged) >= kill_after:
        time.sleep(0.1)  # a save that is done becomes known at the edge between two steps
        if '"saved"' in Path(os.environ["SPOTWELD_EVENTS_FILE"]).read_text():
            os.kill(os.getpid(), signal.SIGKILL)


def digest_of(value: object, hasher: blake3) -> blake3:
    """Every byte of the state, in the order of the names."""
    if hasattr(value, "state_dict"):
        value = value.state_dict()
    if isinstance(value, dict):
        for name in sorted(value, key=str):
            hasher.update(f"{name}=".encode())
            digest_of(value[name], hasher)
    elif isinstance(value, list | tuple):
        for item in value:
            digest_of(item, hasher)
    elif isinstance(value, torch.Tensor):
        hasher.update(value.detach().contiguous().view(-1).numpy().tobytes())
    elif isinstance(value, np.ndarray):
        hasher.update(value.tobytes())
    else:
        hasher.update(repr(value).encode())
    return hasher


make, log = Checkpointer.__init__, Checkpointer.log
Checkpointer.__init__, Checkpointer.log = remember, log_and_die
script, told = sys.argv[1], []
for run in json.load(sys.stdin):
    kill_after = run["kill"]
    output = Path(run["folder"], "output.txt")
    child = os.fork()
    if child == 0:
        os.chdir(run["folder"])
        os.environ.update(run["env"])
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
        os.dup2(1, 2)
        runpy.run_path(script, run_name="__main__")
        sys.stdout.write(f"digest {digest_of(made[-1], blake3()).hexdigest()}\n")
        sys.exit()
    told.append([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), output.read_text()])
json.dump(told, sys.stdout)
