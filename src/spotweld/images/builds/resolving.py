"""Which images the names in a Dockerfile mean now, by digest.

A name may mean an image of the project, one of a registry, or, with a digest in it, itself. Parsers (``# syntax``) and
files behind URLs are not looked up: a key has their names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from spotweld.errors import BaseUnresolved, ImageError, UsageError
from spotweld.images.registries.references import parse_reference
from spotweld.values.digests import Digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from spotweld.images.dockerfiles.dockerfile import Dockerfile
    from spotweld.images.registries.opening import Registries
    from spotweld.images.steps.preimages import Reference


class Base(msgspec.Struct, frozen=True):
    """What a name means now.

    Attributes:
        identity: what goes into keys. Of an image of another registry, its manifest's digest; of one of the project,
            its configuration's, which labels do not change.
        registry: the URL where it lies.
        repository: its repository there.
        digest: of its manifest.
        triggers: the instructions that it runs in builds upon it, as far as they are known.
    """

    identity: Digest
    registry: str
    repository: str
    digest: Digest
    triggers: tuple[str, ...] = ()


def resolve(
    references: Iterable[Reference], known: Mapping[str, Base], registries: Registries, document: Dockerfile
) -> dict[str, Base]:
    """What every image among the references means; those with a digest are not asked for.

    Args:
        references: of a Dockerfile.
        known: the names that mean images of the project.
        registries: where to look the others up.
        document: the Dockerfile, for errors.

    Raises:
        BaseUnresolved: a name means nothing, or its registry does not answer.
    """
    found: dict[str, Base] = {}
    for reference in references:
        name = reference.name
        if reference.kind == "image" and name not in found:
            found[name] = known[name] if name in known else _look_up(name, registries, document)
    return found


def _look_up(name: str, registries: Registries, document: Dockerfile) -> Base:
    file, line = document.file, _line_of(name, document)
    what = f"nobody knows which image {name!r} is now"
    try:
        full = parse_reference(name).full()
        if full.digest:
            return Base(full.digest, full.host, full.repository, full.digest)
        digest = registries[full.host].resolve(full.repository, full.name)
    except (ImageError, UsageError) as error:
        raise BaseUnresolved(what, str(error), error.todo, file=file, line=line) from error
    if digest is None:
        todo = "look at its spelling; if it is an image of this project, name it in 'bases' of the image"
        raise BaseUnresolved(what, f"{full.host} has no {full.repository}:{full.name}", todo, file=file, line=line)
    return Base(digest, full.host, full.repository, digest)


def _line_of(name: str, document: Dockerfile) -> int:
    """Where the name stands; 0: nowhere as it is, since it is put together from arguments."""
    every = (one for stage in document.stages for one in stage.instructions)
    return next((one.line for one in every if name in one.text), 0)
