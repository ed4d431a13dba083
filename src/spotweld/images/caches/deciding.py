"""What is cached of an image, and what of it may go: decisions only, from what was found.

A cached step is a finished instruction under a tag of its own, in the repository that `cache_of` names. Builds are not
cache: a verb about the cache removes none that could not be fetched any more afterwards.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from spotweld.images.builds.naming import LATEST
from spotweld.images.lifetimes.deciding import uses_image, uses_tag
from spotweld.values.digests import Digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from spotweld.images.builds.records import Build
    from spotweld.images.lifetimes.deciding import Contents, Use

_KEY = re.compile("[0-9a-f]{40}")
_ARGS = r"(?:\|\d+ (?:[^ =]+=.*? )?)?"
_SHELL = re.compile(rf"(?:RUN )?{_ARGS}/bin/sh -c (?!#\(nop\))(.*)", re.DOTALL)
_SUM = re.compile(r"\b(file|dir|multi):([0-9a-f]{8})[0-9a-f]{56}\b")


class Made(msgspec.Struct, frozen=True):
    """A build of an image that its registry has."""

    tag: str
    digest: Digest | None
    """None: it cannot be read."""
    latest: bool
    used_by: tuple[str, ...]
    started: float | None = None
    """When it was built, seconds since 1970; None: the store has no record of it."""
    seconds: float | None = None
    builder: str = ""
    commit: str = ""
    dirty: bool = False


class Cached(msgspec.Struct, frozen=True):
    """A cached step."""

    tag: str
    digest: Digest | None
    """None: it cannot be read."""
    what: str = ""
    """The instruction; empty: nobody says."""
    size: int = 0
    """Bytes of its own layer."""
    used: float | None = None
    """When it was last made or asked for, seconds since 1970, as far as anybody knows; None: nobody does."""
    needed: tuple[str, ...] = ()
    """Tags of builds that it is part of."""


class Cut(msgspec.Struct, frozen=True):
    """What goes of an image's cache."""

    image: str
    registry: str
    """Its URL."""
    repository: str
    steps: tuple[str, ...] = ()
    """Tags of the cache's repository."""
    builds: tuple[str, ...] = ()
    """Keys of the build that is ``latest``. It stays under that name; that it is up to date is forgotten."""
    before: float | None = None
    """Steps that somebody has used since this moment stay after all, seconds since 1970; None: none does."""
    staying: tuple[str, ...] = ()
    """What stays against expectation, and why, in words."""


def builds_of(contents: Contents, records: Iterable[Build], uses: Sequence[Use]) -> tuple[Made, ...]:
    """The builds that are there, newest first; those of unknown age last.

    Args:
        contents: the image's repository.
        records: of the image's builds.
        uses: what is in use of any image.
    """
    known = {one.tag: one for one in records}
    latest = _latest(contents)
    found = []
    for tag in contents.tags:
        if tag.name == LATEST and any(other.digest == tag.digest for other in contents.tags if other is not tag):
            continue
        users = [use.by for use in uses if uses_tag(use, contents.image, contents.repository, tag.name, tag.digest)]
        made = Made(tag.name, tag.digest, tag.digest is not None and tag.digest == latest, tuple(dict.fromkeys(users)))
        if (record := known.get(tag.name)) is not None:
            made = msgspec.structs.replace(
                made,
                started=record.started,
                seconds=record.seconds,
                builder=record.builder,
                commit=record.commit,
                dirty=record.dirty,
            )
        found.append(made)
    return tuple(sorted(found, key=lambda one: (one.started is None, -(one.started or 0), one.tag)))


def busted(contents: Contents, uses: Sequence[Use]) -> Cut:
    """What has to go so that the image's next build runs every instruction.

    Besides the cached steps, the key of the build that is ``latest``: with it, nothing would be built at all. Older
    builds keep theirs, since nothing else names them; whoever goes back to their very inputs gets them.

    Args:
        contents: the image's repositories.
        uses: what is in use of any image.
    """
    latest = _latest(contents)
    keys = [
        tag.name
        for tag in contents.tags
        if tag.digest and tag.digest == latest and _KEY.fullmatch(tag.name) is not None
    ]
    users = dict.fromkeys(use.by for use in uses if uses_image(use, contents.image, contents.repository))
    if keys and users:
        why = f"{', '.join(users)} uses the image: its builds stay, and are taken as long as their inputs do not change"
        return Cut(contents.image, contents.registry, contents.repository, contents.cache, (), None, (why,))
    return Cut(contents.image, contents.registry, contents.repository, contents.cache, tuple(keys))


def aged(contents: Contents, steps: Iterable[Cached], before: float) -> Cut:
    """The cached steps that nobody has used since ``before``, but for those that a build is made of.

    Args:
        contents: the image's repositories.
        steps: what is cached.
        before: seconds since 1970.
    """
    old = [one for one in steps if one.used is not None and one.used < before]
    needed = [one for one in old if one.needed]
    unknown = [one for one in steps if one.used is None and not one.needed]
    staying = []
    if needed:
        staying.append(f"{len(needed)} older step(s) stay: builds that are kept are made of them")
    if unknown:
        staying.append(f"{len(unknown)} step(s) stay: their registry does not say how old they are")
    gone = tuple(one.tag for one in old if not one.needed)
    return Cut(contents.image, contents.registry, contents.repository, gone, (), before, tuple(staying))


def origins(contents: Sequence[Contents], url: str) -> tuple[Contents, ...]:
    """From where an image is copied to a registry; none: what is there is more than the beginning of such a copy.

    Args:
        contents: the image's repositories, in all registries that were looked into.
        url: of the registry that the copy is for.
    """
    there = next((one for one in contents if one.registry == url), None)
    latest = _latest(there) if there else None
    return tuple(one for one in contents if one is not there and latest in {None, _latest(one)})


def instruction(created_by: str) -> str:
    """An instruction as a Dockerfile has it, from what a builder writes into an image's history."""
    text = created_by.strip().removesuffix("# buildkit").strip()
    if shell := _SHELL.fullmatch(text):
        text = f"RUN {shell[1]}"
    text = text.partition("#(nop)")[2] if "#(nop)" in text else text
    return _SUM.sub(r"\1:\2", " ".join(text.split()))


def _latest(contents: Contents) -> Digest | None:
    return next((tag.digest for tag in contents.tags if tag.name == LATEST), None)
