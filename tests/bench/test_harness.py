"""The benchmarks' arithmetic and their result files."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

if TYPE_CHECKING:
    from types import ModuleType

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    module = importlib.import_module("harness")
    monkeypatch.setattr(module, "RESULTS", tmp_path / "bench" / "results")
    (tmp_path / "bench").mkdir()
    return module


def test_contenders_take_turns_and_the_first_round_does_not_count(harness: ModuleType) -> None:
    called: list[str] = []

    def contender(name: str, values: list[float]) -> float:
        called.append(name)
        return values.pop(0)

    ours, peers = [9.0, 1.0, 2.0], [9.0, 3.0, 4.0]
    taken = harness.in_turns({"spotweld": lambda: contender("a", ours), "peer": lambda: contender("b", peers)}, 2)
    assert taken == {"spotweld": [1.0, 2.0], "peer": [3.0, 4.0]}
    assert called == ["a", "b"] * 3


def test_result_file_has_the_promised_fields(
    harness: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = {"spotweld": [3.0, 1.0, 2.0], "peer": [4.0]}
    found = harness.figure("a measure", "ms", taken, limit=1.5, goal="a goal", command="make bench-x")
    assert harness.report("x", [found]) == 1
    (written,) = msgspec.json.decode((tmp_path / "bench" / "results" / "x.json").read_bytes())
    assert written == {
        "measure": "a measure",
        "unit": "ms",
        "ours": 2.0,
        "peers": {"peer": 4.0},
        "limit": 1.5,
        "goal": "a goal",
        "command": "make bench-x",
        "spread": {"spotweld": [1.0, 3.0], "peer": [4.0, 4.0]},
    }
    printed = capsys.readouterr().out
    assert "EXCEEDED" in printed
    assert "2.000x" in printed


def test_command_that_fails_ends_the_benchmark(harness: ModuleType) -> None:
    with pytest.raises(SystemExit, match="exit status 3"):
        harness.command_output([sys.executable, "-c", "raise SystemExit(3)"])
