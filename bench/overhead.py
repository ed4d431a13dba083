"""What checkpoints, and the machinery around a run, cost a training loop that nobody interrupts.

The loop is that of examples/digits, shortened. It is timed from its first step to the moment at which its last
checkpoint is written, which for Spotweld means durable.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from harness import Figure, command_output, figure, report

from spotweld.project.nouns import CheckpointPolicy, EverySteps
from spotweld.store.opening import open_store
from spotweld.values import environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

STEPS = 400
SAVE_EVERY = 100
BLOCK = 25
RUNS = 5
BARE, ENGINE, TORCH, LAUNCH = "bare loop", "Checkpointer", "torch.save and rename", "spotweld launch"
CONTENDERS = (BARE, ENGINE, TORCH)
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


def train(contender: str, folder: Path) -> Iterator[None]:
    """One training, paused after each step."""
    import torch  # noqa: PLC0415  the process that compares does without

    from spotweld import Checkpointer  # noqa: PLC0415

    training = example().Training()
    parts = {name: getattr(training, name) for name in ("model", "optimizer", "schedule", "sampler")}
    if contender == BARE:
        for _ in range(STEPS):
            training.step()
            yield
    elif contender == TORCH:
        for step in range(1, STEPS + 1):
            training.step()
            if step % SAVE_EVERY == 0:
                torch.save({name: part.state_dict() for name, part in parts.items()}, folder / "checkpoint.tmp")
                (folder / "checkpoint.tmp").rename(folder / "checkpoint.pt")
            yield
    else:
        checkpointer = Checkpointer(parts, store=f"file:{folder}/store")
        for _ in checkpointer.steps(STEPS):
            checkpointer.log(loss=training.step())
            yield


def train_all(turn: int) -> None:
    """Print what each contender's training took. They take turns of ``BLOCK`` steps, each time in another order.

    The speed of a shared machine drifts by more than what is measured, from second to second; so the contenders must be
    compared within seconds. A save begins with a block and ends within it, so it slows down nobody else.
    """
    example().Training().step()  # what the first step loads counts for nobody
    taken = dict.fromkeys(CONTENDERS, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        running = {contender: train(contender, Path(folder)) for contender in CONTENDERS}
        for block in range(STEPS // BLOCK + 1):  # the last one for what comes after the last step
            first = (turn + block) % len(CONTENDERS)
            for contender in CONTENDERS[first:] + CONTENDERS[:first]:
                begun = time.perf_counter()
                for _ in range(BLOCK):
                    next(running[contender], None)
                taken[contender] += time.perf_counter() - begun
    print(json.dumps(taken))


def alone(turn: int) -> dict[str, float]:
    """Seconds of each contender's training, in one process of their own."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SPOTWELD_")}
    environ[environment.CHECKPOINT] = msgspec.json.encode(CheckpointPolicy(EverySteps(SAVE_EVERY))).decode()
    done = command_output([sys.executable, __file__, str(turn)], env=environ)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def launched() -> float:
    """Seconds that the loop takes as a job on an on-demand machine of the local provider."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # the machine may still be shutting down
        shutil.copy(EXAMPLE / "train.py", folder)
        Path(folder, "spotweld.yaml").write_text(PROJECT)
        spotweld = str(Path(sys.executable).with_name("spotweld"))
        command_output([spotweld, "launch", "train", "-y", "--progress", "quiet"], cwd=folder, timeout=120)
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


def main() -> int:
    """Measure, print, write."""
    taken: dict[str, list[float]] = {contender: [] for contender in (*CONTENDERS, LAUNCH)}
    for turn in range(RUNS):
        for contender, seconds in {**alone(turn), LAUNCH: launched()}.items():
            taken[contender].append(seconds)
    above = {
        contender: [100 * (seconds / bare - 1) for seconds, bare in zip(values, taken[BARE], strict=True)]
        for contender, values in taken.items()
    }
    where = f"digits, {STEPS} steps, {STEPS // SAVE_EVERY} checkpoints"

    def line(what: str, unit: str, ours: str, of: dict[str, list[float]], goal: str) -> Figure:
        named = {"spotweld" if name == ours else name: values for name, values in of.items()}
        return figure(f"{where}: {what}", unit, named, limit=None, goal=goal, command="make bench-overhead")

    durable = "durable, verified checkpoints cost no more than unsafe ones"
    nothing = "a machine that is not taken away costs next to nothing extra"
    saves = {name: above[name] for name in (ENGINE, TORCH)}
    machinery = {name: above[name] for name in (LAUNCH, ENGINE)}
    figures = [
        line("the loop", "s", ENGINE, taken, durable),
        line("Checkpointer above bare loop", "%", ENGINE, saves, durable),
        line("spotweld launch above bare loop", "%", LAUNCH, machinery, nothing),
    ]
    return report("overhead", figures)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        train_all(int(sys.argv[1]))
    else:
        sys.exit(bool(main()))
