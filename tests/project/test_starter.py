"""What init writes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotweld.errors import UsageError
from spotweld.project.keys import NAME, PROJECT
from spotweld.project.nodes import Kind, Pairs
from spotweld.project.nouns import LocalProvider, Registries
from spotweld.project.parsing import parse
from spotweld.project.reading import load_project
from spotweld.project.schema import schema_json
from spotweld.project.starter import name_for, starter, write_starter


def test_the_starter_is_a_project_as_it_stands(tmp_path: Path) -> None:
    folder = tmp_path / "My Digits"
    folder.mkdir()
    written = write_starter(folder)
    assert [path.relative_to(folder).as_posix() for path in written] == [
        "spotweld.yaml",
        ".spotweld/schema.json",
        ".spotweld/.gitignore",
    ]
    project = load_project(written[0])
    assert project.name == "my-digits"
    assert project.local == LocalProvider()
    assert written[1].read_text() == schema_json()
    assert written[2].read_text() == "*\n"


def test_commented_lines_are_right_too(tmp_path: Path) -> None:
    uncommented = re.sub(r"^( +)# (?=[a-z_]+: )", r"\1", starter("x"), flags=re.MULTILINE)
    assert uncommented.count("#") < starter("x").count("#") - 4
    file = tmp_path / "spotweld.yaml"
    file.write_text(uncommented)
    job = load_project(file).jobs["train"]
    assert job.budget is not None
    assert job.labels == {"team": "vision"}


def test_its_first_line_tells_editors_where_the_schema_is() -> None:
    assert starter("x").splitlines()[0] == "# yaml-language-server: $schema=.spotweld/schema.json"


def test_every_top_level_key_is_shown() -> None:
    for key in PROJECT.keys:
        assert re.search(rf"^(# )?{key}:", starter("x"), re.MULTILINE), key


def test_the_commented_images_are_right(tmp_path: Path) -> None:
    begin = starter("x").index("# images:")
    before, block, after = starter("x")[:begin], *starter("x")[begin:].split("\n\n", 1)
    file = tmp_path / "spotweld.yaml"
    file.write_text(f"{before}{re.sub('^# ', '', block, flags=re.MULTILINE)}\n\n{after}")
    (tmp_path / "base").mkdir()
    for folder in (tmp_path, tmp_path / "base"):
        (folder / "Dockerfile").write_text("FROM scratch\n")
    project = load_project(file)
    assert project.images["trainer"].bases == {"base": "base"}
    assert project.registries == Registries(
        f"oci:{tmp_path}/.spotweld/images/persistent", f"oci:{tmp_path}/.spotweld/images/ephemeral"
    )


def test_a_project_file_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "spotweld.yaml").write_text("mine")
    with pytest.raises(UsageError, match="is there already"):
        write_starter(tmp_path)
    assert (tmp_path / "spotweld.yaml").read_text() == "mine"
    assert not (tmp_path / ".spotweld").exists()


def test_what_cannot_be_written_whole_is_not_there(tmp_path: Path) -> None:
    (tmp_path / ".spotweld").write_text("as good as a disk that is full")
    with pytest.raises(UsageError, match=r"\.spotweld cannot be written: File exists"):
        write_starter(tmp_path)
    (tmp_path / ".spotweld").unlink()
    assert all(path.stat().st_size for path in write_starter(tmp_path))


@given(st.text(max_size=80).filter(lambda text: "/" not in text and "\0" not in text))
def test_every_folder_gives_a_name(text: str) -> None:
    name = name_for(Path("/") / text)
    assert re.fullmatch(NAME.form, name)


@given(st.from_regex(NAME.form, fullmatch=True))
def test_every_name_is_text_in_the_starter(name: str) -> None:
    root = parse(starter(name), "p.yaml")
    assert isinstance(root, Pairs)
    value = root.pairs["name"][1]
    assert (value.text, value.kind) == (name, Kind.TEXT)
