"""What the project file says of a job's directory, and what it may not say together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from spotweld.errors import ProjectError
from spotweld.project.nouns import CheckpointPolicy, EveryAuto, EverySeconds
from spotweld.project.reading import load_project

if TYPE_CHECKING:
    from pathlib import Path


def policy(folder: Path, checkpoint: str) -> CheckpointPolicy:
    file = folder / "spotweld.yaml"
    file.write_text(f"name: x\njobs:\n  t:\n    command: a\n    checkpoint: {{{checkpoint}}}\n")
    return load_project(file).jobs["t"].checkpoint


@pytest.mark.parametrize(
    ("written", "directory"),
    [("out", "out"), ("out/", "out"), ("./out", "out"), ("a/b.c/d e", "a/b.c/d e"), ("...", "..."), ("..a", "..a")],
)
def test_a_directory_is_a_folder_below_the_jobs(tmp_path: Path, written: str, directory: str) -> None:
    assert policy(tmp_path, f'directory: "{written}"').directory == directory


def test_all_keys_together(tmp_path: Path) -> None:
    assert policy(tmp_path, "directory: out/, every: 30s, keep_last: 2, ready: out/*.ok") == CheckpointPolicy(
        EverySeconds(30.0), 2, directory="out", ready="out/*.ok"
    )
    assert policy(tmp_path, "directory: out/, quiesce: ./pause, resume: ./go on") == CheckpointPolicy(
        EveryAuto(), directory="out", quiesce="./pause", resume="./go on"
    )


@pytest.mark.parametrize(
    "written", [".", "..", "/out", "a/../b", "a/..", "../out", "./", "a//b", "a\\\\b", "", "a\\nb"]
)
def test_other_places_are_refused(tmp_path: Path, written: str) -> None:
    with pytest.raises(ProjectError, match=r"directory.* is not a folder in the job's folder"):
        policy(tmp_path, f'directory: "{written}"')


@pytest.mark.parametrize(
    ("checkpoint", "column", "said"),
    [
        ("ready: out/READY", 18, "ready does not fit: it says when a directory is consistent"),
        ("quiesce: x", 18, "quiesce does not fit"),
        ("resume: x", 18, "resume does not fit"),
        ("directory: out, ready: r, quiesce: x", 44, "quiesce does not fit: the program says by itself"),
        ("directory: out, resume: x", 34, "resume does not fit: it undoes"),
        ("directory: out, every: 100 steps", 34, "every does not fit: Spotweld sees a directory change, and no steps"),
    ],
)
def test_keys_that_do_not_fit_together_are_refused(tmp_path: Path, checkpoint: str, column: int, said: str) -> None:
    with pytest.raises(ProjectError) as caught:
        policy(tmp_path, checkpoint)
    assert (caught.value.line, caught.value.column) == (5, column)
    assert f"jobs.t.checkpoint.{said}" in str(caught.value)
    assert caught.value.todo
