"""The checkpoint benchmark: its arithmetic, and that what it compares are whole checkpoints."""

from __future__ import annotations

import importlib
import os
import statistics
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

BENCH = Path(__file__).parents[2] / "bench"
OURS = "spotweld"


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    monkeypatch.syspath_prepend(str(BENCH))
    return lambda name: importlib.import_module(f"checkpoints.{name}")


@pytest.fixture
def tiny(part: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A training of a few thousand weights whose state is made in this test's own folder."""
    states = part("states")
    monkeypatch.setattr(states, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(states, "TRAINED", 2)
    monkeypatch.setitem(states.KINDS, "tiny", states.Kind("tiny", part("gpt").Shape(64, 1, "float32"), 16))
    return "tiny"


class Clocked:
    """A training and its contender in one: a step takes 1 s, 1.5 s while a save runs, which is two steps long."""

    def __init__(self) -> None:
        self.now, self.left = 0.0, 0

    def step(self, before_update: Callable[[], None]) -> None:
        before_update()
        self.now += 1.5 if self.left else 1.0
        self.left = max(0, self.left - 1)

    def begin(self) -> None:
        self.now, self.left = self.now + 0.25, 2

    def before_update(self) -> None:
        self.now += 0.125 if self.left == 2 else 0.0

    def after_step(self) -> None:
        pass

    def finished(self) -> float | None:
        return None if self.left else 3.375

    def newest(self) -> Path:
        return Path("nowhere")

    def tidy(self) -> None:
        pass


def test_what_a_save_adds_is_its_stall_and_what_the_steps_beside_it_take_longer(
    part: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, clocked = part("loop"), Clocked()
    clock = SimpleNamespace(perf_counter=lambda: clocked.now, process_time=lambda: 2 * clocked.now)
    monkeypatch.setattr(loop, "time", clock)
    save = loop.Driver(clocked, clocked).save()
    assert (save.added, save.stall, save.step, save.steps) == (0.25 + 0.125 + 2 * 0.5, 0.375, 1.0, 3)
    assert (save.finished, save.synced, save.cpu) == (3.375, 0.0, 2 * save.added)


@pytest.mark.parametrize("name", ["torch.save", "fork and write", "spotweld", "spotweld compressed"])
def test_what_a_contender_restores_is_what_it_saved(
    part: Callable[[str], Any], tiny: str, name: str, tmp_path: Path
) -> None:
    states, contenders, measuring = part("states"), part("contenders"), part("measuring")
    training = states.Training(states.KINDS[tiny])
    chosen = contenders.contender(name, training, tmp_path)
    training.step()
    chosen.after_step()
    expect = measuring.digest(training.parts())
    part("loop").Driver(training, chosen).unmeasured()
    chosen.close()
    fresh = states.Training(states.KINDS[tiny], fresh=True)
    assert measuring.digest(fresh.parts()) != expect
    close = contenders.restore(name, fresh, tmp_path)
    assert measuring.digest(fresh.parts()) == expect
    close()


@pytest.mark.parametrize(("name", "outcome"), [("torch.save", "silent"), ("spotweld", "former")])
def test_a_flipped_bit(part: Callable[[str], Any], tiny: str, name: str, outcome: str, tmp_path: Path) -> None:
    assert part("work").flipped(tiny, name, tmp_path).outcome == outcome


def test_adapters_are_a_small_part_of_their_state_and_all_that_changes(part: Callable[[str], Any]) -> None:
    states = part("states")
    training = states.Training(states.Kind("adapted", part("gpt").Shape(64, 1, "float32", rank=1), 16), seed=1)
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    training.step()
    training.step()
    after = training.model.state_dict()
    changed = {name for name, value in after.items() if not value.equal(before[name])}
    assert changed == set(training.changing()["model"])
    tensors, rest = states.flat(training.parts())
    assert states.flat(states.nested(tensors, rest)) == (tensors, rest)


def test_goals_follow_from_what_was_measured_in_the_same_run(part: Callable[[str], Any]) -> None:
    loop, work, figures, limits = part("loop"), part("work"), part("figures"), part("limits")

    def saved(*added: float, stall: float = 0.0) -> list[Any]:
        later = [loop.Save(each, stall, 1.0, 0.0, 1.0, 3, 900, 0.2) for each in added]
        return [work.Saved(later[0], later, 700, 1000, 1000, "")]

    found = figures.Findings(
        saved={
            "fp32": {
                OURS: saved(0.1, 0.3, 0.2),
                "hidden by noise": saved(-1.0, stall=0.8),
                "slow": saved(2.0),
                "spotweld compressed": saved(0.5),
            }
        },
        limits={"fp32": [limits.Limits(1000, 0.1, 0.6, 0.5, 0.5, 0.01)]},
        restored={
            "fp32": {
                OURS: [work.Restored(0.5, 0.1, 1.0, same=True)],
                "torch.save": [work.Restored(1.0, 0.5, 2.0, same=True)],
                "safetensors": [work.Restored(0.75, 0.25, 2.0, same=True)],
            }
        },
    )
    rows = {
        row.measure.removeprefix("fp32, 0.00 GB: ").removeprefix("fp32: "): row for row in figures.all_figures(found)
    }
    assert rows["added training time"].ours == statistics.median([0.1, 0.2, 0.3])
    assert rows["added training time"].limit == 0.25 * 0.8
    assert rows["added, and a memcpy"].limit == pytest.approx(0.15)
    assert rows["durable, and the disk"].limit == 1.3 * 0.5
    assert rows["restore, cold"].limit == 0.5
    assert rows["restore, warm"].limit == 0.4 * 0.5
    assert (rows["bytes alone, compressed"].ours, rows["bytes alone, compressed"].limit) == (0.9, 0.83)
    assert (rows["bytes 10 steps later"].ours, rows["bytes 10 steps later"].limit) == (0.7, 0.79)
    assert "slow" in figures.tables(found)


@pytest.mark.slow
def test_the_benchmark_runs_each_contender_in_a_process_of_its_own() -> None:
    command = [
        sys.executable,
        str(BENCH / "checkpoint.py"),
        "--small",
        "--only",
        "fp32,save,restore,spotweld,torch.save",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "restore, cold" in done.stdout
    assert "NO" not in done.stdout.split("limits:", maxsplit=1)[0].split()
