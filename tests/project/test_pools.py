"""What the project file says of pools."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from spotweld.errors import ProjectError
from spotweld.project.nouns import Pool, SpotUse
from spotweld.project.reading import load_project

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "name: x\njobs:\n  train: {command: a}\n  firm: {command: a, spot_policy: on-demand}\npools:\n"


def pools(folder: Path, written: str) -> dict[str, Pool]:
    file = folder / "spotweld.yaml"
    file.write_text(HEAD + written)
    return load_project(file).pools


def test_what_is_said_and_what_is_not(tmp_path: Path) -> None:
    assert pools(tmp_path, "  warm: {job: train}") == {"warm": Pool("warm", "train", 1, 0, SpotUse.AUTO)}
    all_keys = "  w-2: {job: train, machines: 3, spare: 2, spot_policy: spot}"
    assert pools(tmp_path, all_keys) == {"w-2": Pool("w-2", "train", 3, 2, SpotUse.SPOT)}
    assert pools(tmp_path, "  {}") == {}


@pytest.mark.parametrize(
    ("written", "place", "said", "todo"),
    [
        ("  warm: {}", (6, 9), "pools.warm has no job", "add job"),
        ("  warm: {job: tran}", (6, 15), "there is no job", "did you mean train?"),
        ("  warm: {job: zzz}", (6, 15), "there is no job", "the jobs are train or firm"),
        ("  warm: {job: train, machines: 0}", (6, 32), "out of range", "machines: 3"),
        ("  warm: {job: train, spares: 1}", (6, 22), "unknown key", "did you mean spare?"),
        ("  warm: {job: firm, spot_policy: spot}", (6, 34), "does not fit the job firm", "write on-demand"),
        ("  warm: {job: train, spare: 1, spot_policy: on-demand}", (6, 22), "spare does not fit", "raise machines"),
    ],
)
def test_what_is_wrong_is_told_where_it_stands(
    tmp_path: Path, written: str, place: tuple[int, int], said: str, todo: str
) -> None:
    with pytest.raises(ProjectError) as caught:
        pools(tmp_path, written)
    assert (caught.value.line, caught.value.column) == place
    assert said in str(caught.value)
    assert todo in caught.value.todo
