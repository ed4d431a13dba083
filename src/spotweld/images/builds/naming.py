"""What a project's images are called in their registries."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from spotweld.images.registries.references import LATEST
from spotweld.values.digests import hex_of

if TYPE_CHECKING:
    from spotweld.values.digests import Digest

__all__ = ["LATEST", "cache_of", "repository_of", "tag_of"]

_DIGITS = 40
"""Of a key, in a tag: a tag may have 128 characters, and 160 bits never meet by chance."""


def repository_of(project: str, image: str) -> str:
    """``PROJECT/IMAGE``: where the image lies in its registry.

    Projects whose names differ only in what a repository's name cannot hold share their repositories.
    """
    part = re.sub(r"[^a-z0-9]+", "-", project.lower()).strip("-")
    return f"{part or 'project'}/{image}"


def cache_of(repository: str) -> str:
    """The repository of the image's finished instructions, in the same registry."""
    return f"{repository}/cache"


def tag_of(key: Digest) -> str:
    """The tag of the image with this key."""
    return hex_of(key)[:_DIGITS]
