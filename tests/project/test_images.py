"""What the project file says of images."""

from __future__ import annotations

import pathlib
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spotweld.errors import ProjectError, UsageError
from spotweld.images.dockerfiles.scope import platform_arguments
from spotweld.images.registries.opening import open_registry
from spotweld.images.registries.references import parse_reference
from spotweld.project.graph import build_order
from spotweld.project.imagekeys import BARE, IMAGE, JOB_IMAGE, NAME, REFERENCE, REGISTRY
from spotweld.project.nouns import Lifetime, Project, Registries
from spotweld.project.reading import load_project
from spotweld.project.shapes import Text

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "name: x\njobs:\n  t: {command: a}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "sub").mkdir(parents=True)
    (folder / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "Dockerfile").write_text("FROM scratch\n")
    return folder


def load(folder: Path, text: str) -> Project:
    file = folder / "spotweld.yaml"
    file.write_text(text)
    return load_project(file)


def of(images: str) -> str:
    return f"{HEAD}images:\n  {images}\n"


def of_job(image: str, images: str = "") -> str:
    return f"name: x\njobs:\n  t: {{command: a, image: {image}}}\nimages: {{{images}}}\n"


@pytest.mark.parametrize(
    ("text", "line", "column", "said", "todo"),
    [
        pytest.param(of("a: {contxt: .}"), 5, 7, 'unknown key "contxt"', "did you mean context?", id="unknown key"),
        pytest.param(of("a: {base: {}}"), 5, 7, 'unknown key "base"', "did you mean bases?", id="unknown key, bases"),
        pytest.param(of("a: {}\n  a: {}"), 6, 3, 'the key "a" stands twice', "remove", id="twice"),
        pytest.param(of("A: {}"), 5, 3, "is not an image's name", "trainer", id="capital"),
        pytest.param(of("a-: {}"), 5, 3, "is not an image's name", "trainer", id="dash at the end"),
        pytest.param(of("scratch: {}"), 5, 3, "is not an image's name", "trainer", id="scratch"),
        pytest.param(of("a: {context: gone}"), 5, 16, '"gone" does not exist', "a folder", id="no context"),
        pytest.param(of("a: {context: Dockerfile}"), 5, 16, "is not a folder", "a folder", id="file as context"),
        pytest.param(of("a: {context: ../beside}"), 5, 16, '"../beside" is outside', "move it", id="context outside"),
        pytest.param(of("a: {context: /}"), 5, 16, '"/" is outside', "move it", id="root as context"),
        pytest.param(of("a: {context: sub}"), 5, 3, '"Dockerfile" is not a file', "write one", id="no Dockerfile"),
        pytest.param(of("a: {dockerfile: sub}"), 5, 19, '"sub" is not a file', "write one", id="folder as Dockerfile"),
        pytest.param(of("a: {dockerfile: ../beside/Dockerfile}"), 5, 19, "outside", "move it", id="Dockerfile outside"),
        pytest.param(of('a: {dockerfile: "a\\tb"}'), 5, 19, "is not a file", "write one", id="odd Dockerfile"),
        pytest.param(of("a: {platform: linux/x86_64}"), 5, 17, "is not a platform", "linux/amd64", id="platform"),
        pytest.param(of("a: {platform: amd64}"), 5, 17, "is not a platform", "linux/amd64", id="platform without OS"),
        pytest.param(of("a: {target: 1}"), 5, 15, "1 is a number", '"1"', id="number as target"),
        pytest.param(of("a: {target: a b}"), 5, 15, "is not a stage's name", "runtime", id="target"),
        pytest.param(of("a: {keep: 0}"), 5, 13, "0 is out of range", "keep", id="keep nothing"),
        pytest.param(of("a: {lifetime: persistant}"), 5, 17, "not known", "mean persistent?", id="lifetime"),
        pytest.param(of("a: {args: {CUDA: 12.4}}"), 5, 20, "its value is a number", "quotes", id="number as argument"),
        pytest.param(of("a: {args: {CU-DA: x}}"), 5, 14, "is not the name of a build argument", "CUDA", id="argument"),
        pytest.param(of("a: {bases: {scratch: b}}\n  b: {}"), 5, 15, "can stand in FROM", "debian", id="scratch base"),
        pytest.param(of("a: {bases: {De bian: b}}\n  b: {}"), 5, 15, "can stand in FROM", "debian", id="bad FROM"),
        pytest.param(of("a: {bases: {x: B}}"), 5, 18, "is not an image's name", "trainer", id="bad base"),
        pytest.param(of("a: {bases: {x: bse}}\n  base: {}"), 5, 18, 'no image "bse"', "mean base?", id="base unknown"),
        pytest.param(of("a: {bases: {x: a}}"), 5, 18, "images need each other: a -> a", "remove", id="cycle of one"),
        pytest.param(
            of("a: {}\n  b: {bases: {x: a, y: d}}\n  c: {bases: {x: b}}\n  d: {bases: {z: a, x: c}}"),
            6,
            24,
            "images need each other: b -> d -> c -> b",
            "remove",
            id="cycle of three",
        ),
        pytest.param(of_job("trainr", "trainer: {}"), 3, 26, 'no image "trainr"', "mean trainer?", id="job, near"),
        pytest.param(of_job("python"), 3, 26, 'no image "python"', "library/python:latest", id="job, bare"),
        pytest.param(of_job("a:1", "a: {}"), 3, 26, '"a:1" could be two', "docker.io/library/a:1", id="job, either"),
        pytest.param(of_job("'Debian:12'"), 3, 26, "is not an image", "trainer", id="job, capital"),
        pytest.param(of_job("'a@sha256:12'"), 3, 26, "is not an image", "trainer", id="job, digest"),
        pytest.param(of_job("https://h/a"), 3, 26, "is not an image", "trainer", id="job, URL"),
        pytest.param(of_job("a/" * 127 + "aa"), 3, 26, "is not an image", "trainer", id="job, long"),
        pytest.param(HEAD + "registries: {persistant: x}", 4, 14, "unknown key", "mean persistent?", id="registries"),
        pytest.param(
            HEAD + "registries: {ephemeral: ghcr.io/a}", 4, 25, "not a registry's URL", "oci:", id="repository"
        ),
        pytest.param(HEAD + "registries: {ephemeral: 'oci:'}", 4, 25, "not a registry's URL", "oci:", id="no folder"),
        pytest.param(HEAD + "registries: {ephemeral: s3://b}", 4, 25, "not a registry's URL", "oci:", id="bucket"),
    ],
)
def test_one_clear_error_with_its_place(folder: Path, text: str, line: int, column: int, said: str, todo: str) -> None:
    with pytest.raises(ProjectError) as caught:
        load(folder, text)
    error = caught.value
    assert (error.line, error.column) == (line, column), f"{error} / {error.todo}"
    assert said in error.what
    assert error.why
    assert todo in error.todo


