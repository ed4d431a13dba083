"""``spotweld build --rent``: the build on a machine from a provider."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spotweld.cli.imagery import price_in_words, short_place
from spotweld.cli.launch import watch_to_its_end
from spotweld.cli.output import print_json, say, say_changed
from spotweld.cli.parts import Known, open_log
from spotweld.images.builds.freshness import standings
from spotweld.images.builds.happenings import built_of
from spotweld.images.builds.planning import plan_images
from spotweld.images.builds.predicting import total
from spotweld.images.builds.pricing import rented
from spotweld.placement.cheapest import CheapestSpot
from spotweld.project.nouns import SpotUse
from spotweld.providers.opening import open_provider
from spotweld.runs.building import patience, plan_build
from spotweld.runs.drive import ensure_driven
from spotweld.runs.events import Outcome
from spotweld.runs.opening import first_placement, open_run
from spotweld.store.opening import open_store
from spotweld.values.durations import format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotweld.images.builds.freshness import Standing
    from spotweld.images.builds.planning import Planned
    from spotweld.images.builds.predicting import Estimate
    from spotweld.images.builds.pricing import Price
    from spotweld.project.nouns import Project


def rent(
    project: Project,
    names: Sequence[str],
    known: Sequence[Standing],
    builder: str,
    at_once: int,
    progress: str,
    *,
    as_json: bool,
) -> None:
    """Build what is stale among ``known`` as a run, follow it to its end, and print where the images are."""
    if all(standing.is_published for standing in known):
        _show(known, as_json=as_json)
        say("nothing to do: all images are in their registries")
        return
    objects = open_store(project.store)
    expected = _expected(plan_images(known, lambda: objects, "" if builder == "auto" else builder))
    timeout = patience(expected.high, expected.unknown)
    log = open_log(project)
    with tempfile.TemporaryDirectory(prefix="spotweld-order-") as scratch:
        plan = plan_build(
            project, names, builder, at_once, Path(scratch),
            provider=open_provider(project.state, project.local), placer=CheapestSpot.of(project.placement),
            timeout=timeout,
        )  # fmt: skip
        limit = "" if timeout is None else f", for {format_duration(timeout)} at most"
        say(f"run {plan.run} builds {', '.join(names)}{limit}: {price_in_words(rented(expected, plan.first))}")
        open_run(plan, log, objects, Path(scratch), lambda _: None)
    ensure_driven(project.state, plan.run)
    outcome = watch_to_its_end(Known(project, log, log.state(plan.run)), progress)
    if outcome is not Outcome.DONE:
        say_changed(f"the run {plan.run} ended: {outcome}", f"spotweld logs {plan.run}")
        sys.exit(outcome.exit_status)
    _show(standings(project, names), as_json=as_json)
    say_changed("the images are in their registries", f"spotweld explain {names[-1]}")


def price_if_rented(project: Project, plans: Sequence[Planned]) -> Price:
    """What the builds would cost on the machine that ``rent`` would begin with."""
    provider = open_provider(project.state, project.local)
    first = first_placement(SpotUse.AUTO, project.placement, provider, CheapestSpot.of(project.placement))
    return rented(_expected(plans), first)


def _expected(plans: Sequence[Planned]) -> Estimate:
    return total(one.expected for one in plans if one.does == "build")


def _show(known: Sequence[Standing], *, as_json: bool) -> None:
    there = [built_of(one) for one in known if one.digest is not None and one.key is not None]
    if as_json:
        print_json({"images": there})
        return
    width = max((len(one.image) for one in there), default=0)
    for one in there:
        click.echo(f"{one.image:<{width}}  {short_place(one.repository, one.tag)}  {one.digest}")
