"""SIGKILL to every process of a run at every kind of moment: it completes, bit-identical, and redoes nothing saved."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from tests.runs.killing import (
    Field,
    check,
    finish,
    kill_agent,
    kill_controller,
    kill_everything,
    kill_program,
    prepare,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Kill = Callable[[Path, int], tuple[Field, bool]]

VICTIMS: dict[str, tuple[Kill, range]] = {
    "controller": (kill_controller, range(1, 60)),
    "agent": (kill_agent, range(1, 36)),
    "program": (kill_program, range(1, 79)),
    "everything": (kill_everything, range(1, 60)),
}
"""For each victim the points to be tried. Those beyond the end of its life kill nothing and are not counted."""


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Field:
    field = prepare(tmp_path_factory.mktemp("undisturbed") / "run")
    finish(field)
    return field


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_few_kills(victim: str, reference: Field, tmp_path: Path) -> None:
    kill, points = VICTIMS[victim]
    middle = points[len(points) // 3]
    field, killed = kill(tmp_path / "run", middle)
    check(field, reference)
    assert killed


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("victim", VICTIMS)
def test_kills_everywhere(victim: str, reference: Field, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kill, points = VICTIMS[victim]

    def one(number: int) -> bool:
        field, killed = kill(tmp_path / str(number), number)
        check(field, reference)
        return killed

    with ThreadPoolExecutor(2) as pool:
        killed = sum(pool.map(one, points))
    with capsys.disabled():
        sys.stdout.write(f"\n{victim}: killed at {killed} points; done and bit-identical each time\n")
    assert killed >= 0.6 * len(points)
