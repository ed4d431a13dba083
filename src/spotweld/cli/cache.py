"""``spotweld cache``: the verbs about what is kept of images and of their instructions."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING

import click

from spotweld.cli.cachereading import inspect_verb, status_verb, verify_verb
from spotweld.cli.caching import here, image_argument
from spotweld.cli.output import say, say_changed
from spotweld.cli.parts import confirmed
from spotweld.cli.session import progress_option, seconds, store_option
from spotweld.cli.stores import progress
from spotweld.errors import BuilderUnavailable, UsageError
from spotweld.images.builders.choosing import storage_of
from spotweld.images.builders.storage import Storage
from spotweld.images.builds.naming import cache_of
from spotweld.images.caches.deciding import aged, busted, origins
from spotweld.images.caches.doing import cut, replicate
from spotweld.images.caches.looking import cached_steps
from spotweld.images.caches.warming import forget, warm
from spotweld.images.registries.opening import open_registry
from spotweld.report.words import count
from spotweld.values.durations import format_duration
from spotweld.values.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotweld.cli.caching import Here
    from spotweld.images.caches.deciding import Cut


@click.group(invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Look at what is cached of the project's images; forget, fetch or copy it.

    A finished instruction is a cached step: it lies in the image's registry, and no machine runs it again. Nothing here
    removes anything of another image, and no build that could not be fetched any more afterwards.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


command.add_command(status_verb)
command.add_command(inspect_verb)
command.add_command(verify_verb)


@command.command("bust", short_help="Forget an image's cache: its next build runs everything.")
@image_argument()
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@store_option
@progress_option
def bust_verb(image: str, *, yes: bool) -> None:
    """Forget an image's cache, so that its next build runs every instruction.

    Its cached steps go, in its registry and in buildah's storage on this machine, and with them the knowledge that the
    latest build is up to date. The build itself stays under the name latest until the next one takes its place. Older
    builds stay, too: whoever goes back to their very inputs gets them. A Docker daemon has a cache of its own, which
    only docker builder prune empties.
    """
    found = here()
    found.refuse_unseen()
    plan = [busted(one, found.uses) for one in found.contents(image)]
    _remove(found, [one for one in plan if one.steps or one.builds], f"nothing is cached of {image}", yes=yes)


@command.command("clear", short_help="Remove cached steps that nobody has used for long.")
@image_argument(required=False)
@click.option(
    "--older-than",
    "age",
    metavar="DURATION",
    callback=seconds,
    required=True,
    help="Such as 30d: unused for that long.",
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@store_option
@progress_option
def clear_verb(image: str | None, age: float, *, yes: bool) -> None:
    """Remove cached steps that nobody has used for long; of one image, or of all images of the project.

    Steps that a build is made of stay, however old, and so do all builds. A step whose age nobody knows stays as well:
    servers do not tell it, so it is known of the steps that builds of this project had, and of BuildKit's.
    """
    found = here()
    before = time.time() - age
    contents = found.contents(image)
    plan = [aged(one, cached_steps(found.registry(one), one, found.records(one)), before) for one in contents]
    for agreed in plan:
        for why in agreed.staying if not agreed.steps else ():
            say(f"{agreed.image}: {why}")
    nothing = f"no step could go that nobody has used for {format_duration(age)}"
    _remove(found, [one for one in plan if one.steps], nothing, yes=yes)
    found.refuse_unseen()


@command.command("warm", short_help="Fetch an image's cached steps before a build needs them.")
@image_argument()
@store_option
@progress_option
def warm_verb(image: str) -> None:
    """Fetch an image's cached steps into buildah's storage on this machine, before a build needs them.

    The next build here then finds them without the network. BuildKit's daemon fetches what it needs by itself, and
    cannot be told to do so before.
    """
    if shutil.which("buildah") is None:
        why = "there is no buildah here, and BuildKit fetches cached steps only while it builds"
        raise BuilderUnavailable("nothing can be fetched ahead of time", why, "Debian: apt-get install buildah")
    found = here()
    found.refuse_unseen()
    storage = Storage(storage_of(found.project.state))
    fetched = 0
    for one in found.contents(image):
        registry = found.registry(one)
        steps = cached_steps(registry, one, found.records(one))
        with progress(f"fetching {image}", "steps") as told:
            fetched += warm(registry, cache_of(one.repository), steps, storage, told)
    if not fetched:
        say(f"there is no cached step of {image} that buildah could fetch")
        return
    say_changed(f"{count(fetched, 'cached step')} of {image} are on this machine", f"spotweld build {image}")


@command.command("replicate", short_help="Copy an image and its cache to other registries.")
@image_argument()
@click.option("--to", "urls", metavar="URL", multiple=True, required=True, help="A registry; may be said again.")
@store_option
@progress_option
def replicate_verb(image: str, urls: Sequence[str]) -> None:
    """Copy an image with all of its builds and cached steps to other registries, under the same names.

    What is there is not moved again, so a copy that was interrupted goes on where it ended. Tags that only the other
    registry has stay.
    """
    found = here()
    found.refuse_unseen()
    contents = found.contents(image)
    targets = [open_registry(url) for url in urls]
    if not contents:
        say(f"there is nothing of {image} yet")
        return
    plan = [(target, origins(contents, target.url)) for target in targets]
    for target, sources in plan:
        if not sources:
            raise UsageError(f"{image} is in {target.url} already", "", "name another registry")
    for target, sources in plan:
        for one in sources:
            with progress(f"copying {image}") as told:
                done = replicate(found.registry(one), one, target, told)
            say(f"{target.url}: {count(done.tags, 'tag')}, {_moved(done.moved, done.there)}")


def _remove(found: Here, plan: Sequence[Cut], nothing: str, *, yes: bool) -> None:
    if not plan:
        say(nothing)
        return
    for agreed in plan:
        latest = ", and that its latest build is up to date" if agreed.builds else ""
        say(f"{agreed.image}: {count(len(agreed.steps), 'cached step')}{latest}, in {agreed.registry}")
        for why in agreed.staying:
            say(f"  {why}")
    if not confirmed("forget all that?", yes=yes):
        sys.exit(1)
    for agreed in plan:
        registry = open_registry(agreed.registry)
        forget(registry, agreed, storage_of(found.project.state))
        with progress(f"forgetting {agreed.image}", "tags") as told:
            gone = cut(registry, agreed, told)
        if gone.unfreed:
            say(f"no space was given back: {gone.unfreed}")
        freed = f", {format_size(gone.freed)} freed here" if gone.freed else ""
        say_changed(f"{count(gone.steps, 'cached step')} of {agreed.image} gone{freed}", "spotweld cache status")


def _moved(moved: int, there: int) -> str:
    return f"{format_size(moved)} copied, {format_size(there)} were there"
