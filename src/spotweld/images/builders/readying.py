"""The Dockerfile and the ignore rules as a builder gets them: copies, with what it would not see otherwise."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from spotweld.images.builds.freshness import ignore_text, read_dockerfile
from spotweld.images.steps.mounts import BLIND, with_mounts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spotweld.images.builds.freshness import Standing
    from spotweld.project.nouns import Project


@contextmanager
def ready_dockerfile(project: Project, standing: Standing, builder: str) -> Iterator[Path]:
    """The file to build from, until the block ends.

    It is a copy, with the rules beside it: they leave Spotweld's own folder out of the context, commands say what they
    mount where the builder does not see that, and nobody edits it during the build.

    Args:
        project: the project.
        standing: of the image.
        builder: the builder's name.

    Raises:
        BuildFailed: the builder cannot be told what it does not see.
    """
    image = standing.image
    document = read_dockerfile(project, image)
    text = with_mounts(document, standing.steps) if builder in BLIND else document.source
    with tempfile.TemporaryDirectory(prefix="spotweld-image-") as folder:
        copy = Path(folder, image.dockerfile.name)
        copy.write_text(text, encoding="utf-8")
        # Even if there are none: without this file buildah would take those of a `.containerignore`.
        rules = copy.with_name(copy.name + ".dockerignore")
        rules.write_text(ignore_text(project, image), encoding="utf-8", errors="surrogateescape")
        yield copy
