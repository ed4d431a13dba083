"""What the verbs about images have in common: which are meant, and how a build's plan reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from spotweld.errors import UsageError
from spotweld.images.steps.mounts import unmounted
from spotweld.project.words import nearest, quoted
from spotweld.report.markup import clean
from spotweld.values.durations import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from spotweld.images.builds.comparing import Layer
    from spotweld.images.builds.planning import Planned
    from spotweld.images.builds.predicting import Estimate
    from spotweld.images.builds.pricing import Price
    from spotweld.project.nouns import Project

_SHOWN = 12
"""Digits of a tag that people are shown."""


def image_names(project: Project, names: Sequence[str]) -> list[str]:
    """The images that are meant: the named ones, or all.

    Raises:
        UsageError: the project has none, or none of that name.
    """
    if not project.images:
        raise UsageError("the project has no images", "", "write some under images: in spotweld.yaml")
    for name in names:
        if name not in project.images:
            near = nearest(name, project.images)
            todo = f"did you mean {near}?" if near else f"it has: {', '.join(project.images)}"
            raise UsageError(f"the project has no image {quoted(name)}", "", todo)
    return [name for name in project.images if name in names] or list(project.images)


def images_argument(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Let a verb take images of the project; they arrive as ``names``."""
    return click.argument("names", metavar="[IMAGE]...", nargs=-1, shell_complete=complete_image)(verb)


def complete_image(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    """The project's images."""
    from spotweld.cli.session import open_project  # noqa: PLC0415 - only when a shell asks

    try:
        with context.scope(cleanup=False):
            names = list(open_project()[0].images)
    except Exception:  # noqa: BLE001 - completion has nobody to tell
        return []
    return [name for name in names if name.startswith(incomplete)]


def describe_images(plans: Sequence[Planned], prices: Sequence[Price]) -> str:
    """What a build would do, in words.

    Args:
        plans: of the images.
        prices: what it would cost, in the place that is meant first; none where nothing is built.
    """
    width = max(len(one.image) for one in plans)
    lines: list[str] = []
    for one in plans:
        head = f"image     {one.image:<{width}}  "
        if one.does == "nothing":
            lines.append(f"{head}nothing to do: {short_place(one.repository, one.tag)} is there ({one.lifetime})")
            continue
        if one.does == "publish":
            lines.append(f"{head}publish: {short_place(one.repository, one.tag)} is there, latest moves to it")
            continue
        lines.append(f"{head}build ({one.lifetime}): {_cut(one.why, 60)}; {expectation(one)}")
        lines += [f"{'':10}{line}" for line in layer_lines(one.layers)]
    stale = [one for one in plans if one.does == "build"]
    if stale:
        whole = sum((one.expected for one in stale[1:]), stale[0].expected)
        lines.append(f"builds    {len(stale)} of {len(plans)} images, {in_words(whole)}")
    lines += [f"{'price' if number == 0 else '':10}{price_in_words(one)}" for number, one in enumerate(prices)]
    return "\n".join(lines)


def price_in_words(price: Price) -> str:
    """``about 0.0012 USD (0.0004000 USD to 0.0036 USD) on a rented machine: local/a spot at 1.00 USD/h``."""
    if price.costs == "nothing":
        return f"nothing on {price.on}"
    if price.likely is None or price.low is None or price.high is None:
        amount = f"unknown ({price.why})"
    else:
        amount = f"about {price.likely} ({price.low} to {price.high})"
    offer = price.offer
    rate = f": {offer.place} at {offer.hourly}/h (price: {offer.price_source})" if offer is not None else ""
    return f"{amount} on {price.on}{rate}"


def expectation(plan: Planned) -> str:
    """How many instructions would run, and for how long."""
    real = [layer for layer in plan.layers if layer.number]
    return f"{len(plan.misses)} of {len(real)} instructions, {in_words(plan.expected)}"


def in_words(expected: Estimate) -> str:
    """``about 12 s (4 s to 40 s)``."""
    untimed = f"{expected.unknown} never timed" if expected.unknown else ""
    if not expected.high:
        return untimed or "no time to speak of"
    about = f"about {format_duration(expected.seconds)}"
    if expected.high > expected.low:
        about += f" ({format_duration(expected.low)} to {format_duration(expected.high)})"
    return ", ".join(filter(None, (about, untimed)))


def layer_lines(layers: Sequence[Layer], more: Callable[[Layer], str] = lambda _: "") -> list[str]:
    """Each instruction with what is known of it, in columns.

    Args:
        layers: the instructions.
        more: what else there is to say of one.
    """
    rows = []
    for layer in layers:
        named = "" if layer.stage.isdecimal() else f"{layer.stage} "
        place = f"{named}line {layer.line}" if layer.line else named.strip()
        told = f"from {layer.source[:_SHOWN]}" if layer.hit and layer.source else layer.why
        extra = more(layer)
        rows.append((place, _cut(unmounted(layer.text), 50), "HIT" if layer.hit else "MISS", clean(told) + extra))
    first, second = (max((len(row[at]) for row in rows), default=0) for at in (0, 1))
    lines: list[str] = []
    for layer, (place, text, verdict, told) in zip(layers, rows, strict=True):
        lines.append(f"{place:<{first}}  {text:<{second}}  {verdict:<4}  {told}".rstrip())
        notes = [*(f"not seen by its key: {doubt}" for doubt in layer.doubts), *filter(None, [layer.advice])]
        lines += [f"{'':{first}}  ! {clean(note)}" for note in notes]
    return lines


def short_place(repository: str, tag: str) -> str:
    """Repository and tag for people."""
    return f"{repository}:{tag[:_SHOWN]}"


def _cut(text: str, width: int) -> str:
    flat = " ".join(clean(text).split())
    return flat if len(flat) <= width else flat[: width - 3] + "..."
