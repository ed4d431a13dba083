"""Whether images have to be built: what their files say now, and whether an image of that key is in its registry.

Nothing here starts a builder or changes anything. An image whose key is in its registry needs no build. One that is
built upon an image that has to be built first has no key yet: only that build can say what it will stand upon.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from spotweld.errors import DockerfileError, ImageDamaged
from spotweld.images.builds.naming import LATEST, cache_of, repository_of, tag_of
from spotweld.images.builds.resolving import Base, resolve
from spotweld.images.builds.triggers import with_triggers
from spotweld.images.dockerfiles.dockerfile import parse, text_of
from spotweld.images.dockerfiles.ignore import Ignore
from spotweld.images.registries.manifests import blobs, children, this_platform
from spotweld.images.registries.opening import Registries, registries_of
from spotweld.images.steps.context import Context
from spotweld.images.steps.filedigests import FileDigests
from spotweld.images.steps.keys import image_key, references, step_keys
from spotweld.images.steps.preimages import Step
from spotweld.project.graph import build_order
from spotweld.project.nouns import Image
from spotweld.values.digests import Digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from spotweld.images.dockerfiles.dockerfile import Dockerfile
    from spotweld.images.registries.registry import Registry
    from spotweld.project.nouns import Project

PENDING = Digest("pending:")
"""Stands in keys for the identity of an image that is built first."""


class Standing(msgspec.Struct, frozen=True):
    """How an image stands.

    Attributes:
        image: it.
        registry: the URL of the registry that it lives in.
        repository: its repository there.
        platform: what it is for, written out.
        steps: its instructions with their keys. After a base that is built first, the keys are not the final ones.
        bases: what the names in its Dockerfile mean; those that are built first are missing.
        waits: the images of the project that are built first.
        key: its key; None: it waits.
        found: the manifest that its tag names now; None: there is none.
        latest: what ``latest`` names now.
        damage: why the image that is there is of no use; empty: nothing is known against it.
    """

    image: Image
    registry: str
    repository: str
    platform: str
    steps: tuple[Step, ...]
    bases: dict[str, Base]
    waits: tuple[str, ...] = ()
    key: Digest | None = None
    found: Digest | None = None
    latest: Digest | None = None
    damage: str = ""

    @property
    def digest(self) -> Digest | None:
        """Of the image that needs no build; None: it has to be built."""
        return None if self.damage else self.found

    @property
    def is_published(self) -> bool:
        """Whether nothing at all has to be done."""
        return self.digest is not None and self.latest == self.digest

    @property
    def tag(self) -> str:
        """Under which it lies there; nothing while it waits."""
        return tag_of(self.key) if self.key else ""


def standings(
    project: Project, names: Iterable[str] | None = None, registries: Registries | None = None
) -> tuple[Standing, ...]:
    """How the named images and all that they need stand, every base before what is built upon it.

    Args:
        project: the project.
        names: of images; None: all.
        registries: the ones to ask.

    Raises:
        DockerfileError: an image's Dockerfile cannot be used; also if a file or a base is missing.
        RegistryUnavailable: an image's registry does not answer.
        RegistryRefused: it refuses.
    """
    registries = registries or registries_of(project)
    found: dict[str, Standing] = {}
    for image in build_order(project.images, project.images if names is None else names):
        found[image.name] = stand(project, image, found, registries)
    return tuple(found.values())


def stand(
    project: Project, image: Image, bases: Mapping[str, Standing], registries: Registries, *, deep: bool = False
) -> Standing:
    """How one image stands.

    Args:
        project: the project.
        image: one of its images.
        bases: how those stand that it needs.
        registries: the ones to ask.
        deep: whether to ask for every layer of an image that is there, and for all that its bases do on builds.

    Raises:
        DockerfileError: see `standings`.
        RegistryUnavailable: see `standings`.
        RegistryRefused: see `standings`.
    """
    platform = image.platform or str(this_platform())
    document = read_dockerfile(project, image)
    wanted = references(document, image.args, platform, target=image.target)
    used = {reference.name for reference in wanted if reference.kind == "image"}
    needs = {name: bases[meant] for name, meant in image.bases.items() if name in used}
    waits = tuple(sorted({image.bases[name] for name, base in needs.items() if base.digest is None}))
    ready = {name: _base_of(base, registries) for name, base in needs.items() if base.digest is not None}
    others = [one for one in wanted if one.name in ready or one.name not in needs]
    named = resolve(others, ready, registries, document)
    pinned = with_triggers(named, platform, registries, triggers_memory_of(project), document, deep=deep)
    if triggers := _triggers(pinned):
        more = references(document, image.args, platform, target=image.target, triggers=triggers)
        pinned |= resolve([one for one in more if one not in wanted], ready, registries, document)
    identities = dict.fromkeys(needs, PENDING) | {name: one.identity for name, one in pinned.items()}
    steps = _steps(project, image, document, identities, pinned, platform)
    url = project.registries.of(image.lifetime)
    standing = Standing(image, url, repository_of(project.name, image.name), platform, steps, pinned, waits)
    if waits:
        return standing
    return _looked_up(msgspec.structs.replace(standing, key=image_key(steps, platform)), registries, deep=deep)


def is_as_it_was(project: Project, standing: Standing) -> bool:
    """Whether the image's files are still what ``standing`` says of them. No name is looked up again."""
    identities = {name: base.identity for name, base in standing.bases.items()}
    try:
        document = read_dockerfile(project, standing.image)
        steps = _steps(project, standing.image, document, identities, standing.bases, standing.platform)
    except DockerfileError:
        return False
    return image_key(steps, standing.platform) == standing.key