def test_the_example_of_the_page_loads(folder: Path) -> None:
    page = (pathlib.Path(__file__).parents[2] / "docs" / "images-file.md").read_text()
    for context in ("docker/base", "docker/ml-stack"):
        (folder / context).mkdir(parents=True)
        (folder / context / "Dockerfile").touch()
    (folder / "docker/train.Dockerfile").touch()
    project = load(folder, "name: x\n" + page.split("```yaml\n")[1].split("```")[0])
    order = [image.name for image in build_order(project.images, [project.jobs["train"].image])]
    assert order == ["base", "ml-stack", "trainer"]


def test_links_do_not_lead_outside(folder: Path) -> None:
    (folder / "link").symlink_to(folder.parent / "beside")
    with pytest.raises(ProjectError, match="is outside the project's folder"):
        load(folder, of("a: {context: link}"))
    with pytest.raises(ProjectError, match="is outside the project's folder"):
        load(folder, of("a: {dockerfile: link/Dockerfile}"))


def test_a_project_behind_a_link_is_inside_itself(folder: Path) -> None:
    (folder.parent / "link").symlink_to(folder)
    assert load(folder.parent / "link", of("a: {context: .}")).images["a"].context.samefile(folder)


def test_secrets_are_not_repeated(folder: Path) -> None:
    for text in (of("a: {args: {TOKEN: [hunter2]}}"), HEAD + "registries: {persistent: https://me:hunter2@host}"):
        with pytest.raises(ProjectError) as caught:
            load(folder, text)
        assert "hunter2" not in f"{caught.value} {caught.value.todo}"


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("oci:a/b", "oci:{folder}/a/b"),
        ("oci:../b", "oci:{folder}/../b"),
        ("oci:/a b", "oci:/a b"),
        ("oci:///a", "oci:/a"),
        ("localhost:5000", "localhost:5000"),
        ("https://ghcr.io/", "https://ghcr.io/"),
        ("http://10.0.0.1:5000", "http://10.0.0.1:5000"),
    ],
)
def test_folders_of_registries_become_absolute(folder: Path, written: str, url: str) -> None:
    registries = load(folder, f"{HEAD}registries: {{ephemeral: '{written}'}}").registries
    assert registries == Registries(f"oci:{folder}/.spotweld/images/persistent", url.format(folder=folder))
    assert registries.of(Lifetime.EPHEMERAL) == registries.ephemeral
    assert registries.of(Lifetime.PERSISTENT) == registries.persistent


