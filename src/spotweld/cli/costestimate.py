"""``spotweld cost estimate``."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
import msgspec

from spotweld.cli.costoptions import price
from spotweld.cli.output import print_json, print_table, say
from spotweld.cli.parts import open_log
from spotweld.cli.session import json_option, open_project, seconds
from spotweld.errors import UsageError
from spotweld.images.steps.mounts import unmounted
from spotweld.placement.bounds import permitted
from spotweld.project.words import nearest, quoted
from spotweld.providers.opening import open_provider
from spotweld.runs.controller import RECENT
from spotweld.runs.drive import log_path
from spotweld.store.opening import open_store
from spotweld.values.durations import format_duration
from spotweld.values.money import Money, format_money

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from spotweld.costs.buildestimates import Course
    from spotweld.costs.estimates import Amount, Estimate, Hourly
    from spotweld.costs.renewals import Range
    from spotweld.project.nouns import Image, Job, Project
    from spotweld.runs.estimating import Given
    from spotweld.values.offers import Offer

_COLUMNS = ("way", "interruptions", "machine time", "low", "expected", "high", "of on-demand")
_BUILD_COLUMNS = ("build", "instructions", "low", "expected", "high", "on spot", "on-demand", "")
_WIDTH = 50


def _perhaps(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    return None if value is None else seconds(context, parameter, value)


@click.command("estimate", short_help="Say what a job, or the builds of an image, will cost.")
@click.argument("name", metavar="[JOB|IMAGE]", required=False)
@click.option("--work", callback=_perhaps, metavar="DURATION", help="Of the job, on a machine that is never lost.")
@click.option("--cadence", callback=_perhaps, metavar="DURATION", help="Between two saves.")
@click.option("--interruptions", type=click.IntRange(min=0), metavar="K", help="Add a line for so many.")
@click.option("--on-demand", callback=price, metavar="PRICE", help="Of a machine-hour, instead of what is on offer.")
@click.option("--spot", callback=price, metavar="PRICE", help="Of a machine-hour, instead of what is on offer.")
@click.option("--type", "machine_type", metavar="NAME", help="Prices of this machine type, from price lists.")
@click.option("--region", metavar="NAME", help="Where, with --type.")
@click.option("--committed", callback=price, metavar="PRICE", help="Of a machine-hour that is paid, used or not.")
@json_option
def estimate_verb(
    name: str | None,
    *,
    work: float | None,
    cadence: float | None,
    interruptions: int | None,
    on_demand: Money | None,
    spot: Money | None,
    machine_type: str | None,
    region: str | None,
    committed: Money | None,
    as_json: bool,
) -> None:
    """Say what a job will cost, one way or another, before it is launched; or what the builds of an image will.

    Low and high: one job in ten is interrupted less often than the low figure says, and one in ten more often than the
    high one. What a job takes and how often it saves is what its runs have shown, else what the project file says.

    \b
    The JSON: {"lines": [{"way", "hourly", "interruptions", "seconds", "cost"},
    ...], "notes": [...]}; of an image {"courses": [{"case", "what", "runs",
    "of", "seconds", "spot", "on_demand"}, ...], "hourly": {...},
    "notes": [...]}. Ranges are {"low", "expected", "high"}, null is unknown.
    """
    from spotweld.costs.estimates import Hourly  # noqa: PLC0415 - NumPy, which --help has no need of
    from spotweld.runs.estimating import Given  # noqa: PLC0415 - as above

    project, _ = open_project()
    given = Given(work, cadence, Hourly(on_demand, spot, committed), interruptions)
    meant, offers = _meant(project, name), _offers(project, machine_type, region)
    if meant in project.jobs:
        found = estimate_of(project, project.jobs[meant], given, offers)
        _tell(found.notes)
        if as_json:
            print_json(found)
        else:
            _show(found)
        return
    if any(one is not None for one in (work, cadence, interruptions, committed)):
        raise UsageError(
            f"{quoted(meant)} is an image", "only jobs have work, saves and commitments", "leave these options out"
        )
    _show_image(project, project.images[meant], given.hourly, offers, as_json=as_json)


def _offers(project: Project, machine_type: str | None, region: str | None) -> tuple[Offer, ...]:
    """What the project may rent, or what price lists say of a machine."""
    if (machine_type is None) != (region is None):
        raise UsageError("a listed price is of a machine in a region", "", "say both: --type NAME --region NAME")
    if machine_type is None or region is None:
        return permitted(open_provider(project.state, project.local).offers(), project.placement, ())
    from spotweld.costs.prices.asking import ask, known_prices, price_folder  # noqa: PLC0415 - only for lists
    from spotweld.runs.estimating import listed  # noqa: PLC0415 - as above

    now = datetime.now(UTC)
    found = listed(
        ask(known_prices(price_folder(os.environ), now).prices, machine_type, region=region), machine_type, now
    )
    if not found:
        todo = f"look for another: spotweld cost prices --region {region}"
        raise UsageError(f"no price list knows {quoted(machine_type)} in {quoted(region)}", "", todo)
    return found


def estimate_of(project: Project, job: Job, given: Given, offers: Sequence[Offer] | None = None) -> Estimate:
    """What the job will cost. Reads the project's past; changes nothing.

    Args:
        project: the project.
        job: one of its jobs.
        given: goes before all else.
        offers: what may be rented; None: what the project may.

    Raises:
        UsageError: nobody knows how long it takes, or how often it saves.
        StoreError: the store of one of its runs failed.
    """
    from spotweld.runs.estimating import estimate_job, learned, past_of  # noqa: PLC0415 - as above

    offers = _offers(project, None, None) if offers is None else offers
    if not log_path(project.state).exists():
        return estimate_job(job, project.placement, offers, [], learned([]), given, time.time())
    log = open_log(project)
    states = [log.state(run) for run in log.runs()[:RECENT]]
    shown = learned(past_of(log, job.name, lambda state: open_store(state.store, verify=False)))
    return estimate_job(job, project.placement, offers, states, shown, given, time.time())


def _meant(project: Project, name: str | None) -> str:
    known = [*project.jobs, *(image for image in project.images if image not in project.jobs)]
    if name is None:
        if len(project.jobs) == 1:
            return next(iter(project.jobs))
        raise UsageError("which job or image?", f"the project has {', '.join(known) or 'none'}", "name one of them")
    if name not in known:
        near = nearest(name, known)
        todo = f"did you mean {near}?" if near else f"it has: {', '.join(known)}"
        raise UsageError(f"the project has no job or image {quoted(name)}", "", todo)
    return name


def _show_image(project: Project, image: Image, given: Hourly, offers: Sequence[Offer], *, as_json: bool) -> None:
    from spotweld.costs.buildestimates import courses  # noqa: PLC0415 - as above
    from spotweld.images.builds.freshness import standings  # noqa: PLC0415 - only images need it
    from spotweld.images.builds.planning import REMEMBERED  # noqa: PLC0415
    from spotweld.images.builds.records import builds  # noqa: PLC0415
    from spotweld.images.builds.timing import timed  # noqa: PLC0415
    from spotweld.runs.estimating import hourly_of  # noqa: PLC0415

    known = builds(open_store(project.store, verify=False), image.name, most=REMEMBERED, unfinished=True)
    standing = next(one for one in standings(project, [image.name]) if one.image.name == image.name)
    found = courses(timed(standing.steps, known), project.placement.changeover)
    hourly, notes = hourly_of(given, offers)
    start = format_duration(project.placement.changeover)
    notes = [
        f"instructions: as long as they took in {len(known)} builds that are remembered",
        f"a loss costs half of the instruction that runs, on average, and {start} for the next machine's start",
        *notes,
    ]
    _tell(notes)
    if as_json:
        shown = [msgspec.structs.asdict(one) | _prices(one, hourly) for one in found]
        print_json({"courses": shown, "hourly": hourly, "notes": notes})
        return
    print_table(_BUILD_COLUMNS, [_build_cells(one, hourly) for one in found], right=range(1, 7))


def _prices(one: Course, hourly: Hourly) -> dict[str, Amount | None]:
    from spotweld.costs.estimates import priced  # noqa: PLC0415 - as above

    both = (("spot", hourly.spot), ("on_demand", hourly.on_demand))
    return {what: None if rate is None or one.seconds is None else priced(rate, one.seconds) for what, rate in both}


def _build_cells(one: Course, hourly: Hourly) -> list[str]:
    prices = [amount.expected if amount is not None else None for amount in _prices(one, hourly).values()]
    words = " ".join(unmounted(one.what).split())
    what = words if len(words) <= _WIDTH else f"{words[: _WIDTH - 3]}..."
    return [one.case, f"{one.runs} of {one.of}", *_three(one.seconds, _time), *map(_money, prices), what]


def _show(found: Estimate) -> None:
    firm = next((one.cost for one in found.lines if one.way == "on-demand"), None)
    rows = []
    for one in found.lines:
        often = _often(one.interruptions) if one.interruptions else "never ends"
        share = f"{one.cost.expected.amount / firm.expected.amount:.1%}" if one.cost and firm else "-"
        amounts = [one.cost.low, one.cost.expected, one.cost.high] if one.cost else [None, None, None]
        rows.append([one.way, often, _time(one.seconds.expected) if one.seconds else "-", *map(_money, amounts), share])
    print_table(_COLUMNS, rows, right=range(1, len(_COLUMNS)))


def _tell(notes: Sequence[str]) -> None:
    for note in notes:
        say(f"note: {note}")


def _often(found: Range) -> str:
    if found.low == found.high:
        return f"{found.expected:.0f}" if found.high else "-"
    return f"{found.expected:.1f} ({found.low:.0f}-{found.high:.0f})"


def _three(found: Range | None, words: Callable[[float], str]) -> list[str]:
    return [words(one) for one in (found.low, found.expected, found.high)] if found else ["unknown"] * 3


def _time(value: float) -> str:
    return format_duration(value) if value else "-"


def _money(amount: Money | None) -> str:
    return "unknown" if amount is None else format_money(amount)
