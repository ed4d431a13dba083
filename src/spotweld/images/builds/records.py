"""What the project's store remembers of images: that one is protected, and how each was built.

``images/IMAGE/image.json`` says where an image lives and whether a teardown may take it;
``images/IMAGE/builds/KEY.json`` what one build was made of and how long each instruction took. Both are small JSON
texts, written by create and compare-and-swap, so two machines that write at once lose nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from spotweld.images.builders.builder import Outcome
from spotweld.images.builds.naming import tag_of
from spotweld.images.builds.storing import FORMAT, each_record, read_record, write_record
from spotweld.images.builds.texts import texts_key
from spotweld.images.steps.preimages import Preimage
from spotweld.project.nouns import Lifetime
from spotweld.values.digests import Digest

if TYPE_CHECKING:
    from spotweld.store.objects import Objects


class Kept(msgspec.Struct, frozen=True):
    """An image that the project has had, and where it lives."""

    project: str
    image: str
    registry: str
    """Its URL."""
    repository: str
    lifetime: Lifetime
    protected: bool
    """No teardown takes it, whatever the project file says now."""
    forgotten: bool = False
    """Its registry is gone for good, as somebody said, and nothing is looked for there."""
    format: int = FORMAT


class Attempt(msgspec.Struct, frozen=True):
    """One try at a build."""

    started: float
    """Seconds since 1970."""
    builder: str
    outcome: Literal["begun", "done", "failed"]
    """Begun and followed by another one: its machine was lost, or it was killed."""
    seconds: float = 0.0
    hits: int = 0
    ran: int = 0
    why: str = ""
    """Of a failure."""


class Done(msgspec.Struct, frozen=True):
    """One instruction of a build."""

    preimage: Preimage
    outcome: Outcome
    seconds: float
    """What it took this time."""
    ran: float | None = None
    """Seconds that it took when it was last run, in this build or an earlier one; None: nobody knows."""
    tag: str = ""
    """Under which the image's cache has its result; empty: it has no tag of its own."""


class Build(msgspec.Struct, frozen=True):
    """An image's build under one key."""

    image: str
    key: Digest
    digest: Digest | None
    """Of the published manifest; None: it has not come to its end yet."""
    registry: str
    """Its URL."""
    repository: str
    platform: str
    builder: str
    commit: str
    """Of git, in full; empty: there is none."""
    dirty: bool
    """Whether files differed from that commit."""
    started: float
    """Seconds since 1970."""
    seconds: float
    spotweld: str
    steps: tuple[Done, ...]
    """In the order of the Dockerfile."""
    attempts: tuple[Attempt, ...] = ()
    """All tries at this key, oldest first."""
    format: int = FORMAT

    @property
    def tag(self) -> str:
        """Under which it lies in its repository."""
        return tag_of(self.key)


Warn: TypeAlias = Callable[[str], None]


def _silent(_: str) -> None:
    pass


def write_kept(objects: Objects, kept: Kept) -> None:
    """Remember where an image lives, instead of what was remembered before.

    Raises:
        Unavailable: the store did not take it.
    """
    write_record(objects, _kept_key(kept.image), lambda _: kept, Kept)


def change_kept(objects: Objects, image: str, change: Callable[[Kept | None], Kept]) -> Kept:
    """Remember where an image lives, as it follows from what was remembered before; what is there now.

    Args:
        objects: the project's store.
        image: its name.
        change: gives the new record from the old one; called again when somebody else was first.

    Raises:
        ImageRecordUnreadable: the record is damaged, or of a newer Spotweld.
        Unavailable: the store did not take it.
    """
    return write_record(objects, _kept_key(image), change, Kept)


def read_kept(objects: Objects, image: str) -> Kept | None:
    """Where an image lives; None: nobody has said so.

    Raises:
        ImageRecordUnreadable: the record is damaged, or of a newer Spotweld.
        Unavailable: the store did not answer.
    """
    return read_record(objects, _kept_key(image), Kept)


def all_kept(objects: Objects, warn: Warn = _silent) -> tuple[Kept, ...]:
    """Every image that the project has had, by name; ``warn`` gets a line about each record that cannot be read."""
    return tuple(each_record(objects, [f"images/{name}/image.json" for name in images(objects)], Kept, warn))


def images(objects: Objects) -> tuple[str, ...]:
    """The names of all images of which anything is remembered, sorted."""
    return tuple(sorted({meta.key.split("/")[1] for meta in objects.list("images/")}))


def write_build(objects: Objects, build: Build) -> Build:
    """Remember a build. What is already there under its key gives its attempts, and what is not said anew of its steps.

    An unfinished build never takes the place of a finished one; it only adds its attempts.

    Returns:
        What is there now.

    Raises:
        Unavailable: the store did not take it.
    """
    return write_record(objects, _build_key(build.image, build.key), lambda old: merged(old, build), Build)


def merged(old: Build | None, new: Build) -> Build:
    """What two records of one key say together."""
    if old is None:
        return new
    attempts = {one.started: one for one in old.attempts}
    for one in new.attempts:
        if one.started not in attempts or one.outcome != "begun":
            attempts[one.started] = one
    known = {done.preimage.key: done for done in old.steps}
    latest = old if old.digest and not new.digest else new
    steps = latest.steps
    if latest is new:
        steps = tuple(_filled(done, known.get(done.preimage.key)) for done in steps)
    ordered = tuple(attempts[when] for when in sorted(attempts))
    return msgspec.structs.replace(latest, steps=steps, attempts=ordered)


def _filled(done: Done, old: Done | None) -> Done:
    """What was said of a step, with what only an earlier record says."""
    if old is None:
        return done
    ran = old.ran if done.ran is None else done.ran
    return msgspec.structs.replace(done, ran=ran, tag=done.tag or old.tag)


def read_build(objects: Objects, image: str, key: Digest) -> Build | None:
    """The build under a key; None: there is none.

    Raises:
        ImageRecordUnreadable: the record is damaged, or of a newer Spotweld.
        Unavailable: the store did not answer.
    """
    return read_record(objects, _build_key(image, key), Build)


def builds(
    objects: Objects, image: str, warn: Warn = _silent, *, most: int | None = None, unfinished: bool = False
) -> tuple[Build, ...]:
    """The image's builds, newest first.

    Args:
        objects: the project's store.
        image: its name.
        warn: gets a line about each record that cannot be read and is passed over.
        most: how many records to read at most, those written last.
        unfinished: also those that have not come to their end.
    """
    metas = sorted(objects.list(f"images/{image}/builds/"), key=lambda meta: (-meta.modified, meta.key))
    found = each_record(objects, [meta.key for meta in metas[:most]], Build, warn)
    return tuple(sorted((one for one in found if one.digest or unfinished), key=lambda one: -one.started))


def forget_build(objects: Objects, image: str, key: Digest) -> None:
    """Remove what is remembered of a build; nothing happens if it is not there."""
    objects.delete(texts_key(image, tag_of(key)))
    objects.delete(_build_key(image, key))


def _kept_key(image: str) -> str:
    return f"images/{image}/image.json"


def _build_key(image: str, key: Digest) -> str:
    return f"images/{image}/builds/{tag_of(key)}.json"
