"""The Dockerfile as a builder gets it: with an ignore file that leaves Spotweld's own folder out of the context."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from spotweld.images.freshness import ignore_text, own_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spotweld.project.nouns import Image, Project


@contextmanager
def ready_dockerfile(project: Project, image: Image) -> Iterator[Path]:
    """The file to build from, until the block ends: the image's own, or a copy beside which the rules can lie."""
    if not own_folder(project, image):
        yield image.dockerfile
        return
    with tempfile.TemporaryDirectory(prefix="spotweld-image-") as folder:
        copy = Path(folder, image.dockerfile.name)
        shutil.copyfile(image.dockerfile, copy)
        rules = copy.with_name(copy.name + ".dockerignore")
        rules.write_text(ignore_text(project, image), encoding="utf-8", errors="surrogateescape")
        yield copy
