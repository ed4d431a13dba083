"""From a project to its provider."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotweld.providers.local.cloud import LocalCloud
from spotweld.providers.local.guests import CACHE
from spotweld.values.environment import IMAGES

if TYPE_CHECKING:
    from pathlib import Path

    from spotweld.project.nouns import LocalProvider
    from spotweld.providers.provider import Provider

_CLOUD = "cloud"


def open_provider(state: Path, local: LocalProvider) -> Provider:
    """The provider that the machines of a project come from. Nothing is started or written yet.

    Args:
        state: the project's state folder.
        local: how the local provider behaves.
    """
    return LocalCloud(state / _CLOUD, local)


def host_images(state: Path) -> Path:
    """Where machines of this host keep the images that they have fetched, for each other.

    Args:
        state: the project's state folder.
    """
    return state / _CLOUD / CACHE / IMAGES
