"""What a teardown takes and what outlives it, and which old builds go: decisions only, from what was found.

Four things protect an image: its record in the store, its label, the registry that it lies in, and whoever uses it.
The project file alone protects nothing, so taking an image out of it takes no protection away.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import msgspec

from spotweld.images.builds.naming import LATEST
from spotweld.images.builds.records import Build, Kept
from spotweld.images.lifetimes.forgetting import Forgotten
from spotweld.project.nouns import Lifetime, Project
from spotweld.values.digests import Digest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

PROJECT_LABEL = "io.spotweld.project"
LIFETIME_LABEL = "io.spotweld.lifetime"
_OURS = re.compile(rf"{LATEST}|[0-9a-f]{{40}}")
"""The tags that builds give. The label of one may be gone: a deletion that was killed moves it to an empty index."""
ANY = "*"
"""In the place of an image: nobody knows which one."""


class Use(msgspec.Struct, frozen=True):
    """Somebody who needs an image."""

    image: str
    """An image of the project by its name, or any other by its reference; or ``ANY``."""
    by: str
    """Who it is, for people."""


class Tag(msgspec.Struct, frozen=True):
    """A tag of an image, and what it names."""

    name: str
    digest: Digest | None
    """None: what it names cannot be read."""
    labels: dict[str, str] = {}


class Contents(msgspec.Struct, frozen=True):
    """What lies in an image's repository, and in that of its cache."""

    image: str
    registry: str
    """Its URL."""
    repository: str
    tags: tuple[Tag, ...] = ()
    cache: tuple[str, ...] = ()
    """Tags of finished instructions."""
    size: int | None = 0
    """Bytes of all of it, each blob once; None: unknown."""
    is_known: bool = True
    """The file, a record or a label says that it is the project's; cached steps alone have no label."""


class Unseen(msgspec.Struct, frozen=True):
    """A place that could not be looked into, or something in it that could not be removed."""

    where: str
    why: str
    todo: str = ""


class Survey(msgspec.Struct, frozen=True):
    """All images of a project that could be found."""

    project: Project
    """With its registries' URLs as the registries themselves write them."""
    contents: tuple[Contents, ...]
    kept: dict[str, Kept | None]
    """What the store says of each image; None: it says something that cannot be read."""
    unseen: tuple[Unseen, ...] = ()
    forgotten: tuple[Forgotten, ...] = ()
    """Registries that somebody has given up; nothing was looked for there."""


class Going(msgspec.Struct, frozen=True):
    """What a teardown removes of an image."""

    image: str
    registry: str
    repository: str
    tags: tuple[str, ...]
    """In the order in which they go: ``latest`` before the others, so that nobody begins to use it."""
    cache: tuple[str, ...]
    size: int | None
    persistent: bool
    """It was protected, and its name was typed."""


class Staying(msgspec.Struct, frozen=True):
    """What a teardown leaves."""

    what: str
    where: str
    why: str
    size: int | None
    """Bytes; None: unknown."""
    command: str
    """What removes it by hand."""


class Plan(msgspec.Struct, frozen=True):
    """What a teardown does to images."""

    going: tuple[Going, ...] = ()
    staying: tuple[Staying, ...] = ()
    unseen: tuple[Unseen, ...] = ()
    registries: dict[str, bool] = {}
    """Whose space is given back, also what one that was killed has left; and whether persistent images live there."""


def remembered(old: Kept | None, new: Kept, *, move: bool = False) -> Kept:
    """The record of an image after ``new`` was found to hold: protection is never taken away by it.

    Args:
        old: the record until now.
        new: what the project file says.
        move: the image lies in the new place as well, so the old one need not be remembered.
    """
    if old is None or not old.protected or (new.protected and move):
        return new
    return old


def plan(survey: Survey, named: Collection[str] = (), only: Collection[str] = ()) -> Plan:
    """What a teardown does.

    Args:
        survey: what was found.
        named: protected images whose names were typed, so they go as well.
        only: nothing but these images; empty: all.
    """
    going: list[Going] = []
    staying: list[Staying] = []
    registries: dict[str, bool] = {}
    for one in survey.contents:
        if only and one.image not in only:
            continue
        lasting = one.registry == survey.project.registries.persistent or bool(protection(survey, one))
        registries[one.registry] = registries.get(one.registry, False) or lasting
        if not (one.tags or one.cache or _is_recorded(survey, one)):
            continue
        why = protection(survey, one)
        command = f"spotweld teardown {one.image} --persistent"
        if why and one.image not in named:
            staying.append(Staying(_counted(one), _where(one), why, one.size, command))
            continue
        foreign = [tag.name for tag in one.tags if not _is_ours(tag, survey.project.name)]
        staying += [_foreign(one, name) for name in foreign]
        tags = sorted((tag.name for tag in one.tags if tag.name not in foreign), key=lambda name: name != LATEST)
        if tags or one.cache or why:
            size = one.size if not foreign else None
            going.append(Going(one.image, one.registry, one.repository, tuple(tags), one.cache, size, bool(why)))
    return Plan(tuple(going), tuple(staying), survey.unseen, registries)