@pytest.mark.parametrize("image", ["a", "python:3.12", "ghcr.io/a/b", "a/b", f"python@sha256:{'0' * 64}", "b:1/a:2"])
def test_a_job_names_an_image_of_the_file_or_any_other(folder: Path, image: str) -> None:
    assert load(folder, of_job(f"'{image}'", "a: {}")).jobs["t"].image == image


@pytest.mark.parametrize("image", ["localhost:5000/x", "localhost/x:1"])
def test_a_host_is_not_taken_for_an_image_of_the_file(folder: Path, image: str) -> None:
    assert load(folder, of_job(image, "localhost: {}")).jobs["t"].image == image


LETTERS = st.text("aB0.:/@_-", max_size=12)
REFERENCES = (
    st.from_regex(REFERENCE, fullmatch=True)
    | LETTERS
    | st.lists(st.sampled_from(["a", "localhost", "A.b", "[::1]", ":5", "/", "_", "@sha256:", "0" * 64])).map("".join)
)


@given(text=REFERENCES)
@example("a_b.c/d")
@example("localhost/")
@example("a" * 127 + "." + "a" * 126 + "/" + "a")
@example("a/" * 127 + "a:" + "b" * 128)
def test_the_form_of_a_reference_is_what_the_images_room_reads(text: str) -> None:
    taken = len(text) <= JOB_IMAGE.longest and re.fullmatch(REFERENCE, text) is not None
    if taken:
        try:
            JOB_IMAGE.read(text)
        except ValueError:
            taken = False
    try:
        parse_reference(text)
    except UsageError:
        assert not taken
    else:
        assert taken


@given(text=st.from_regex(REGISTRY, fullmatch=True))
def test_every_url_of_that_form_opens(text: str) -> None:
    try:
        open_registry(text, {})
    except UsageError:
        assert "[" in text  # a form does not say which digits and colons are an address


@given(name=st.from_regex(NAME.form, fullmatch=True).filter(lambda name: len(name) <= NAME.longest))
def test_every_images_name_can_be_a_repository_and_is_bare(name: str) -> None:
    assert parse_reference(name).repository == name
    assert re.fullmatch(BARE, name)


def platform_shape() -> Text:
    shape = IMAGE.keys["platform"].shape
    assert isinstance(shape, Text)
    return shape


@given(text=st.from_regex(platform_shape().form, fullmatch=True))
def test_platforms_have_one_spelling(text: str) -> None:
    platform = platform_shape().read(text)
    assert platform_shape().read(platform) == platform
    assert platform_arguments(platform, platform)["TARGETOS"] == "linux"
