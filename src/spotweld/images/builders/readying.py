"""The Dockerfile and the ignore rules as a builder gets them: copies, with what it would not see otherwise."""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from spotweld.images.builds.freshness import ignore_rules, ignore_text, read_dockerfile
from spotweld.images.steps.mounts import BLIND, with_mounts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spotweld.images.builds.freshness import Standing
    from spotweld.images.dockerfiles.ignore import Ignore
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
        said = ignore_text(project, image)
        if builder in BLIND:
            said += "".join(
                f"\n{_literally(path)}" for path in _kept_by_others(image.context, ignore_rules(project, image))
            )
        rules.write_text(said, encoding="utf-8", errors="surrogateescape")
        yield copy


def _kept_by_others(context: Path, ignore: Ignore) -> Iterator[str]:
    """What the key does not see, and a builder with its own idea of the rules would see."""
    if not any(rule.keeps for rule in ignore.rules):
        return
    folders = [""]
    while folders:
        above = folders.pop()
        for entry in sorted(os.scandir(context / above), key=lambda entry: entry.name):
            path = f"{above}/{entry.name}" if above else entry.name
            whole = ignore.decides(path) is not None and not ignore.may_keep_below(path)
            is_folder = entry.is_dir(follow_symlinks=False)
            if is_folder and not whole:
                folders.append(path)
            elif ignore.is_kept_by_others(path):
                yield path


def _literally(path: str) -> str:
    """The rule that leaves out just that."""
    # The slash keeps a `!` or a `#` from being more than a character; a space at the end would be cut off.
    return "/" + re.sub(r" $", "[ ]", re.sub(r"([*?\[\\])", r"\\\1", path))
