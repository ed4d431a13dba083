"""``spotweld explain IMAGE``: every instruction, whether its result is there, and if not, why."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click
import msgspec

from spotweld.cli.imagery import in_words, layer_lines, short_place
from spotweld.cli.output import print_json, say
from spotweld.images.builds.comparing import Layer, layers, nearest_build, past_layers
from spotweld.images.builds.freshness import Standing, cached_tags, standings
from spotweld.images.builds.planning import REMEMBERED
from spotweld.images.builds.predicting import total
from spotweld.images.builds.rates import rates
from spotweld.images.builds.records import builds
from spotweld.images.builds.texts import lines_changed
from spotweld.images.registries.opening import Registries
from spotweld.report.words import count
from spotweld.store.opening import open_store
from spotweld.values.durations import format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotweld.images.builds.records import Build
    from spotweld.images.steps.preimages import Preimage
    from spotweld.project.nouns import Project
    from spotweld.store.objects import Objects


def explain_image(project: Project, name: str, *, as_json: bool) -> None:
    """Print why each instruction of an image is there, or would run.

    Of an image that is fresh, it is told how its newest build went: what was there, what ran, and why.
    """
    registries = Registries()
    standing = standings(project, [name], registries)[-1]
    objects = open_store(project.store, verify=False)
    known = builds(objects, name, say, most=REMEMBERED, unfinished=True)
    past = _past(standing, known)
    if past is None:
        near = nearest_build({step.key for step in standing.steps}, known)
        found = layers(standing, known, cached_tags(standing, registries))
        inputs = [step.preimage for step in standing.steps]
    else:
        older = [one for one in known if one.started < past.started and one.key != past.key]
        near = nearest_build({done.preimage.key for done in past.steps}, older)
        found = past_layers(past, older, standing.steps)
        inputs = [done.preimage for done in past.steps]
    counted = tuple(_counted(layer, inputs, near, standing, objects) for layer in found)
    if as_json:
        print_json(_json(standing, past, near, counted, known))
        return
    click.echo(_head(standing, past, counted))
    for line in layer_lines(counted):
        click.echo(f"  {line}")
    if near is not None:
        click.echo(f"compared with the build {short_place(near.repository, near.tag)}{_of(near)}")
    if known:
        click.echo(_went(known))


def _past(standing: Standing, known: Sequence[Build]) -> Build | None:
    """The build that the image in the registry comes from; None: there is none, or nobody knows it."""
    if standing.digest is None:
        return None
    return next((one for one in known if one.key == standing.key and one.digest and one.steps), None)


def _counted(
    layer: Layer, inputs: Sequence[Preimage], near: Build | None, standing: Standing, objects: Objects
) -> Layer:
    """The layer, with the number of lines that came and went if a file is to blame."""
    if not layer.file or near is None:
        return layer
    now = _value(inputs, layer.file)
    before = _value([done.preimage for done in near.steps], layer.file)
    lines = lines_changed(standing.image.context, layer.file, now, before, near, objects)
    return msgspec.structs.replace(layer, why=f"{layer.why}: {lines}") if lines else layer


def _value(preimages: Sequence[Preimage], name: str) -> str:
    files = (one for preimage in preimages for one in preimage.inputs if one.name == name)
    return next((one.value for one in files if one.kind in {"file", "executable"}), "")


def _head(standing: Standing, past: Build | None, found: Sequence[Layer]) -> str:
    name = standing.image.name
    if standing.digest is not None and past is None:
        return f"{name} is there as {short_place(standing.repository, standing.tag)}; nobody remembers how it was built"
    if past is not None:
        real = [layer for layer in found if not layer.text.startswith("FROM ")]
        hits = sum(layer.hit for layer in real)
        place = short_place(standing.repository, standing.tag)
        return f"{name} is there as {place}{_of(past)}: {count(hits, 'hit')}, {len(real) - hits} ran"
    real = [layer for layer in found if layer.number]
    misses = sum(not layer.hit for layer in real)
    expected = in_words(total(layer.expected for layer in found))
    damage = f" ({standing.damage})" if standing.damage else ""
    return f"{name} has to be built{damage}: {misses} of {count(len(real), 'instruction')} would run, {expected}"


def _of(build: Build) -> str:
    age = format_duration(max(0.0, round(time.time() - build.started)))
    commit = f" at {build.commit[:12]}{' with changes' if build.dirty else ''}" if build.commit else ""
    return f", built by {build.builder}{commit} {age} ago"


def _went(known: Sequence[Build]) -> str:
    """How the last builds went."""
    all_of = rates(known)
    named = (
        ("done", all_of.done),
        ("failed", all_of.failed),
        ("interrupted", all_of.interrupted),
        ("open", all_of.open),
    )
    tries = sum(number for _, number in named)
    ends = ", ".join(f"{number} {name}" for name, number in named if number)
    whole = all_of.hits + all_of.ran
    hits = (
        f"; {all_of.hits} of {count(whole, 'instruction')} were hits ({100 * all_of.hits / whole:.0f} %)"
        if whole
        else ""
    )
    saved = f", which saved {format_duration(all_of.saved)}" if all_of.saved >= 1 else ""
    return f"the last {count(len(known), 'build')}: {count(tries, 'attempt')} ({ends}){hits}{saved}"


def _json(
    standing: Standing, past: Build | None, near: Build | None, found: Sequence[Layer], known: Sequence[Build]
) -> dict[str, Any]:
    return {
        "image": standing.image.name,
        "fresh": standing.digest is not None,
        "tag": standing.tag,
        "digest": standing.digest,
        "waits": standing.waits,
        "damage": standing.damage,
        "built": past.started if past else None,
        "against": near.tag if near else None,
        "layers": found,
        "rates": rates(known),
    }
