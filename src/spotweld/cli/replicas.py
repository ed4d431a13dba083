"""``spotweld simulate --replicas``: a service instead of a job."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from spotweld.cli.output import print_json, print_table, say
from spotweld.cli.session import seconds
from spotweld.cli.stores import progress
from spotweld.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from spotweld.placement.market import Market
    from spotweld.placement.serving import Served, Service

_ONLY_JOBS = ("work", "deadline", "changeover", "gang", "cadence", "size", "egress", "starts", "seed")
_ONLY_REPLICAS = ("spare", "cold_start", "per_zone")
_COLUMNS = ("policy", "enough ready", "mean ready", "cost", "of on-demand", "preempted", "starts", "spot", "on-demand")


def replica_options(verb: Callable[..., Any]) -> Callable[..., Any]:
    """What only ``--replicas`` needs."""
    for option in reversed(
        (
            click.option(
                "--replicas", type=click.IntRange(min=1), help="Keep as many machines ready, instead of running a job."
            ),
            click.option("--spare", default=1, type=click.IntRange(min=0), help="Replicas that may be had on top. [1]"),
            click.option(
                "--cold-start",
                default="2m",
                callback=seconds,
                metavar="DURATION",
                help="From a replica's start until it is ready. [2m]",
            ),
            click.option(
                "--per-zone",
                type=click.IntRange(min=1),
                help="Replicas that fit into a zone for each machine of the recording. [all, if it knows only 0 and 1]",
            ),
        )
    ):
        verb = option(verb)
    return verb


def check_kind(context: click.Context) -> None:
    """A job or a service, and all that it needs.

    Raises:
        UsageError: neither, both, or an option of the other one.
    """
    given = {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    if "replicas" in given:
        _refuse(given, _ONLY_JOBS, "is about jobs, and --replicas keeps a service up", "leave one of them out")
        return
    _refuse(given, _ONLY_REPLICAS, "is about replicas", "say how many: --replicas 3")
    for name in ("work", "deadline"):
        if name not in given:
            raise UsageError(
                f"--{name} is missing",
                "a job has --work and a --deadline",
                "give both, or say how many machines to keep ready: --replicas 3",
            )


def _refuse(given: set[str], names: tuple[str, ...], why: str, todo: str) -> None:
    for name in names:
        if name in given:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} does not fit here", f"{option} {why}", todo)


def simulate_replicas(
    market: Market, replicas: int, spare: int, cold_start: float, per_zone: int | None, names: str | None, as_json: bool
) -> tuple[Service, Market, list[Served]]:
    """Print what became of the service under each policy.

    Returns:
        The same, for a picture.
    """
    from spotweld.placement.fleetpolicies import FLEET_POLICIES, fleet_policy_of  # noqa: PLC0415 - NumPy
    from spotweld.placement.serving import Service, roomy, serve  # noqa: PLC0415

    service = Service(replicas, spare, cold_start)
    policies = [fleet_policy_of(name.strip()) for name in (names or ",".join(FLEET_POLICIES)).split(",")]
    if per_zone is None and market.capacity.max() <= 1:
        per_zone = replicas + spare
        say(f"note: all {per_zone} replicas are taken to fit where the recording says 1: see --per-zone")
    market = roomy(market, per_zone or 1)
    found = []
    with progress("simulating", "ticks") as told:
        whole = market.ticks * len(policies)
        for number, policy in enumerate(policies):
            found.append(serve(market, service, policy, partial(_part, told, number * market.ticks, whole)))
    if as_json:
        print_json(_plain(market, service, found))
    else:
        _show(market, service, found)
    return service, market, found


def _part(told: Callable[[int, int], None], before: int, whole: int, done: int, _all: int) -> None:
    """Ticks of one policy as ticks of all."""
    told(before + done, whole)


def _plain(market: Market, service: Service, found: list[Served]) -> dict[str, Any]:
    from spotweld.placement.comparing import market_to_plain  # noqa: PLC0415 - NumPy

    policies = [{name: getattr(one, name) for name in one.__struct_fields__ if name != "ticks"} for one in found]
    return {"market": market_to_plain(market), "service": vars(service), "policies": policies}


def _show(market: Market, service: Service, found: list[Served]) -> None:
    rows = [
        [
            one.policy,
            f"{100 * one.availability:.3f} %",
            f"{100 * one.ready:.3f} %",
            f"{one.cost:.2f}",
            f"{100 * one.cost_share:.1f} %",
            f"{one.preemptions}",
            f"{one.starts}",
            f"{one.spot / 3600:.0f} h",
            f"{one.on_demand / 3600:.0f} h",
        ]
        for one in found
    ]
    print_table(_COLUMNS, rows, right=range(1, len(_COLUMNS)))
    zones = len(market.zones)
    days = market.ticks * market.gap / 86_400
    say(
        f"{service.target} replicas and {service.spare} spare for {days:.1f} days in {zones} zone"
        f"{'s' if zones > 1 else ''}; enough ready: the share of time with {service.target}; "
        f"cost in {market.currency}, and as a share of what {service.target} on-demand machines cost"
    )