def _steps(
    project: Project,
    image: Image,
    document: Dockerfile,
    identities: Mapping[str, Digest],
    bases: Mapping[str, Base],
    platform: str,
) -> tuple[Step, ...]:
    with FileDigests(memory_of(project, image)) as digests:
        context = Context(image.context, ignore_rules(project, image), digests)
        return step_keys(
            document, context, image.args, identities, platform, target=image.target, triggers=_triggers(bases)
        )


def _triggers(bases: Mapping[str, Base]) -> dict[str, tuple[str, ...]]:
    return {name: base.triggers for name, base in bases.items() if base.triggers}


def cached_tags(standing: Standing, registries: Registries) -> frozenset[str]:
    """The tags in an image's cache: what of its finished instructions is there.

    Raises:
        RegistryUnavailable, RegistryRefused: nobody knows.
    """
    return frozenset(registries[standing.registry].tags(cache_of(standing.repository)))


def read_dockerfile(project: Project, image: Image) -> Dockerfile:
    """The image's Dockerfile, with a name that is relative to the project.

    Raises:
        DockerfileError: it is missing, cannot be read, or breaks a rule.
    """
    file = os.path.relpath(image.dockerfile, project.file.parent)
    try:
        return parse(text_of(image.dockerfile), file)
    except OSError as error:
        todo = f"write it, or say where it is: images.{image.name}.dockerfile is relative to the context"
        raise DockerfileError("there is no such Dockerfile", error.strerror or "", todo, file=file) from error
    except UnicodeDecodeError as error:
        raise DockerfileError("the Dockerfile is not text", str(error), "save it as UTF-8", file=file) from error


def ignore_rules(project: Project, image: Image) -> Ignore:
    """What of the context does not count: what the ignore file says, and Spotweld's own folder if it lies there.

    Raises:
        DockerfileError: a rule is no pattern.
    """
    file = ignore_file(image)
    name = os.path.relpath(file, project.file.parent) if file else ".dockerignore"
    return Ignore(ignore_text(project, image), name)


def ignore_text(project: Project, image: Image) -> str:
    """The ignore file's text, with a line for Spotweld's own folder where that is needed."""
    file = ignore_file(image)
    text = file.read_text(encoding="utf-8", errors="surrogateescape") if file else ""
    own = own_folder(project, image)
    return f"{text}\n{own}\n" if own else text


def ignore_file(image: Image) -> Path | None:
    """The ignore file that counts, if there is any."""
    beside = image.dockerfile.with_name(image.dockerfile.name + ".dockerignore")
    return next((file for file in (beside, image.context / ".dockerignore") if file.is_file()), None)


def own_folder(project: Project, image: Image) -> str:
    """Spotweld's own folder in the image's context; empty: it does not lie there.

    Registries, logs and machines are in it, so with ``COPY .`` every build would change what it is made of.
    """
    same = os.path.realpath(image.context) == os.path.realpath(project.state.parent)
    return project.state.name if same else ""


def memory_of(project: Project, image: Image) -> Path:
    """Where the digests of the image's files are remembered."""
    return project.state / "images" / "files" / f"{image.name}.json"


def triggers_memory_of(project: Project) -> Path:
    """Where it is remembered what base images do on builds upon them."""
    return project.state / "images" / "triggers.json"


def _base_of(base: Standing, registries: Registries) -> Base:
    assert base.digest is not None  # noqa: S101 - the caller has looked
    manifest = registries[base.registry].manifest(base.repository, base.digest)
    # An index has no configuration of its own.
    identity = base.digest if children(manifest) else blobs(manifest)[0].digest
    return Base(identity, base.registry, base.repository, base.digest)


def _looked_up(standing: Standing, registries: Registries, *, deep: bool) -> Standing:
    registry = registries[standing.registry]
    found = registry.resolve(standing.repository, standing.tag)
    if found is None:
        return msgspec.structs.replace(standing, latest=registry.resolve(standing.repository, LATEST))
    latest = registry.resolve(standing.repository, LATEST)
    # In a folder it costs next to nothing to see that the layers are there, too.
    look = deep or standing.registry.startswith("oci:")
    damage = damage_of(registry, standing.repository, found) if look else ""
    return msgspec.structs.replace(standing, found=found, latest=latest, damage=damage)


def damage_of(registry: Registry, repository: str, digest: Digest) -> str:
    """What of an image is gone from its registry, in words; empty: nothing. No layer is read."""
    try:
        manifest = registry.manifest(repository, digest)
    except ImageDamaged as error:
        return str(error)
    for part in blobs(manifest):
        if registry.blob_size(repository, part.digest) is None:
            return f"the blob {part.digest} is gone from {registry.url}"
    return ""
