"""``spotweld simulate``."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spotweld.cli.output import print_json, print_table, say, say_changed
from spotweld.cli.parts import open_log
from spotweld.cli.replicas import check_kind, replica_options, simulate_replicas
from spotweld.cli.session import json_option, open_project, progress_option, seconds
from spotweld.cli.stores import progress
from spotweld.errors import UsageError
from spotweld.runs.drive import log_path
from spotweld.runs.markets import PastMarket, past_market
from spotweld.values.durations import format_duration
from spotweld.values.sizes import GIB, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from spotweld.placement.comparing import Comparison, Summary
    from spotweld.placement.market import Market

_COLUMNS = (
    "policy",
    "cost",
    "median ratio",
    "mean ratio",
    "10-90 %",
    "most",
    "delay",
    "missed",
    "preempted",
    "lost work",
    "on-demand",
    "moves",
)


def _gib(context: click.Context, parameter: click.Parameter, value: str) -> float:
    try:
        return parse_size(value) / GIB
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from error


def _price(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    # A range would let NaN through.
    if value is not None and not 0 <= value < 1e9:
        raise click.BadParameter(f"{value:g}: a price lies between 0 and 1e9", context, parameter)
    return value


@click.command
@click.argument("traces", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--past", is_flag=True, help="What this project's own runs have seen, instead of recordings.")
@click.option(
    "--since",
    default="30d",
    show_default=True,
    callback=seconds,
    metavar="DURATION",
    help="How much of the project's past counts.",
)
@click.option("--work", default="0s", callback=seconds, metavar="DURATION", help="Of one gang that is never lost.")
@click.option("--deadline", default="0s", callback=seconds, metavar="DURATION", help="After the start.")
@click.option(
    "--changeover",
    default="12m",
    show_default=True,
    callback=seconds,
    metavar="DURATION",
    help="From a machine's start to its first step: boot, pull, restore.",
)
@click.option("--gang", default=1, show_default=True, type=click.IntRange(min=1), help="Machines needed at once.")
@click.option(
    "--cadence",
    default="0s",
    callback=seconds,
    metavar="DURATION",
    help="Between saves: what is newer is lost with a spot gang. 0s: nothing is.",
)
@click.option("--size", default="0GB", callback=_gib, metavar="SIZE", help="What moves to another region.")
@click.option(
    "--egress", default=0.0, type=float, callback=_price, metavar="PRICE", help="Of a GiB that moves to another region."
)
@replica_options
@click.option("--policy", "names", metavar="NAME,...", help="Some of all policies.")
@click.option("--starts", default=20, show_default=True, type=click.IntRange(min=1), help="Jobs to simulate.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(min=0), help="Draws when they begin.")
@click.option("--spot-price", type=float, callback=_price, metavar="PRICE", help="Where a recording has none.")
@click.option("--on-demand-price", type=float, callback=_price, metavar="PRICE", help="Where a recording has none.")
@click.option("--max-price", type=float, callback=_price, metavar="PRICE", help="No spot above it.")
@click.option("--inverted", is_flag=True, help="In these recordings 1 means that no machine could be had.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Write a picture: FILE.html or FILE.svg.")
@progress_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    traces: tuple[Path, ...],
    *,
    past: bool,
    since: float,
    work: float,
    deadline: float,
    changeover: float,
    gang: int,
    cadence: float,
    size: float,
    egress: float,
    replicas: int | None,
    spare: int,
    cold_start: float,
    per_zone: int | None,
    names: str | None,
    starts: int,
    seed: int,
    spot_price: float | None,
    on_demand_price: float | None,
    max_price: float | None,
    inverted: bool,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Run a job through recorded markets under several policies, many times; or keep replicas ready in them.

    With --past the market is what the runs of this project have seen: a zone is up while a spot machine of theirs ran
    there, and down from a refusal or an interruption until the next machine was had.

    TRACES are files, or folders with one file a zone; all of them together are one market. Each may be in the form of
    skypilot-org/spot-traces, what aws ec2 describe-spot-price-history prints, or a .csv with the columns time, zone,
    capacity and price. Prices are per machine and hour. The optimum is the least that was possible, had the whole
    recording been known. With --replicas a service takes the place of the job, for the whole length of the recordings.

    The JSON: {"market": {...}, "task": {...}, "optimum": {...}, "policies": [...], "jobs": [...]}, and of replicas
    {"market": {...}, "service": {...}, "policies": [...]}; durations are seconds.
    """
    from spotweld.placement.comparing import (  # noqa: PLC0415 - NumPy, which --help has no need of
        compare,
        draw_starts,
        summaries,
        to_plain,
    )
    from spotweld.placement.market import market_of  # noqa: PLC0415
    from spotweld.placement.policies import POLICIES, policy_of  # noqa: PLC0415
    from spotweld.placement.reading import read_recordings  # noqa: PLC0415
    from spotweld.placement.seeing import Task  # noqa: PLC0415

    check_kind(context)
    if plot is not None and plot.suffix.lower() not in {".html", ".svg"}:
        raise UsageError(f"a picture cannot be written as {plot.name}", "", "name it FILE.html or FILE.svg")
    if past == bool(traces):
        todo = "name recordings, or say --past for what this project's runs have seen"
        raise UsageError("one market is to be simulated", "recordings or the project's past, not both", todo)
    seen = _past(since) if past else PastMarket(tuple(read_recordings(traces, inverted=inverted)), ())
    market = market_of(seen.recordings, spot_price=spot_price, on_demand_price=on_demand_price)
    if max_price is not None:
        market = market.capped(max_price)
    market = replace(market, notes=(*seen.notes, *market.notes, *_lack(market, gang)))
    for note in market.notes:
        say(f"note: {note}")
    if replicas is not None:
        service, market, served = simulate_replicas(market, replicas, spare, cold_start, per_zone, names, as_json)
        if plot is not None:
            from spotweld.report import served as drawing  # noqa: PLC0415 - only when asked for

            _write(plot, drawing.picture if _is_svg(plot) else drawing.page, market, service, served)
        return
    policies = [policy_of(name.strip()) for name in (names or ",".join(POLICIES)).split(",")]
    task = Task(work, deadline, changeover, gang, cadence, size, egress)
    begins = draw_starts(market, task, starts, seed)
    if len(begins) < starts:
        say(f"note: only {len(begins)} different starts fit into the recording")
    with progress("simulating", "jobs") as told:
        found = compare(market, task, policies, begins, told)
    if as_json:
        print_json(to_plain(found))
    else:
        _show(found, summaries(found))
    if plot is not None:
        from spotweld.report.simulated import page, picture  # noqa: PLC0415 - only when asked for

        _write(plot, picture if _is_svg(plot) else page, found)


