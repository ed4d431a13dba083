"""Which bits a job's image means now: its name becomes a digest, once for all attempts of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from spotweld.errors import ImageNotFound
from spotweld.images.builds.naming import LATEST, repository_of
from spotweld.images.registries.opening import in_full, open_registry
from spotweld.images.registries.references import HUB, parse_reference
from spotweld.values.digests import Digest

if TYPE_CHECKING:
    from spotweld.project.nouns import Job, Project


class Pinned(msgspec.Struct, frozen=True):
    """An image that can change no more."""

    name: str
    """As the job has it."""
    registry: str
    """Its URL, as ``images.opening.open_registry`` takes it."""
    repository: str
    digest: Digest
    """Of the manifest, or of the index of all its platforms."""

    def __str__(self) -> str:
        return f"{self.name} ({self.digest[:19]})"

    @property
    def host(self) -> str:
        """Of the registry, with its port; empty: it is a folder."""
        if self.registry.startswith("oci:"):
            return ""
        scheme, _, rest = self.registry.rpartition("://")
        return rest.rstrip("/") if scheme else self.registry


def resolve_image(project: Project, job: Job) -> Pinned | None:
    """What the job's image is now; None: it runs in none.

    An image of the project is its newest build, any other one what its registry says. Nothing is changed.

    Raises:
        ImageNotFound: there is no such image, or it was never built.
        RegistryUnavailable: the registry does not answer.
        RegistryRefused: the registry does not allow it.
    """
    if not job.image:
        return None
    image = project.images.get(job.image)
    if image is not None:
        url, repository, name = project.registries.of(image.lifetime), repository_of(project.name, image.name), LATEST
        why = f"{url} holds no {repository}:{name}"
        missing = ImageNotFound(f"the image {job.image} was never built", why, f"spotweld build {job.image}")
    else:
        reference = parse_reference(job.image).full()
        host, repository, name = reference.host or HUB, reference.repository, reference.name
        url = in_full(host, (project.registries.persistent, project.registries.ephemeral))
        missing = ImageNotFound(
            f"there is no image {job.image}", f"{url} holds no {repository} under {name}", "look at its spelling"
        )
    digest = open_registry(url).resolve(repository, name)
    if digest is None:
        raise missing
    return Pinned(job.image, url, repository, digest)


def check_there(image: Pinned) -> None:
    """See that the image can still be fetched: builds are cleaned up when no run needs them.

    Raises:
        ImageNotFound: it is gone.
        RegistryUnavailable: the registry does not answer.
        RegistryRefused: the registry does not allow it.
    """
    if open_registry(image.registry).resolve(image.repository, image.digest) is None:
        why = f"{image.registry} holds no {image.repository}@{image.digest} any more"
        raise ImageNotFound(f"the image {image} is gone", why, "launch a new run, in the image of now")
