"""The order of system calls is the durability: every fsync comes where a power cut would otherwise undo something."""

from pathlib import Path

import pytest
from tests.store.traces import Step, record, undone_by_a_power_cut

from spotweld.store.local import LocalObjects


def prepared(folder: Path, replaced: int) -> Path:
    objects = LocalObjects(folder)
    objects.create("object", b"old")
    for _ in range(replaced):
        objects.replace("object", b"old", objects.read("object")[1])
    return folder


@pytest.mark.parametrize("replaced", [0, 1])
@pytest.mark.parametrize("act", ["create", "put", "replace", "publish"])
def test_what_is_visible_is_durable_and_no_fsync_can_be_left_out(act: str, replaced: int, tmp_path: Path) -> None:
    steps = record(act, prepared(tmp_path / "store", replaced), tmp_path / "log")
    assert undone_by_a_power_cut(steps) == []
    for number, step in enumerate(steps):
        # The folder that holds the store, and the pointer that has no bytes, are synced for good measure.
        if step.name == "fsync" and step.paths[0] != str(tmp_path) and "/@" not in step.paths[0]:
            assert undone_by_a_power_cut(steps[:number] + steps[number + 1 :]), step


def test_an_object_is_written_synced_named_and_its_folder_synced(tmp_path: Path) -> None:
    steps = record("create", prepared(tmp_path / "store", 0), tmp_path / "log")
    folder = str(tmp_path / "store/deep/folder")
    names = [step.name for step in steps if step.paths[0].startswith(folder)]
    assert names == ["mkdir", "write", "fsync", "link", "fsync", "unlink"]


def test_the_checker_sees_a_rename_before_the_fsync() -> None:
    wrong = [
        Step("write", ("/s/.~t",)),
        Step("rename", ("/s/.~t", "/s/k")),
        Step("fsync", ("/s/k",)),
        Step("fsync", ("/s",)),
    ]
    assert undone_by_a_power_cut(wrong)
