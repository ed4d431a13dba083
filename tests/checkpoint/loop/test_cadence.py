"""When a loop saves."""

from __future__ import annotations

import threading
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from tests.checkpoint.loop.program import Program, at, slow_store

from spotweld.checkpoint import events
from spotweld.checkpoint.cadence import Rule

if TYPE_CHECKING:
    from pathlib import Path

    from tests.checkpoint.conftest import Announcer, HandClock, Watched


def test_cadence_in_steps(store: Watched, clock: HandClock, told: Path) -> None:
    program = Program(store, clock, told, every=3).run(10)
    assert program.saved == [(3, "cadence"), (6, "cadence"), (9, "cadence"), (10, "final")]


def test_cadence_in_seconds(store: Watched, clock: HandClock, told: Path) -> None:
    assert [step for step, _ in Program(store, clock, told, every="4s").run(10).saved] == [4, 8, 10]


def test_cadence_by_cost(store: Watched, clock: HandClock, told: Path) -> None:
    program = Program(store, clock, told, every="auto")

    def slow(verb: str, key: str) -> None:
        if verb == "create" and "/packs/" in key:
            program.beside.wait(10)
            clock.sleep(0.4)

    store.before = slow
    steps = [step for step, _ in program.run(500).saved]
    assert steps[0] == 1  # soon, to know the cost
    gaps = [later - earlier for earlier, later in pairwise(steps[:-1])]
    assert set(gaps[:3]) <= {48, 49}  # a quarter of it is assumed: sqrt(2 * 0.1 s * 3.2 h) = 48 s
    assert set(gaps[3:]) <= {95, 96}  # all of it was measured: sqrt(2 * 0.4 s * 3.2 h) = 96 s
    first, *_, last = [event.plan for event in program.of(events.Cadence)]
    assert (first.rule, first.measured, first.interference) == (Rule.LEAST_LOSS, False, pytest.approx(0.1))
    assert (last.measured, last.interference, last.durable) == (True, pytest.approx(0.4), pytest.approx(0.4))
    assert 500 // 61 <= len(program.of(events.Cadence)) <= 500 // 60 + 2  # once a minute, and at once when it changed


def test_lost_work_is_bounded_whatever_was_asked_for(store: Watched, clock: HandClock, told: Path) -> None:
    slow_store(store, clock, 2.0)
    program = Program(store, clock, told, every=1000, max_lost_work="20s").run(100)
    gaps = [later - earlier for earlier, later in pairwise([0, *(step for step, _ in program.saved)])]
    assert max(gaps) * 1.0 + 2.0 + 2.0 <= 20.0  # a step takes a second, and two more while a save runs beside it
    assert min(gaps[1:-1]) > 10
    assert program.of(events.Cadence)[0].plan.rule is Rule.MAX_LOST_WORK


def test_a_bound_that_cannot_be_kept_is_told_once(
    store: Watched, clock: HandClock, told: Path, caplog: pytest.LogCaptureFixture
) -> None:
    slow_store(store, clock, 30.0)
    program = Program(store, clock, told, every="auto", max_lost_work=20.0).run(30)
    assert caplog.text.count("max_lost_work 20.0 s cannot be kept, since a save takes 30.0 s") == 1
    assert {event.plan.kept for event in program.of(events.Cadence)} == {False}
    assert program.is_whole(30)


def test_a_machine_of_a_dangerous_age_is_saved_more_often(
    store: Watched, clock: HandClock, told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPOTWELD_HAZARD", "[[0, 0.3125], [300, 31.25]]")
    monkeypatch.setenv("SPOTWELD_MACHINE_STARTED", str(clock.now() - 100))
    slow_store(store, clock, 0.4)
    steps = [step for step, _ in Program(store, clock, told, every="auto").run(400).saved]
    gaps = [later - earlier for earlier, later in pairwise(steps[:-1])]
    assert min(gap for gap, step in zip(gaps, steps, strict=False) if 1 < step < 140) > 40
    assert max(gap for gap, step in zip(gaps, steps, strict=False) if step > 210) < 15


def test_the_risk_is_told_at_a_steps_edge_and_its_callbacks_harm_nobody(
    store: Watched,
    clock: HandClock,
    told: Path,
    announcer: Announcer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("SPOTWELD_MACHINE_STARTED", str(clock.now() - 60))
    program = Program(store, clock, told, announcer)
    checkpointer = program.checkpointer
    assert (checkpointer.risk.level, checkpointer.risk.hazard) == ("low", 0.0)
    heard: list[tuple[int, str]] = []

    def broken(_: object) -> None:
        raise ZeroDivisionError

    checkpointer.on_risk(broken)
    checkpointer.on_risk(lambda risk: heard.append((checkpointer.step, risk.level)))

    def body(_: Program, step: int) -> None:
        if step == 2:
            assert checkpointer.risk.hazard == 0.3125
            announcer.rebalance()
            assert checkpointer.risk.level == "high"
            assert checkpointer.risk.notice.source == "test"
        if step == 4:
            announcer.withdraw("r1")
        if step == 6:
            announcer.terminate(4.0)
            assert checkpointer.risk.left == pytest.approx(4.0 - 1.0, abs=1.1)

    with pytest.raises(SystemExit):
        program.run(60, body)
    assert heard == [(3, "high"), (5, "low"), (7, "leaving")]
    assert [(event.level, event.hazard) for event in program.of(events.Risk)] == [
        ("high", 6.0), ("low", 0.3125), ("leaving", 0.3125),
    ]  # fmt: skip
    assert caplog.text.count("a callback for risks failed, training goes on: ZeroDivisionError") == 3


def test_a_machine_that_is_riskier_than_usual_from_the_start(
    store: Watched, clock: HandClock, told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPOTWELD_HAZARD", "30")
    program = Program(store, clock, told)
    heard: list[tuple[int, str]] = []
    program.checkpointer.on_risk(lambda risk: heard.append((program.checkpointer.step, risk.level)))
    program.run(4)
    assert heard == [(1, "elevated")]


def test_a_save_on_request(store: Watched, clock: HandClock, told: Path) -> None:
    program = Program(store, clock, told)
    program.run(6, at(2, program.checkpointer.save))
    assert program.saved == [(3, "request"), (6, "final")]


def test_a_save_that_is_due_while_another_runs_waits_for_it(store: Watched, clock: HandClock, told: Path) -> None:
    gate = threading.Event()
    store.before = lambda verb, key: gate.wait(10) if (verb, "/packs/" in key) == ("create", True) else None
    program = Program(store, clock, told, every=1, patient=False)

    def body(program: Program, step: int) -> None:
        if step == 4:
            gate.set()
            program.wait()

    program.run(6, body)
    assert [step for step, _ in program.saved][:2] == [1, 5]
