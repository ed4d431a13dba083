"""What others do to keep replicas ready: on-demand only, spot only, and SpotHedge (EuroSys'25)."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from spotweld.placement.fleets import FleetPolicy, FleetWant

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from spotweld.placement.fleets import FleetSeen, Member, Site

BACK_OFF = 60.0
"""Seconds after a loss or a refusal for which a zone of which nothing else is known is left alone; twice as long for
each further one within an hour."""
LONGEST = 3600.0
"""Seconds."""


class FleetOnDemand(FleetPolicy):
    """As many on-demand machines as should be ready, where they are cheapest."""

    name = "on-demand"

    def decide(self, seen: FleetSeen) -> FleetWant:
        firm = [member for member in seen.members if not member.spot]
        start, stop = fill_firm(seen, firm, seen.target)
        return FleetWant(start, stop, f"{seen.target} on-demand machines")


class SpotOnly(FleetPolicy):
    """The target and the spare as spot, evenly over all zones that have some, and nothing else."""

    name = "spot-only"

    def decide(self, seen: FleetSeen) -> FleetWant:
        spot = [member for member in seen.members if member.spot and not member.going]
        start, stop = fill_spot(spot, seen.target + seen.spare, [site for site in seen.sites if worth_trying(site)])
        return FleetWant(start, stop, f"{seen.target + seen.spare} spot machines")


class SpotHedge(FleetPolicy):
    """The target and the spare as spot, spread over zones that did not lose any lately; on-demand until spot is ready.

    Zones are *available* or *preempting*. A loss or a refusal makes one preempting, a machine that becomes ready there
    makes it available again; once fewer than two are available, all are. A new machine goes to the cheapest of those
    available zones that have none, or else of all available ones (algorithm 1 of the paper). On-demand machines are as
    many as spot machines are not ready, at most the target.
    """

    name = "hedged"

    def decide(self, seen: FleetSeen) -> FleetWant:
        spot = [member for member in seen.members if member.spot and not member.going]
        count = seen.target + seen.spare
        preempting = _preempting(seen)
        tried = [site for site in seen.sites if worth_trying(site)]
        start, stop = fill_spot(spot, count, [site for site in tried if site.zone not in preempting])
        # What does not fit there is refused, which soon makes all zones available.
        rest, _ = fill_spot(spot, count - len(start), [site for site in tried if site.zone in preempting])
        start += rest
        missing = min(seen.target, count - sum(member.ready for member in spot))
        firm = [member for member in seen.members if not member.spot]
        added, removed = fill_firm(seen, firm, missing)
        return FleetWant(
            start + added, stop + removed, f"{count} spot machines, {missing} on-demand until they are ready"
        )


def worth_trying(site: Site) -> bool:
    """Whether a start on spot is worth trying there."""
    if site.spot is None or site.up is False or site.room == 0:
        return False
    if site.up or not site.losses:
        return True
    lately = sum(ago < LONGEST for ago in site.losses)
    return site.losses[0] >= min(LONGEST, BACK_OFF * 2.0 ** (lately - 1))


def fill_firm(
    seen: FleetSeen, firm: Sequence[Member], count: int
) -> tuple[tuple[tuple[str, bool], ...], tuple[str, ...]]:
    """Starts and stops of on-demand machines that make them ``count``; the newest are stopped first."""
    extra = sorted(firm, key=lambda member: (member.ready, member.age))[: max(0, len(firm) - count)]
    if not seen.sites:
        return (), tuple(member.id for member in extra)
    cheapest = min(seen.sites, key=lambda site: (site.on_demand, site.zone))
    if cheapest.on_demand == math.inf:
        count = 0
    return ((cheapest.zone, False),) * (count - len(firm)), tuple(member.id for member in extra)


def fill_spot(
    spot: Sequence[Member], count: int, sites: Iterable[Site]
) -> tuple[tuple[tuple[str, bool], ...], tuple[str, ...]]:
    """Starts and stops of spot machines that make them ``count``: each goes where the fewest are, then where cheap."""
    extra = sorted(spot, key=lambda member: (member.ready, member.age))[: max(0, len(spot) - count)]
    taken = Counter(member.zone for member in spot)
    here = Counter[str]()
    found = []
    options = {site.zone: site for site in sites}
    for _ in range(count - len(spot)):
        fits = [site for site in options.values() if site.room is None or here[site.zone] < site.room]
        if not fits:
            break
        best = min(fits, key=lambda site: (taken[site.zone], site.spot or 0.0, site.zone))
        taken[best.zone] += 1
        here[best.zone] += 1
        found.append((best.zone, True))
    return tuple(found), tuple(member.id for member in extra)


def _preempting(seen: FleetSeen) -> set[str]:
    """The zones that are preempting, by going through what is remembered of losses again."""
    events = sorted(((ago, site.zone) for site in seen.sites for ago in site.losses), reverse=True)
    zones: set[str] = set()
    for _, zone in events:
        zones.add(zone)
        if len(seen.sites) - len(zones) < 2:
            zones.clear()
    last = {site.zone: site.losses[0] for site in seen.sites if site.losses}
    return zones - {
        member.zone
        for member in seen.members
        if member.spot and member.ready and member.age < last.get(member.zone, 0.0)
    }