def _past(since: float) -> PastMarket:
    """The market that the runs of this project have seen.

    Raises:
        UsageError: there are none, or they have seen too little.
    """
    project, _ = open_project()
    if not log_path(project.state).exists():
        raise UsageError("this project has no runs yet", "", "begin one with: spotweld launch")
    log, now = open_log(project), time.time()
    return past_market([log.state(run) for run in log.runs()], now - since, now)


def _lack(market: Market, gang: int) -> list[str]:
    if market.up(gang).any():
        return []
    return [f"no zone ever has room for {gang} at once, so all is on demand: the most is {market.capacity.max()}"]


def _show(found: Comparison, rows: list[Summary]) -> None:
    hours, least = 3600.0, float(found.least.mean())
    optimum = ["optimum", f"{least:.2f}", "1.000", "1.000", "", "", *[""] * 6]
    shown = [
        [
            row.policy,
            f"{row.cost:.2f}",
            f"{row.ratio_median:.3f}",
            f"{row.ratio:.3f}",
            f"{row.ratio_low:.3f}-{row.ratio_high:.3f}",
            f"{row.ratio_most:.3f}",
            _time(row.delay),
            f"{row.missed}",
            f"{row.preemptions:.1f}",
            _time(row.lost),
            f"{row.on_demand / hours:.1f} h",
            f"{row.moves:.1f}",
        ]
        for row in rows
    ]
    print_table(_COLUMNS, [optimum, *shown], right=range(1, len(_COLUMNS)))
    zones = len(found.market.zones)
    say(
        f"{len(found.starts)} jobs in {zones} zone{'s' if zones > 1 else ''}; ratio: cost over the job's optimum; "
        f"cost in {found.market.currency} and all others are means of a job, but missed counts jobs"
    )


def _time(seconds: float) -> str:
    return format_duration(seconds) if seconds else "0"


def _is_svg(path: Path) -> bool:
    return path.suffix.lower() == ".svg"


def _write(path: Path, draw: Callable[..., str], *found: object) -> None:
    try:
        path.write_text(draw(*found), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"the picture cannot be written to {path}", str(error.strerror), "name another") from error
    say_changed(f"the picture is written: {path}", f"xdg-open {path}")
