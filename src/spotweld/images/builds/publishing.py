"""The last steps of a build: labels, the record, ``latest``. The next build does those that are missing.

The builder has sent the image under its key. Labels are added to it there, then the store is told, and ``latest`` moves
last of all: where ``latest`` names the image of the key, everything has been done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotweld.errors import ImageNotFound, TagMoved
from spotweld.images.builds.naming import LATEST
from spotweld.images.registries import manifests

if TYPE_CHECKING:
    from collections.abc import Callable

    from spotweld.images.builds.commits import Commit
    from spotweld.images.builds.freshness import Standing
    from spotweld.images.registries.registry import Registry
    from spotweld.values.digests import Digest

KEY_LABEL = "io.spotweld.key"
_TRIES = 5
"""To label an image that others label at the same moment."""


def labels_of(standing: Standing, project: str, commit: Commit, builder: str) -> dict[str, str]:
    """The annotations of an image. They tell people something, and never change a key."""
    labels = {
        KEY_LABEL: str(standing.key),
        "io.spotweld.project": project,
        "io.spotweld.image": standing.image.name,
        "io.spotweld.lifetime": standing.image.lifetime.value,
        "io.spotweld.builder": builder,
    }
    if commit.name:
        labels["org.opencontainers.image.revision"] = commit.name
        labels["io.spotweld.dirty"] = "true" if commit.dirty else "false"
    return labels


def publish(
    standing: Standing, registry: Registry, labels: Callable[[], dict[str, str]], record: Callable[[Digest], None]
) -> Digest:
    """Do what is left to do for an image that lies under its key.

    Args:
        standing: how it stood before it was built.
        registry: where it lies.
        labels: gives its annotations; they are not asked for if it has some.
        record: is called with its digest, before ``latest`` moves.

    Returns:
        Its digest, with its labels.

    Raises:
        TagMoved: somebody else published another image during the build.
    """
    digest = _labelled(standing, registry, labels)
    record(digest)
    _move_latest(standing, registry, digest)
    return digest


def _labelled(standing: Standing, registry: Registry, labels: Callable[[], dict[str, str]]) -> Digest:
    """See that the image under its key has its labels; its digest then."""
    tries = 0
    while True:
        manifest = registry.manifest(standing.repository, standing.tag)
        if manifests.labels(manifest).get(KEY_LABEL) == standing.key:
            return manifest.digest
        try:
            return registry.label(standing.repository, standing.tag, labels())
        except TagMoved:
            # Another machine that builds the same has just sent or labelled it: what it made is as good.
            tries += 1
            if tries == _TRIES:
                raise


def _move_latest(standing: Standing, registry: Registry, digest: Digest) -> None:
    try:
        if registry.resolve(standing.repository, LATEST) != digest:
            registry.tag(standing.repository, digest, LATEST, expected=standing.latest or "absent")
    except TagMoved as moved:
        try:
            theirs = registry.labels(standing.repository, LATEST).get(KEY_LABEL, "")
        except ImageNotFound:
            theirs = ""
        # Two machines that build the same from the same are not at odds.
        if theirs == standing.key:
            return
        raise TagMoved(
            f"{standing.repository}:{LATEST} in {standing.registry} was moved by somebody else during this build",
            moved.why,
            f"Nothing is lost: the new image is there as {standing.repository}:{standing.tag}. See who else builds "
            f"it (spotweld explain {standing.image.name}); building again gives {LATEST} to what your files say.",
        ) from moved