def protection(survey: Survey, contents: Contents) -> str:
    """Why a teardown leaves the image alone; empty: it does not."""
    kept = survey.kept.get(contents.image)
    image = survey.project.images.get(contents.image)
    if not contents.is_known:
        return "it is called as the project's are, but neither the file, the store nor a label says that it is"
    if kept is None and contents.image in survey.kept:
        return "its record in the store cannot be read, so it may be protected"
    if _is_recorded(survey, contents):
        if image is None:
            return "protected when it was set up; that it is not in the project file any more does not change it"
        if image.lifetime is not Lifetime.PERSISTENT:
            return "protected when it was set up; that the project file now says ephemeral does not change it"
        return "persistent"
    if any(tag.labels.get(LIFETIME_LABEL) == Lifetime.PERSISTENT for tag in contents.tags):
        return "its label says that it is persistent"
    registries = survey.project.registries
    shared = registries.persistent == registries.ephemeral
    if contents.registry == registries.persistent and (
        not shared or (image is not None and image.lifetime is Lifetime.PERSISTENT)
    ):
        return "it lies in the registry of persistent images"
    return ""


def _is_recorded(survey: Survey, contents: Contents) -> bool:
    """Whether the store says that what lies there is protected, even if nothing is there yet or any more."""
    kept = survey.kept.get(contents.image)
    here = (contents.registry, contents.repository)
    return kept is not None and kept.protected and (kept.registry, kept.repository) == here


def outdated(
    tags: Mapping[str, Digest], builds: Iterable[Build], keep: int, uses: Sequence[Use], repository: str
) -> tuple[str, ...]:
    """The tags that a clean-up removes, oldest first.

    Only keys that this project's store knows the build of: in a registry that others use too, the rest is theirs.

    Args:
        tags: of the image's repository, with what each names.
        builds: of the image, with their ends.
        keep: the newest this many stay.
        uses: what is in use of any image.
        repository: the image's.
    """
    newest = sorted((one for one in builds if one.tag in tags), key=lambda one: (-one.started, one.tag))
    image = repository.rpartition("/")[2]
    needed = {tags.get(LATEST)} | {tags[one.tag] for one in newest[:keep]}
    needed |= {
        digest for name, digest in tags.items() for use in uses if uses_tag(use, image, repository, name, digest)
    }
    return tuple(one.tag for one in reversed(newest) if tags[one.tag] not in needed)


def uses_image(use: Use, image: str, repository: str) -> bool:
    """Whether somebody may need any build of an image."""
    _, found, rest = use.image.partition(repository)
    return use.image in {ANY, image} or (bool(found) and rest[:1] in {"", ":", "@"})


def uses_tag(use: Use, image: str, repository: str, tag: str, digest: Digest | None) -> bool:
    """Whether somebody may need what a tag names; in doubt it is so."""
    if not uses_image(use, image, repository):
        return False
    name, at, wanted = use.image.partition(repository)[2].partition("@")
    if at:
        return wanted == digest
    return name in {"", f":{LATEST}", f":{tag}"}


def _is_ours(tag: Tag, project: str) -> bool:
    """Whether a build of this project gave the tag, or somebody gave it to what such a build made."""
    owner = tag.labels.get(PROJECT_LABEL)
    return owner == project or (owner is None and _OURS.fullmatch(tag.name) is not None)


def _foreign(contents: Contents, tag: str) -> Staying:
    where = f"{contents.registry} ({contents.repository}:{tag})"
    scheme, _, rest = contents.registry.partition(":")
    source = f"oci:{rest}:" if scheme == "oci" else f"docker:{rest}/"
    plain = " --tls-verify=false" if scheme == "http" else ""
    command = f"skopeo delete{plain} {shlex.quote(f'{source}{contents.repository}:{tag}')}"
    return Staying(f"tag {tag} of {contents.image}", where, "it has no label of this project", None, command)


def _where(contents: Contents) -> str:
    return f"{contents.registry} ({contents.repository})"


def _counted(contents: Contents) -> str:
    count = len([tag for tag in contents.tags if tag.name != LATEST])
    return f"image {contents.image} ({count} build{'s' * (count != 1)}, {len(contents.cache)} cached steps)"
