"""The examples, and the example in the README, end with the same bits however often they are killed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spotweld.project.reading import load_project

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Trained

    Both = Callable[..., Trained]

ROOT = Path(__file__).parents[2]


def example(name: str) -> Path:
    return ROOT / "examples" / name / "train.py"


def own_loop() -> str:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (found,) = (block for block in blocks if "Checkpointer" in block)
    return found


def test_readme_example_is_short() -> None:
    assert len([line for line in own_loop().splitlines() if line.strip()]) <= 15


def test_readme_example_survives_kills(in_peace_and_killed: Both, tmp_path: Path) -> None:
    script = tmp_path / "own_loop.py"
    script.write_text(own_loop())
    trained = in_peace_and_killed(script, save_every=100, kills=(333, 777))
    assert sorted(trained.losses) == list(range(2000))


def test_digits_survives_kills(in_peace_and_killed: Both) -> None:
    trained = in_peace_and_killed(example("digits"), save_every=5, kills=(8, 7), STEPS="20")
    assert sorted(trained.losses) == list(range(20))
    assert "test accuracy" in trained.printed


@pytest.mark.slow
def test_digits_learns_however_often_it_is_killed(in_peace_and_killed: Both) -> None:
    trained = in_peace_and_killed(example("digits"), save_every=50, kills=(120, 33, 75), STEPS="300")
    assert float(trained.printed.split("test accuracy ")[1].split("%")[0]) > 90


@pytest.mark.slow
def test_pygpt_survives_kills(in_peace_and_killed: Both) -> None:
    trained = in_peace_and_killed(example("pygpt"), save_every=4, kills=(10, 7), STEPS="24")
    assert "bits per byte" in trained.printed


@pytest.mark.parametrize("name", ["digits", "pygpt"])
def test_project_files_are_valid(name: str) -> None:
    project = load_project(ROOT / "examples" / name / "spotweld.yaml")
    assert project.name == name
    assert set(project.jobs) == {"train"}
