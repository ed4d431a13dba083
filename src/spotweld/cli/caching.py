"""What the verbs about image caches have in common: the project's images, who uses them, and how they are named."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

from spotweld.cli.output import say
from spotweld.cli.session import open_project
from spotweld.errors import RegistryUnavailable, UsageError
from spotweld.images.builds.records import builds
from spotweld.images.containers.hosting import look_at
from spotweld.images.lifetimes.surveying import survey
from spotweld.images.registries.opening import open_registry
from spotweld.project.words import nearest, quoted
from spotweld.providers.opening import host_images
from spotweld.report.words import count
from spotweld.runs.uses import uses_now
from spotweld.store.opening import open_store
from spotweld.values.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from spotweld.images.builds.records import Build
    from spotweld.images.containers.hosting import HostCache
    from spotweld.images.lifetimes.deciding import Contents, Survey, Use
    from spotweld.images.registries.registry import Registry
    from spotweld.project.nouns import Project
    from spotweld.store.objects import Objects


@dataclass(frozen=True)
class Here:
    """The project of this call, and what its registries hold."""

    project: Project
    objects: Objects
    survey: Survey
    host: HostCache | None
    """What machines of this host have fetched."""

    def contents(self, image: str | None) -> tuple[Contents, ...]:
        """Where images lie: once each in most projects, more often after its lifetime has changed.

        Args:
            image: the one that is meant; None: all.

        Raises:
            UsageError: there is no such image.
        """
        known = {*self.project.images, *(one.image for one in self.survey.contents)}
        if image is not None and image not in known and not self.survey.unseen:
            near = nearest(image, known)
            todo = f"did you mean {near}?" if near else f"there are: {', '.join(sorted(known)) or 'none'}"
            raise UsageError(f"there is no image {quoted(image)}", "", todo)
        return tuple(one for one in self.survey.contents if image in {None, one.image} and (one.tags or one.cache))

    def refuse_unseen(self) -> None:
        """See that nothing was left out.

        Raises:
            RegistryUnavailable: a registry could not be looked into.
        """
        for blind in self.survey.unseen:
            raise RegistryUnavailable(f"Cannot look into {blind.where}", blind.why, blind.todo)

    def registry(self, contents: Contents) -> Registry:
        """The registry of an image."""
        return open_registry(contents.registry)

    def records(self, contents: Contents) -> tuple[Build, ...]:
        """The builds of an image, those that have not come to their end too."""
        return builds(self.objects, contents.image, say, unfinished=True)

    @cached_property
    def uses(self) -> Sequence[Use]:
        """Which images are in use."""
        return uses_now(self.project, self.objects, time.time())


def here() -> Here:
    """Look at the project's registries."""
    project, _ = open_project()
    objects = open_store(project.store, verify=False)
    return Here(project, objects, survey(project, objects), look_at(host_images(project.state)))


def described(host: HostCache) -> str:
    """What machines of this host have fetched, in words."""
    used = ", in use" if host.in_use else ""
    return f"fetched on this host: {count(host.images, 'image')}, {format_size(host.size)}{used}, {host.folder}"


def image_argument(*, required: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a verb take an image's name; it arrives as ``image``."""
    metavar = "IMAGE" if required else "[IMAGE]"
    return click.argument("image", metavar=metavar, required=required, shell_complete=_complete)


def _complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    """Images of the project file: nobody waits for a network at each key."""
    try:
        with context.scope(cleanup=False):
            return [name for name in open_project()[0].images if name.startswith(incomplete)]
    except Exception:  # noqa: BLE001 - completion has nobody to tell
        return []
