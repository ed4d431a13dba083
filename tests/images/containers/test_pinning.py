"""What a job's image means now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.images.samples import add_image

from spotweld.errors import ImageNotFound
from spotweld.images.containers.pinning import Pinned, check_there, resolve_image
from spotweld.images.registries.layouts import Layout
from spotweld.images.registries.opening import open_registry
from spotweld.project.nouns import Image, Job, Lifetime, LocalProvider, Project, Registries
from spotweld.values.digests import Digest

if TYPE_CHECKING:
    from pathlib import Path


def project(folder: Path, *images: Image) -> Project:
    registries = Registries(f"oci:{folder}/persistent", f"oci:{folder}/ephemeral")
    return Project(
        folder / "spotweld.yaml",
        "Team_X",
        "memory:",
        LocalProvider(),
        {},
        images={image.name: image for image in images},
        registries=registries,
    )


def test_a_job_without_an_image_has_none(tmp_path: Path) -> None:
    assert resolve_image(project(tmp_path), Job("j", "true")) is None


@pytest.mark.parametrize("lifetime", Lifetime)
def test_an_image_of_the_project_is_its_newest_build(tmp_path: Path, lifetime: Lifetime) -> None:
    here, job = project(tmp_path, Image("box", lifetime=lifetime)), Job("j", "true", image="box")
    with pytest.raises(ImageNotFound, match="never built") as caught:
        resolve_image(here, job)
    assert caught.value.todo == "spotweld build box"
    registry = Layout(tmp_path / lifetime)
    for content in (b"old", b"new"):
        made = add_image(registry, "team-x/box", "latest", [content])
    assert resolve_image(here, job) == Pinned("box", registry.url, "team-x/box", made.digest)


def test_any_other_is_what_its_registry_says(server: str, repository: str, tmp_path: Path) -> None:
    host = server.removeprefix("http://")
    made = add_image(open_registry(server, {}), repository, "7", [b"layer"])
    for name in (f"{host}/{repository}:7", f"{host}/{repository}@{made.digest}"):
        pinned = resolve_image(project(tmp_path), Job("j", "true", image=name))
        assert pinned == Pinned(name, host, repository, made.digest)
        assert pinned.host == host
    with pytest.raises(ImageNotFound, match="under latest"):
        resolve_image(project(tmp_path), Job("j", "true", image=f"{host}/{repository}"))


@pytest.mark.parametrize(
    ("url", "host"),
    [("oci:/a/b", ""), ("https://h.example/", "h.example"), ("http://h:5", "h:5"), ("docker.io", "docker.io")],
)
def test_the_host_whose_credentials_are_needed(url: str, host: str) -> None:
    assert Pinned("n", url, "r", "sha256:0").host == host  # type: ignore[arg-type]


def test_an_image_that_was_cleaned_up_is_gone(tmp_path: Path) -> None:
    registry = Layout(tmp_path / "images")
    made = add_image(registry, "team-x/box", "latest", [b"layer"])
    check_there(Pinned("box", registry.url, "team-x/box", made.digest))
    with pytest.raises(ImageNotFound, match=r"is gone: .* holds no team-x/box@sha256:0{64} any more") as error:
        check_there(Pinned("box", registry.url, "team-x/box", Digest(f"sha256:{'0' * 64}")))
    assert "launch a new run" in error.value.todo
