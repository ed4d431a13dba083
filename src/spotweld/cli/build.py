"""``spotweld build``."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import click

from spotweld.cli.imagery import describe_images, image_names, images_argument, short_place
from spotweld.cli.output import print_json, say, say_changed
from spotweld.cli.session import json_option, open_project, progress_option, store_option
from spotweld.errors import SpotweldError
from spotweld.images.builds.freshness import standings
from spotweld.store.opening import open_store
from spotweld.values.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotweld.images.builds.freshness import Standing
    from spotweld.images.builds.happenings import Built
    from spotweld.images.builds.planning import Planned
    from spotweld.images.builds.pricing import Price
    from spotweld.project.nouns import Project
    from spotweld.store.objects import Objects

BUILDERS = ("auto", "buildah", "buildkit")


@click.command
@images_argument
@click.option("--builder", type=click.Choice(BUILDERS), default="auto", help="What builds; auto: BuildKit, or buildah.")
@click.option("--at-once", type=click.IntRange(1), metavar="N", help="Images built side by side; by default the cores.")
@click.option("--dry-run", is_flag=True, help="Say what would be built and why, and build nothing; exit 2 if anything.")
@click.option("--rent", "rented", is_flag=True, help="Build on a machine of the provider, as a run: spot if it can be.")
@store_option
@progress_option
@json_option
def command(
    names: tuple[str, ...], *, builder: str, at_once: int | None, dry_run: bool, rented: bool, as_json: bool
) -> None:
    """Build the project's images, or those named and what they need. What is fresh is not touched.

    An image is fresh if its registry has one of the same key: a digest of all that goes into it. Finished
    instructions are kept in the registry while the build goes on, so whoever builds next continues there.

    \b
    With --json: {"images": [{image, key, digest, registry, repository, tag,
    built, seconds, hits, ran, saved}]}; with --dry-run {"would_change",
    "images": [{image, does, why, waits, layers, expected, ...}], "prices":
    [{on, costs, why, offer, likely, low, high}]}.
    """
    project, found = open_project()
    wanted = image_names(project, names)
    known = standings(project, wanted)
    if dry_run:
        sys.exit(2 if show_plan(project, known, builder, on_rented=rented, as_json=as_json) else 0)
    if rented:
        from spotweld.cli.renting import rent  # noqa: PLC0415 - as in the functions below

        rent(project, wanted, known, builder, at_once or 0, found["progress"].value, as_json=as_json)
        return
    results = bring(project, wanted, known, builder, at_once, found["progress"].value)
    if as_json:
        print_json({"images": results})
        return
    show_results(results, [one.image.name for one in known if not one.is_published])


def show_plan(
    project: Project, known: Sequence[Standing], builder: str = "auto", *, on_rented: bool = False, as_json: bool
) -> bool:
    """Print what a build would do, here or on a rented machine, and at what price; whether it would do anything."""
    plans = _plans(project, known, builder)
    prices = _prices(project, plans, on_rented=on_rented)
    changes = any(one.does != "nothing" for one in plans)
    if as_json:
        print_json({"images": plans, "would_change": changes, "prices": prices})
    else:
        click.echo(describe_images(plans, prices))
    return changes


def plan_words(project: Project, known: Sequence[Standing]) -> str:
    """What a build on this machine would do, for people."""
    plans = _plans(project, known, "auto")
    return describe_images(plans, _prices(project, plans, on_rented=False))


def _plans(project: Project, known: Sequence[Standing], builder: str) -> tuple[Planned, ...]:
    from spotweld.images.builds.planning import plan_images  # noqa: PLC0415 - only who asks needs it

    return plan_images(known, lambda: open_store(project.store, verify=False), "" if builder == "auto" else builder)


def _prices(project: Project, plans: Sequence[Planned], *, on_rented: bool) -> list[Price]:
    """What the builds would cost: where they are meant to be done, then in the other place; none if there are none."""
    if not any(one.does == "build" for one in plans):
        return []
    from spotweld.cli.renting import price_if_rented  # noqa: PLC0415 - only who asks needs providers
    from spotweld.images.builds.pricing import HERE  # noqa: PLC0415 - as above

    both = [price_if_rented(project, plans), HERE]
    return both if on_rented else both[::-1]


def bring(
    project: Project, names: Sequence[str], known: Sequence[Standing], builder: str, at_once: int | None, progress: str
) -> Sequence[Built]:
    """Build what is stale among ``known``, with its progress shown."""
    if all(standing.is_published for standing in known):
        from spotweld.images.builds.happenings import built_of  # noqa: PLC0415 - all that is needed then

        return [built_of(standing) for standing in known]
    from spotweld.cli.building import watching  # noqa: PLC0415 - what is fresh needs no builder
    from spotweld.images.builders.choosing import choose_builder  # noqa: PLC0415
    from spotweld.images.builds.building import build  # noqa: PLC0415

    chosen = choose_builder(builder, project.state)
    objects = open_store(project.store)
    try:
        with watching(progress) as watch:
            results = build(project, names, chosen, objects, watch, at_once=at_once or os.cpu_count() or 1)
    except KeyboardInterrupt:
        say("\nstopped; what is finished is kept, and the next build goes on there")
        raise
    remove_old(project, [one.image for one in results if one.built], objects)
    return results


def remove_old(project: Project, images: Sequence[str], objects: Objects) -> None:
    """Remove the builds that new ones have replaced; if that fails, the new ones are there all the same."""
    from spotweld.images.lifetimes.cleaning import clean_up  # noqa: PLC0415 - as above
    from spotweld.runs.uses import uses_now  # noqa: PLC0415

    for name in images:
        try:
            done = clean_up(project, project.images[name], objects, lambda: uses_now(project, objects, time.time()))
        except SpotweldError as error:
            say(f"{name}: old builds were not removed: {error}")
            continue
        if done.removed:
            kept = project.images[name].keep
            say(
                f"{name}: {len(done.removed)} old build(s) removed, {format_size(done.freed)} freed here (keep: {kept})"
            )


def show_results(results: Sequence[Built], changed: Sequence[str]) -> None:
    """Print where the images are, and on stderr how the build went; ``changed`` are those that were not as they are."""
    width = max(len(one.image) for one in results)
    for one in results:
        click.echo(f"{one.image:<{width}}  {short_place(one.repository, one.tag)}  {one.digest}")
    built = [one for one in results if one.built]
    if not built:
        again = ", ".join(changed)
        say(
            f"built before, and now latest again: {again}"
            if again
            else "nothing to do: all images are in their registries"
        )
        return
    from spotweld.cli.building import summary  # noqa: PLC0415 - see above

    say_changed(summary(results), f"spotweld explain {built[-1].image}")
