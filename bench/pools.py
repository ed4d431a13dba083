"""How long it takes from ``spotweld launch`` to the first step: on a machine of a pool, and on one rented anew."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from harness import command_output, figure, in_turns, report

RUNS = 9
PROJECT = """\
name: bench-pools
jobs:
  bare: {command: python step.py}
  train: {setup: python -m venv deps, command: deps/bin/python step.py}
pools:
  bare: {job: bare}
  warm: {job: train}
providers: {local: {zones: {a: {spot: 1 USD, on_demand: 3 USD, machines: 9}}, up: 9000d}}
"""
STEP = "import time\nprint(time.time())\n"
"""The program's first step tells when it was taken."""
SPOTWELD = (sys.executable, "-c", "from spotweld.cli.main import main; main()")


def launch(folder: Path, job: str, pool: str) -> float:
    """Seconds from the command until the first step.

    Args:
        folder: the project's.
        job: what is launched.
        pool: where the machine has to come from; empty: from none.
    """
    begun = time.time()
    run = command_output([*SPOTWELD, "launch", job, "-y", "--detach"], cwd=folder).stdout.strip()
    told = command_output([*SPOTWELD, "watch", run, "--progress", "plain"], cwd=folder).stderr
    if (f"from pool {pool}:" not in told) if pool else ("from pool" in told):
        sys.exit(f"{run} has its machine from elsewhere:\n{told}")
    return float(command_output([*SPOTWELD, "logs", run], cwd=folder).stdout.split()[-1]) - begun


def await_ready(folder: Path) -> None:
    """Until no machine is being prepared, which would take the processor's time from what is measured."""
    while True:
        pools = json.loads(command_output([*SPOTWELD, "pool", "ls", "--json"], cwd=folder).stdout)
        if all(one["ready"] == 1 == len(one["machines"]) for one in pools):
            return
        time.sleep(0.2)


def main() -> int:
    """Measure, print, write."""
    os.environ["XDG_CONFIG_HOME"] = "/nonexistent"
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as after:
        cold, pooled = Path(folder) / "cold", Path(folder) / "pooled"
        for where in (cold, pooled):
            where.mkdir()
            (where / "spotweld.yaml").write_text(PROJECT)
            (where / "step.py").write_text(STEP)
            after.callback(command_output, [*SPOTWELD, "teardown", "-y", "--cancel-runs"], cwd=where)
        command_output([*SPOTWELD, "pool", "up", "-y"], cwd=pooled)

        def warm(job: str, pool: str) -> float:
            await_ready(pooled)
            taken = launch(pooled, job, pool)
            await_ready(pooled)
            return taken

        with_setup = in_turns(
            {"spotweld": lambda: warm("train", "warm"), "rented anew": lambda: launch(cold, "train", "")}, RUNS
        )
        without = in_turns(
            {"spotweld": lambda: warm("bare", "bare"), "rented anew": lambda: launch(cold, "bare", "")}, RUNS
        )
    command = "make bench-pools"
    goal = "a run on a machine of a pool does not wait for its set-up"
    same = "without a set-up a pool saves the boot alone, which takes the local provider no time"
    figures = [
        figure("launch to first step, set-up: python -m venv", "s", with_setup, limit=2.0, goal=goal, command=command),
        figure("launch to first step, no set-up", "s", without, limit=2.0, goal=same, command=command),
    ]
    return report("pools", figures)


if __name__ == "__main__":
    sys.exit(bool(main()))
