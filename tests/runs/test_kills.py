"""SIGKILL to every process of a run at every kind of moment: it completes, bit-identical, and redoes nothing saved."""

from __future__ import annotations

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
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Any

    Kill = Callable[[Path, Any], tuple[Field, bool]]


def points(**most: int) -> list[Point]:
    return [(call, number) for call, last in most.items() for number in range(1, last + 1)]


VICTIMS: dict[str, tuple[Kill, Sequence[Point] | range]] = {
    "controller": (kill_controller, points(write=8, pwrite64=12, fsync=15, fdatasync=7, rename=5)),
    "agent": (kill_agent, points(write=7, fsync=18, rename=2, link=5)),
    "program": (kill_program, points(write=30, fsync=30, rename=6, link=9)),
    "everything": (kill_everything, range(1, 46)),
}
"""For each victim the points to be tried. Those beyond the end of its life kill nothing and are not counted."""


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
    kill, moments = VICTIMS[victim]
    middle = moments[len(moments) // 3]
    field, killed = kill(tmp_path / "run", middle)
    check(field, reference)
    assert killed


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("victim", VICTIMS)
def test_kills_everywhere(victim: str, reference: Field, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kill, moments = VICTIMS[victim]

    def one(moment: Point | int) -> bool:
        field, killed = kill(tmp_path / str(moment), moment)
        check(field, reference)
        return killed

    with ThreadPoolExecutor(2) as pool:
        killed = sum(pool.map(one, moments))
    with capsys.disabled():
        sys.stdout.write(f"\n{victim}: killed at {killed} points; done and bit-identical each time\n")
    assert killed >= 0.6 * len(moments)
