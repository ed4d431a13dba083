"""What checkpoints, and the machinery around a run, cost a training loop that nobody interrupts.

The loop is that of examples/digits, shortened. Each contender trains in a process and a folder of its own and is timed
from its first step to the moment at which its last checkpoint is durable.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from harness import Figure, command_output, figure, in_turns, report

from spotweld.project.nouns import CheckpointPolicy, EverySteps
from spotweld.store.opening import open_store
from spotweld.values import environment

if TYPE_CHECKING:
    from types import ModuleType

STEPS = 200
SAVE_EVERY = 50
RUNS = 3
PROJECT = f"""
name: overhead
jobs:
  train:
    command: python train.py
    env: {{STEPS: "{STEPS}"}}
    spot_policy: on-demand
    checkpoint: {{every: {SAVE_EVERY} steps}}
"""
EXAMPLE = Path(__file__).parents[1] / "examples" / "digits"


def example() -> ModuleType:
    """The example's train.py as a module."""
    spec = importlib.util.spec_from_file_location("train", EXAMPLE / "train.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(EXAMPLE / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def leg(contender: str) -> None:
    """Train once and print the seconds that it took. Runs in a process of its own."""
    import torch  # noqa: PLC0415  the measuring process does without

    from spotweld import Checkpointer  # noqa: PLC0415

    training = example().Training()
    parts = {name: getattr(training, name) for name in ("model", "optimizer", "schedule", "sampler")}
    begun = time.perf_counter()
    if contender == "bare":
        for _ in range(STEPS):
            training.step()
    elif contender == "torch.save":
        for step in range(1, STEPS + 1):
            training.step()
            if step % SAVE_EVERY == 0:
                torch.save({name: part.state_dict() for name, part in parts.items()}, "checkpoint.tmp")
                Path("checkpoint.tmp").rename("checkpoint.pt")
    else:
        checkpointer = Checkpointer(parts)
        for _ in checkpointer.steps(STEPS):
            checkpointer.log(loss=training.step())
    print(time.perf_counter() - begun)


def alone(contender: str, **variables: str) -> float:
    """Seconds that the loop takes when it is run by itself."""
    with tempfile.TemporaryDirectory() as folder:
        variables |= {name: value for name, value in os.environ.items() if not name.startswith("SPOTWELD_")}
        done = command_output([sys.executable, __file__, contender], cwd=folder, env=variables)
        return float(done.stdout.splitlines()[-1])


def launched() -> float:
    """Seconds that the loop takes as a job on an on-demand machine of the local provider."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(EXAMPLE / "train.py", folder)
        Path(folder, "spotweld.yaml").write_text(PROJECT)
        spotweld = str(Path(sys.executable).with_name("spotweld"))
        command_output([spotweld, "launch", "train", "-y", "--progress", "quiet"], cwd=folder)
        return loop_seconds(Path(folder, ".spotweld", "store"))


def loop_seconds(store: Path) -> float:
    """From the start of the loop to its end, by the events that the process wrote."""
    objects = open_store(f"file:{store}")
    times = {}
    for segment in objects.list("runs/"):
        if "/events/" in segment.key:
            for line in objects.get(segment.key).splitlines():
                event = msgspec.json.decode(line)
                times[event["kind"]] = event["t"]
    return float(times["finished"] - times["start"])


def overhead(taken: dict[str, list[float]]) -> dict[str, list[float]]:
    """Per cent above the bare loop, for every other contender, run by run."""
    return {
        name: [100 * (mine / bare - 1) for mine, bare in zip(values, taken["bare"], strict=True)]
        for name, values in taken.items()
        if name != "bare"
    }


def main() -> int:
    """Measure, print, write."""
    policy = msgspec.json.encode(CheckpointPolicy(EverySteps(SAVE_EVERY))).decode()
    taken = in_turns(
        {
            "bare": lambda: alone("bare"),
            "spotweld": lambda: alone("spotweld", **{environment.CHECKPOINT: policy}),
            "torch.save": lambda: alone("torch.save"),
            "launch": launched,
        },
        RUNS,
    )
    loop = {"spotweld": taken["spotweld"], "bare loop": taken["bare"], "torch.save and rename": taken["torch.save"]}
    run = {"spotweld": taken["launch"], "bare loop": taken["bare"], "Checkpointer alone": taken["spotweld"]}
    above = overhead(taken)
    saves = {"spotweld": above["spotweld"], "torch.save and rename": above["torch.save"]}
    whole = {"spotweld": above["launch"], "Checkpointer alone": above["spotweld"]}
    where = f"digits, {STEPS} steps, {STEPS // SAVE_EVERY} checkpoints"

    def line(what: str, unit: str, of: dict[str, list[float]], goal: str) -> Figure:
        return figure(f"{where}: {what}", unit, of, limit=None, goal=goal, command="make bench-overhead")

    durable = "durable, verified checkpoints cost no more than unsafe ones"
    nothing = "a machine that is not taken away costs next to nothing extra"
    figures = [
        line("with Checkpointer", "s", loop, durable),
        line("spotweld launch", "s", run, nothing),
        line("overhead of Checkpointer", "%", saves, durable),
        line("overhead of the whole machinery", "%", whole, nothing),
    ]
    return report("overhead", figures)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        leg(sys.argv[1])
    else:
        sys.exit(bool(main()))
