"""SIGKILL to every process of a run at every kind of moment: it completes, bit-identical, and redoes nothing saved."""

from __future__ import annotations

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
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
    "agent": (kill_agent, _points(fsync=24, write=10, link=7, rename=4)),
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
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("victim", VICTIMS)
def test_kills_everywhere(victim: str, reference: Field, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kill, points = VICTIMS[victim]

    def one(point: Point) -> bool:
        field, killed = kill(tmp_path / str(point), point)
        check(field, reference)
        shutil.rmtree(tmp_path / str(point))
        return killed

    with ThreadPoolExecutor(2) as pool:
        killed = sum(pool.map(one, points))
    with capsys.disabled():
        sys.stdout.write(f"\n{victim}: killed at {killed} points; done and bit-identical each time\n")
    assert killed >= len(points) // 2
