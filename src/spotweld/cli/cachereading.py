"""``spotweld cache status``, ``inspect`` and ``verify``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from spotweld.cli.caching import described, here, image_argument
from spotweld.cli.output import print_json, print_table, say
from spotweld.cli.session import json_option, progress_option, store_option
from spotweld.cli.stores import progress
from spotweld.images.builds.naming import LATEST
from spotweld.images.caches.deciding import builds_of
from spotweld.images.caches.looking import cached_steps, verify
from spotweld.images.lifetimes.deciding import protection
from spotweld.report.words import count
from spotweld.values.durations import format_duration
from spotweld.values.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotweld.cli.caching import Here
    from spotweld.images.caches.deciding import Made
    from spotweld.images.caches.looking import Fault
    from spotweld.images.lifetimes.deciding import Contents

_SHOWN = 12
"""Digits of a key or a commit."""


@click.command("status", short_help="Say what is kept of each image: builds, cached steps, sizes, ages.")
@image_argument(required=False)
@store_option
@json_option
def status_verb(image: str | None, *, as_json: bool) -> None:
    """Say what is kept of each image; with IMAGE, of each of its builds.

    SIZE counts each layer once, the cache's among them.

    \b
    With --json: {"images": [{image, registry, repository, lifetime, size,
    steps, builds: [{tag, digest, latest, used_by, started, seconds, builder,
    commit, dirty}]}], "unseen": [{where, why, todo}], "host": {folder, images,
    size, in_use}}. "host" is what machines of this host have fetched. Sizes
    are bytes, "steps" counts cached steps, times are seconds since 1970 UTC;
    null: nobody knows.
    """
    found = here()
    contents = found.contents(image)
    builds = [builds_of(one, found.records(one), found.uses) for one in contents]
    if as_json:
        pairs = zip(contents, builds, strict=True)
        print_json(
            {"images": [_fields(found, *pair) for pair in pairs], "unseen": found.survey.unseen, "host": found.host}
        )
        return
    if not contents and not found.survey.unseen:
        say(f"there is nothing of {image} yet" if image else "there is nothing of this project's images yet")
    elif image is None and contents:
        columns = ("IMAGE", "LIFETIME", "BUILDS", "LATEST", "STEPS", "SIZE", "USED BY", "IN")
        print_table(columns, [_row(found, *pair) for pair in zip(contents, builds, strict=True)], right=(2, 3, 4, 5))
    for one, made in zip(contents, builds, strict=True) if image is not None else ():
        print_table(
            ("BUILD", "AGE", "TOOK", "BUILDER", "COMMIT", "NOTES"), [_build_row(each) for each in made], right=(1, 2)
        )
        say(f"{count(len(one.cache), 'cached step')}, {_size(one.size)} in all, in {one.registry} ({one.repository})")
    if image is None and found.host is not None:
        say(described(found.host))
    _tell_unseen(found)


@click.command("inspect", short_help="Say what each cached step of an image is.")
@image_argument()
@store_option
@json_option
def inspect_verb(image: str, *, as_json: bool) -> None:
    """Say what each cached step of an image is, the newest first.

    SIZE is that of the step's own layer, USED the time since somebody made it or asked for it, as far as the registry
    knows; PART OF counts the builds that are made of it.

    \b
    With --json: a list of {registry, repository, steps: [{tag, digest, what,
    size, used, needed}]}; "used" in seconds since 1970 UTC, null: nobody
    knows; "needed": tags of the builds; "digest" null: it cannot be read.
    """
    found = here()
    contents = found.contents(image)
    steps = [cached_steps(found.registry(one), one, found.records(one)) for one in contents]
    if as_json:
        pairs = zip(contents, steps, strict=True)
        print_json([{"registry": one.registry, "repository": one.repository, "steps": each} for one, each in pairs])
        return
    for each in steps:
        rows = []
        for step in each:
            parts = [tag for tag in step.needed if tag != LATEST]
            what = (step.what or "unknown") if step.digest else "damaged: see spotweld cache verify"
            part = "latest" if LATEST in step.needed else ""
            part = ", ".join(filter(None, [part, count(len(parts), "build") if parts else ""]))
            rows.append([step.tag[:24], _age(step.used), format_size(step.size), part or "-", what])
        if rows:
            print_table(("STEP", "USED", "SIZE", "PART OF", "WHAT"), rows, right=(1, 2))
    if not any(steps) and not found.survey.unseen:
        say(f"nothing is cached of {image}")
    _tell_unseen(found)


@click.command("verify", short_help="Read every byte of images and caches; exit 1 if any is damaged.")
@image_argument(required=False)
@store_option
@progress_option
@json_option
def verify_verb(image: str | None, *, as_json: bool) -> int:
    """Read every byte of an image and its cache, or of all images; exit 1 if any is damaged.

    Layers that images share are read once.

    \b
    With --json: {"read", "faults": [{registry, digest, why, images, todo}],
    "unseen": [{where, why, todo}]}; "read" in bytes.
    """
    found = here()
    contents = found.contents(image)
    damage: list[Fault] = []
    read = 0
    for url in dict.fromkeys(one.registry for one in contents):
        mine = [one for one in contents if one.registry == url]
        with progress(f"verifying {image or url}") as told:
            verified = verify(found.registry(mine[0]), mine, told)
        damage += verified.faults
        read += verified.read
    if as_json:
        print_json({"read": read, "faults": damage, "unseen": found.survey.unseen})
    else:
        _tell_damage(damage, read, count(len({one.image for one in contents}), "image"))
        _tell_unseen(found)
    return 1 if damage or found.survey.unseen else 0


def _tell_damage(damage: Sequence[Fault], read: int, images: str) -> None:
    for fault in damage:
        click.echo(f"{', '.join(fault.images)}: {fault.why}")
        click.echo(f"  {fault.todo}")
    if damage:
        say(f"{count(len(damage), 'part')} of {images} damaged, {format_size(read)} read")
    else:
        click.echo(f"{images} whole, {format_size(read)} read")


def _tell_unseen(found: Here) -> None:
    for blind in found.survey.unseen:
        say(f"cannot look into {blind.where}: {blind.why}")
        if blind.todo:
            say(f"  {blind.todo}")


def _fields(found: Here, contents: Contents, builds: Sequence[Made]) -> dict[str, Any]:
    return {
        "image": contents.image,
        "registry": contents.registry,
        "repository": contents.repository,
        "lifetime": _lifetime(found, contents),
        "size": contents.size,
        "steps": len(contents.cache),
        "builds": builds,
    }


def _row(found: Here, contents: Contents, builds: Sequence[Made]) -> list[str]:
    latest = next((one for one in builds if one.latest), None)
    users = dict.fromkeys(user for one in builds for user in one.used_by)
    return [
        contents.image,
        _lifetime(found, contents),
        str(len(builds)),
        _age(latest.started) if latest else "-",
        str(len(contents.cache)),
        _size(contents.size),
        ", ".join(users) or "-",
        contents.registry,
    ]


def _build_row(made: Made) -> list[str]:
    notes = ["latest"] * made.latest + ["damaged"] * (made.digest is None)
    notes += [f"in use by {', '.join(made.used_by)}"] * bool(made.used_by)
    return [
        made.tag[:_SHOWN],
        _age(made.started),
        "-" if made.seconds is None else format_duration(made.seconds),
        made.builder or "-",
        made.commit[:_SHOWN] + "+" * made.dirty or "-",
        "; ".join(notes) or "-",
    ]


def _lifetime(found: Here, contents: Contents) -> str:
    return "persistent" if protection(found.survey, contents) else "ephemeral"


def _age(moment: float | None) -> str:
    return "-" if moment is None else format_duration(max(0.0, time.time() - moment))


def _size(size: int | None) -> str:
    return "unknown" if size is None else format_size(size)
