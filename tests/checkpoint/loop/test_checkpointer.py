"""The loop: what a program sees, step by step."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tests.checkpoint.loop.program import Program, at, kill, published

from spotweld import Checkpointer
from spotweld.checkpoint import events
from spotweld.errors import Fenced, StateMismatch, UsageError
from spotweld.store.heads import read_head
from spotweld.store.local import LocalObjects

if TYPE_CHECKING:
    from pathlib import Path

    from tests.checkpoint.conftest import HandClock, Watched


def test_a_fresh_run_does_every_step_and_ends_durable(store: Watched, clock: HandClock, told: Path) -> None:
    program = Program(store, clock, told).run(5)
    assert program.is_whole(5)
    assert published(store) == [5]
    kinds = [type(event).__name__ for event in program.events if not isinstance(event, events.Step)]
    assert kinds == ["Start", "Fresh", "Saving", "Saved", "Finished"]
    assert program.checkpointer.step == 5


def test_a_finished_run_gives_no_step_and_its_state(
    store: Watched, clock: HandClock, told: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Program(store, clock, told).run(5)
    assert not caplog.records
    again = Program(store, clock, told).run(5, lambda _program, _step: pytest.fail("a step was given"))
    assert again.is_whole(5)
    assert [type(event).__name__ for event in again.events] == ["Start", "Restored", "Step", "Finished"]
    assert published(store) == [5]
    # Somebody may have meant another training, which would be silently left out.
    assert "the run default has all its 5 steps already" in caplog.text


def test_a_finished_run_can_be_made_longer(store: Watched, clock: HandClock, told: Path) -> None:
    Program(store, clock, told).run(5)
    assert Program(store, clock, told).run(8).is_whole(8)


def test_a_killed_run_repeats_and_skips_nothing(store: Watched, clock: HandClock, told: Path) -> None:
    for step in (4, 7, 7, 11):
        with pytest.raises(KeyboardInterrupt):
            Program(store, clock, told, every=3).run(13, at(step, kill))
    program = Program(store, clock, told, every=3).run(13)
    assert program.of(events.Restored)[0].step == 9
    assert program.is_whole(13)


def test_an_exception_saves_no_torn_state(store: Watched, clock: HandClock, told: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Program(store, clock, told, every=2).run(9, at(5, kill))
    assert published(store) == [4, 2]


def test_break_saves_no_more_but_lets_a_running_save_end(store: Watched, clock: HandClock, told: Path) -> None:
    gate = threading.Event()
    store.before = lambda verb, key: gate.wait(10) if (verb, "/packs/" in key) == ("create", True) else None
    program = Program(store, clock, told, every=2, patient=False)
    for step in program.checkpointer.steps(9):
        if step == 3:
            gate.set()
            break
    assert published(store) == [2]
    assert program.saved == [(2, "cadence")]


def test_a_fork_that_ends_leaves_the_saves_to_the_process_that_trains(tmp_path: Path) -> None:
    """It has a copy of the loop, and would go on with its saves: the process itself would be fenced off."""
    code = f"""
import os, sys
from spotweld import Checkpointer

x = {{"steps": []}}
where = {{"store": "file:{tmp_path}/store", "tiers": ["file:{tmp_path}/disk"]}}
checkpointer = Checkpointer({{"x": x}}, every=1, notices=[], **where)
for step in checkpointer.steps(6):
    x["steps"].append(step)
    if step == 3:
        checkpointer._session._saves._saver.wait(10)  # it is in the tier, and nobody has taken note of it yet
        pid = os.fork()
        if not pid:
            sys.exit()
        os.waitpid(pid, 0)
print(x["steps"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "[0, 1, 2, 3, 4, 5]\n"), done.stderr
    head = read_head(LocalObjects(tmp_path / "store"), "default")
    assert head is not None
    assert head.kept[0].step == 6


def test_a_state_may_shrink_and_grow_from_save_to_save(store: Watched, clock: HandClock, told: Path) -> None:
    program = Program(store, clock, told, every=1)
    parts: dict[str, np.ndarray] = {}
    program.log["parts"] = parts

    def change(_: Program, step: int) -> None:
        parts.clear()
        parts.update({str(part): np.full(2**18, part) for part in range((6, 6, 6, 1, 1, 3, 8)[step])})

    program.run(7, change)
    assert not program.of(events.SaveFailed)
    assert [step for step, _ in program.saved] == [1, 2, 3, 4, 5, 6, 7]


def test_another_program_is_refused(store: Watched, clock: HandClock, told: Path) -> None:
    Program(store, clock, told).run(2)
    other = Checkpointer({"weights": np.zeros(4), "log": {}}, store=store, notices=[], clock=clock)
    with pytest.raises(StateMismatch, match="weights"):
        next(other.steps(3))


def test_saving_leaves_no_trace_in_the_generators(store: Watched, clock: HandClock, told: Path) -> None:
    def draws(every: int) -> list[float]:
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        torch.manual_seed(1)
        drawn: list[float] = []
        program = Program(store, clock, told, every=every)
        program.checkpointer._settings = type(program.checkpointer._settings)(
            "memory:", f"run-{every}", 0, program.checkpointer._settings.policy, None, str(told)
        )
        program.run(
            6,
            lambda _program, _step: drawn.extend([random.random(), np.random.rand(), torch.rand(1).item()]),  # noqa: NPY002
        )
        return drawn

    assert draws(1) == draws(1000)


def test_figures_are_logged_with_the_step_they_belong_to(store: Watched, clock: HandClock, told: Path) -> None:
    program = Program(store, clock, told)
    loss = torch.tensor(0.5, requires_grad=True)
    program.run(2, lambda p, step: p.checkpointer.log(loss=loss, rate=np.float32(2), bad=float("nan"), at=step))
    program.checkpointer.log(late=1)
    assert [(event.step, event.values) for event in program.of(events.Metrics)] == [
        (0, {"loss": 0.5, "rate": 2.0, "bad": None, "at": 0.0}),
        (1, {"loss": 0.5, "rate": 2.0, "bad": None, "at": 1.0}),
        (2, {"late": 1.0}),
    ]


def test_steps_is_for_one_loop(store: Watched, clock: HandClock, told: Path) -> None:
    program = Program(store, clock, told).run(1)
    with pytest.raises(UsageError, match="twice"):
        program.run(2)
    with pytest.raises(UsageError, match="negative"):
        Program(store, clock, told).run(-1)


def test_a_run_of_no_steps_is_finished(store: Watched, clock: HandClock, told: Path) -> None:
    assert Program(store, clock, told).run(0).saved == [(0, "final")]


def test_as_a_context_it_closes_what_it_opened(store: Watched, clock: HandClock) -> None:
    with Checkpointer({"x": {}}, store=store, notices=[], clock=clock) as checkpointer:
        steps = checkpointer.steps(5)
        assert next(steps) == 0
    assert checkpointer._session is None
    checkpointer.close()


def test_what_the_environment_says_is_used(tmp_path: Path, clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOTWELD_STORE", f"file:{tmp_path}/store")
    monkeypatch.setenv("SPOTWELD_RUN_ID", "a-run")
    monkeypatch.setenv("SPOTWELD_ATTEMPT", "2")
    for _ in Checkpointer({"x": {}}, notices=[], clock=clock).steps(2):
        pass
    assert (tmp_path / "store" / "runs" / "a-run" / "head").exists()


def test_fenced_is_exit_75() -> None:
    assert Fenced.exit_status == 75
