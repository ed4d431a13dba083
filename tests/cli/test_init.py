"""``spotweld init``."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from spotweld.cli.main import program
from spotweld.project.reading import load_project
from spotweld.project.schema import schema

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_init_writes_a_project_and_says_what_to_type_next(here: Path) -> None:
    result = CliRunner().invoke(program, ["init"])
    assert result.exit_code == 0
    assert load_project(here / "spotweld.yaml").jobs
    assert result.stdout.splitlines()[0] == str(here / "spotweld.yaml")
    assert result.stderr.splitlines()[-1] == "next: spotweld plan"


def test_a_second_init_changes_nothing_and_is_refused(here: Path) -> None:
    CliRunner().invoke(program, ["init"])
    (here / "spotweld.yaml").write_text("mine")
    result = CliRunner().invoke(program, ["init"])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "is there already" in result.stderr
    assert (here / "spotweld.yaml").read_text() == "mine"


def test_init_elsewhere(here: Path) -> None:
    (here / "deep").mkdir()
    assert CliRunner().invoke(program, ["-C", "deep", "init"]).exit_code == 0
    assert (here / "deep/spotweld.yaml").exists()
    result = CliRunner().invoke(program, ["-C", "gone", "init"])
    assert result.exit_code == 2
    assert "gone is not a folder" in result.stderr


def test_init_where_nobody_may_write() -> None:
    result = CliRunner().invoke(program, ["-C", "/proc/self", "init"])
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


def test_a_folder_whose_name_is_not_utf_8(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    for words in (["init"], ["plan"]):
        told = CliRunner().invoke(program, ["-C", str(folder), *words])
        assert told.exit_code == 2
        assert "is not UTF-8" in told.stderr
    assert not list(folder.iterdir())


def test_schema_goes_to_stdout_and_nothing_is_written(here: Path) -> None:
    result = CliRunner().invoke(program, ["init", "--schema"])
    assert json.loads(result.stdout) == schema()
    assert not list(here.iterdir())
