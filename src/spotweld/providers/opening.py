"""From a project to its provider."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotweld.providers.local.cloud import LocalCloud

if TYPE_CHECKING:
    from spotweld.project.nouns import Project
    from spotweld.providers.provider import Provider


def open_provider(project: Project) -> Provider:
    """The provider that the project's machines come from. Nothing is started or written yet."""
    return LocalCloud(project.state / "cloud", project.local)
