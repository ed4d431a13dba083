"""``spotweld config show``, and through it what every verb does with a project file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spotweld.cli.main import program
from spotweld.project.starter import starter

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    for name in ("SPOTWELD_STORE", "SPOTWELD_PROGRESS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def show(*words: str) -> Result:
    return CliRunner().invoke(program, [*words[:0], "config", "show", *words])


def test_values_with_their_origins(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "spotweld.yaml").write_text("name: x\nstore: file:s\njobs: {t: {command: a}}\n")
    monkeypatch.setenv("SPOTWELD_PROGRESS", "plain")
    lines = show("--origin").stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["setting", "value", "origin"],
        ["store", f"file:{here}/s", f"{here}/spotweld.yaml:2"],
        ["progress", "plain", "SPOTWELD_PROGRESS"],
    ]
    assert json.loads(show("--origin", "--json", "--store", "gs://b", "--progress", "quiet").stdout) == [
        {"name": "store", "value": "gs://b", "origin": "flag --store"},
        {"name": "progress", "value": "quiet", "origin": "flag --progress"},
    ]
    assert json.loads(show("--json").stdout)[1] == {"name": "progress", "value": "plain"}


def test_it_works_without_a_project(here: Path) -> None:
    assert f"file:{here}/.spotweld/store" in show().stdout


def test_but_not_without_the_project_that_was_named() -> None:
    result = CliRunner().invoke(program, ["-C", "gone.yaml", "config", "show"])
    assert result.exit_code == 2
    assert "gone.yaml" in result.stderr


def test_a_wrong_project_file_is_three_lines_with_a_place(here: Path) -> None:
    (here / "spotweld.yaml").write_text("name: x\njobs:\n  t: {comand: a}\n")
    result = show()
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        'error SW1101: spotweld.yaml:3:7: unknown key "comand"',
        "  a job (jobs.t) has no such key",
        "  did you mean command?",
    ]
    told = json.loads(show("--json").stderr)["error"]
    assert (told["code"], told["line"], told["column"]) == ("SW1101", 3, 7)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 1500),
    st.integers(0, 40),
    st.one_of(st.text(max_size=4), st.sampled_from(["*a", "&a ", "\t", "[" * 99])),
)
def test_no_project_file_gives_a_traceback(here: Path, start: int, cut: int, put: str) -> None:
    text = starter("x")
    damaged = text[:start] + put + text[start + cut :]
    (here / "spotweld.yaml").write_bytes(damaged.encode(errors="surrogatepass"))
    result = show()
    assert result.exit_code in {0, 2}
    assert "Traceback" not in result.output
    assert "SW0000" not in result.output
    assert len(result.stderr.splitlines()) <= 3
