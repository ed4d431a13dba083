"""The Dockerfile as a builder gets it: itself, or a copy with what that builder would not see otherwise."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from spotweld.images.builds.freshness import ignore_file, ignore_text, own_folder, read_dockerfile
from spotweld.images.steps.mounts import BLIND, with_mounts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spotweld.images.builds.freshness import Standing
    from spotweld.project.nouns import Project


@contextmanager
def ready_dockerfile(project: Project, standing: Standing, builder: str) -> Iterator[Path]:
    """The file to build from, until the block ends.

    A copy is made where Spotweld's own folder has to be left out of the context, or where the builder does not see the
    content of mounts.

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
    if not own_folder(project, image) and text == document.source:
        yield image.dockerfile
        return
    with tempfile.TemporaryDirectory(prefix="spotweld-image-") as folder:
        copy = Path(folder, image.dockerfile.name)
        copy.write_text(text, encoding="utf-8")
        if own_folder(project, image) or ignore_file(image):
            rules = copy.with_name(copy.name + ".dockerignore")
            rules.write_text(ignore_text(project, image), encoding="utf-8", errors="surrogateescape")
        yield copy
