"""Which place has the last word, and that it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from spotweld.errors import ProjectError, UsageError
from spotweld.project.settings import Setting, settings, user_file

JOBS = "name: x\njobs: {t: {command: a}}\n"


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("home/spotweld", "project"):
        (tmp_path / folder).mkdir(parents=True)


def say(tmp_path: Path, *, user: str | None, project: str | None, **environ: str) -> dict[str, Setting]:
    if user is not None:
        (tmp_path / "home/spotweld/config.yaml").write_text(user)
    file = tmp_path / "project/spotweld.yaml"
    if project is not None:
        file.write_text(project)
    found = settings(file if project is not None else None, {}, {"XDG_CONFIG_HOME": f"{tmp_path}/home", **environ})
    return found[1]


def test_flags_before_environment_before_project_before_user_before_default(tmp_path: Path) -> None:
    environ = {"XDG_CONFIG_HOME": f"{tmp_path}/home"}
    file = tmp_path / "project/spotweld.yaml"
    file.write_text(JOBS)

    def store(flags: dict[str, str | None]) -> tuple[str, str]:
        project, found = settings(file, flags, environ)
        assert project is not None
        assert project.store == found["store"].value
        return found["store"].value, found["store"].origin

    assert store({}) == (f"file:{tmp_path}/project/.spotweld/store", "default")
    mine = tmp_path / "home/spotweld/config.yaml"
    mine.write_text("# mine\nstore: file:shared\n")
    assert store({}) == (f"file:{tmp_path}/home/spotweld/shared", f"{mine}:2")
    file.write_text(f"{JOBS}store: file:here\n")
    assert store({}) == (f"file:{tmp_path}/project/here", f"{file}:3")
    environ["SPOTWELD_STORE"] = "file:there"
    assert store({}) == (f"file:{tmp_path}/there", "SPOTWELD_STORE")
    assert store({"store": None}) == (f"file:{tmp_path}/there", "SPOTWELD_STORE")
    assert store({"store": "s3://bucket/x"}) == ("s3://bucket/x", "flag --store")


def test_progress_comes_from_the_user_file_or_the_environment(tmp_path: Path) -> None:
    assert say(tmp_path, user=None, project=JOBS)["progress"].value == "auto"
    mine = tmp_path / "home/spotweld/config.yaml"
    assert say(tmp_path, user="progress: plain\n", project=JOBS)["progress"] == Setting(
        "progress", "plain", f"{mine}:1"
    )
    found = say(tmp_path, user="progress: plain\n", project=JOBS, SPOTWELD_PROGRESS="quiet")["progress"]
    assert found == Setting("progress", "quiet", "SPOTWELD_PROGRESS")


def test_there_are_settings_without_a_project(tmp_path: Path) -> None:
    found = say(tmp_path, user=None, project=None)
    assert found["store"] == Setting("store", f"file:{tmp_path}/.spotweld/store", "default")


def test_an_empty_user_file_says_nothing(tmp_path: Path) -> None:
    assert say(tmp_path, user="# nothing yet\n", project=None)["progress"].origin == "default"


def test_an_empty_variable_says_nothing(tmp_path: Path) -> None:
    assert say(tmp_path, user=None, project=None, SPOTWELD_STORE="")["store"].origin == "default"


def test_a_wrong_user_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProjectError) as caught:
        say(tmp_path, user="\nprogres: plain\n", project=None)
    assert caught.value.file.endswith("home/spotweld/config.yaml")
    assert (caught.value.line, caught.value.todo) == (2, "did you mean progress?")


@pytest.mark.parametrize(
    ("name", "value"), [("SPOTWELD_STORE", "/tmp/x"), ("SPOTWELD_STORE", "memory:"), ("SPOTWELD_PROGRESS", "loud")]
)
def test_a_wrong_variable_is_named(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(UsageError, match=name):
        say(tmp_path, user=None, project=None, **{name: value})


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"XDG_CONFIG_HOME": "/c", "HOME": "/h"}, "/c/spotweld/config.yaml"),
        ({"XDG_CONFIG_HOME": "relative", "HOME": "/h"}, "/h/.config/spotweld/config.yaml"),
        ({"HOME": "/h"}, "/h/.config/spotweld/config.yaml"),
    ],
)
def test_the_user_file_stands_where_xdg_says(environ: dict[str, str], expected: str) -> None:
    assert user_file(environ) == Path(expected)


def test_a_home_that_is_closed_to_this_user_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", closed)
    found = settings(None, {}, {"HOME": f"{tmp_path}/home"})[1]
    assert {one.origin for one in found.values()} == {"default"}
