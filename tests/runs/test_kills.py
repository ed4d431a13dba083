"""SIGKILL to every process of a run at every kind of moment: it completes, bit-identical, and redoes nothing saved."""

from __future__ import annotations

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import pytest
from tests.runs.killing import (
    Field,
    Point,
    check,
    finish,
    kill_agent,
    kill_controller,
    kill_everything,
    kill_program,
    prepare,
)

from spotweld.runs import decisions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Kill = Callable[[Path, Point], tuple[Field, bool]]


def _points(**calls: int) -> list[Point]:
    return [Point(call, number) for call, most in calls.items() for number in range(1, most + 1)]


VICTIMS: dict[str, tuple[Kill, list[Point]]] = {
    "controller": (kill_controller, _points(fsync=26, fdatasync=9, pwrite64=16, write=14, rename=8, link=2)),
    "controller of a run with a deadline": (
        partial(kill_controller, work=30.0, deadline=3600.0),
        _points(fsync=12, fdatasync=11, pwrite64=18, write=6),
    ),
    "agent": (kill_agent, _points(fsync=30, write=12, link=10, rename=6)),
    "program": (kill_program, _points(fsync=24, write=60, link=5, rename=4)),
    "everything": (kill_everything, _points(time=80)),
}
"""For each victim the points to be tried, as many as an undisturbed run has and some more. Those beyond the end of its
life kill nothing and are not counted."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "FAILURE_PAUSE", 0.2)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Field:
    field = prepare(tmp_path_factory.mktemp("undisturbed") / "run")
    finish(field)
    return field


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_few_kills(victim: str, reference: Field, tmp_path: Path) -> None:
    kill, points = VICTIMS[victim]
    field, killed = kill(tmp_path / "run", points[6])
    check(field, reference)
    assert killed


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_kills_everywhere(reference: Field, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def one(victim: str, point: Point) -> bool:
        folder = tmp_path / f"{victim}-{point}"
        field, killed = VICTIMS[victim][0](folder, point)
        check(field, reference)
        shutil.rmtree(folder)
        return killed

    killed: dict[str, int] = {}
    for victim, (_, points) in VICTIMS.items():
        with ThreadPoolExecutor(2) as pool:
            killed[victim] = sum(pool.map(one, [victim] * len(points), points))
        with capsys.disabled():
            sys.stdout.write(f"\n{victim}: killed at {killed[victim]} points; done and bit-identical each time")
    with capsys.disabled():
        sys.stdout.write(f"\nin all: killed at {sum(killed.values())} points\n")
    assert min(killed.values()) >= 15
    assert sum(killed.values()) >= 200
