"""What machines of a host have fetched goes as a whole, and never while one lives in it."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from spotweld.images.containers.hosting import clear, hold, look_at

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "cache/images"
    (folder / "fetched-overlay").mkdir(parents=True)
    (folder / "fetched-overlay/a.json").write_text("{}")
    (folder / "layers").mkdir()
    (folder / "layers/blob").write_bytes(bytes([1]) * 100_000)
    (folder / "layers/again").hardlink_to(folder / "layers/blob")
    return folder


def test_nothing_is_there(tmp_path: Path) -> None:
    assert look_at(tmp_path / "images") is None
    assert clear(tmp_path / "images") == 0
    assert list(tmp_path.iterdir()) == []


def test_its_size_counts_a_file_once(folder: Path) -> None:
    found = look_at(folder)
    assert found is not None
    assert (found.folder, found.images, found.in_use) == (str(folder), 1, False)
    assert 100_000 <= found.size < 150_000
    assert clear(folder) == found.size
    assert look_at(folder) is None


def test_it_stays_while_somebody_holds_it(folder: Path) -> None:
    locks = [hold(folder), hold(folder)]
    for lock in locks:
        found = look_at(folder)
        assert found is not None
        assert found.in_use
        assert clear(folder) is None
        assert (folder / "layers/blob").exists()
        os.close(lock)
    assert clear(folder)
    os.close(hold(folder))  # a machine that comes later begins anew


def test_it_stays_while_something_is_mounted_in_it(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/thesis").write_text("once")
    (folder / "here").mkdir()
    subprocess.run(["mount", "--bind", str(tmp_path / "precious"), str(folder / "here")], check=True)
    try:
        assert clear(folder) is None
    finally:
        subprocess.run(["umount", str(folder / "here")], check=True)
    assert clear(folder)
    assert (tmp_path / "precious/thesis").read_text() == "once"


def test_a_kill_leaves_no_image_that_counts_as_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = shutil.rmtree

    def removing(path: Path) -> None:
        if path == folder:
            raise KeyboardInterrupt
        known(path)

    monkeypatch.setattr("spotweld.images.containers.hosting.shutil.rmtree", removing)
    with pytest.raises(KeyboardInterrupt):
        clear(folder)
    found = look_at(folder)
    assert found is not None
    assert found.images == 0
    monkeypatch.undo()
    assert clear(folder)
