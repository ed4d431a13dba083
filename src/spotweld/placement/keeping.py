"""Our policy for replicas: of all mixes that could be held, the one whose price and risk are least together."""

from __future__ import annotations

import math
from collections import Counter
from functools import lru_cache
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from spotweld.placement.fleets import FleetPolicy, FleetWant
from spotweld.placement.hedging import worth_trying
from spotweld.placement.risk import HOUR, WHOLE_REGION, joint, rates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotweld.placement.fleets import FleetSeen, Member, Site
    from spotweld.placement.market import Floats, Ints

WORTH = 260.0
"""What an hour without enough ready members is worth, in hours of an on-demand machine."""
DEEPER = 0.1
"""How much worse it is for each further member that is missing."""
LASTS = 1.0
"""Hours over which the start of a member is written off."""
MIXES = 10_000
"""The most that are compared. With more members fewer zones are looked at, the best ones."""
ENDLESS = 1 << 30
MISSING = 1e6
"""How many times dearer than anything else it is to have none."""


class Ours(FleetPolicy):
    """Holds the mix of spot and on-demand machines that is cheapest when its expected shortage is priced in.

    A mix is how many spot machines are in each zone and how many on-demand machines there are: as many as the target,
    or up to the spare more. A shortage comes when more are lost at once than the mix has on top; it lasts a cold start.
    So fresh capacity is backed by on-demand machines and spares, and capacity that has lasted needs none. What is not
    part of the mix any more is kept until what is has become ready.
    """

    name = "ours"

    def decide(self, seen: FleetSeen) -> FleetWant:
        if not seen.sites:
            return FleetWant(why="no zone is allowed")
        staying = [member for member in seen.members if not member.going]
        oldest: dict[str, float] = {}
        for member in staying:
            if member.spot:
                oldest[member.zone] = max(oldest.get(member.zone, 0.0), member.age)
        every = rates(seen.sites, [oldest.get(site.zone, 0.0) for site in seen.sites])
        risks = {site.zone: float(rate) for site, rate in zip(seen.sites, every, strict=True)}
        sites = _promising(seen, risks)
        place = {site.zone: number for number, site in enumerate(sites)}
        columns = [_column(member, place) for member in staying]
        held = [columns.count(column) for column in range(len(sites) + 1)]
        # Whoever gives up what is about to be ready for something better may never have anything.
        hurry = sum(member.ready for member in staying) < seen.target
        warming = [column for column, member in zip(columns, staying, strict=True) if hurry and not member.ready]
        least = [warming.count(column) for column in range(len(sites) + 1)]
        mix, short = _best(seen, sites, np.array(held), np.array(least), np.array([risks[site.zone] for site in sites]))
        firm = min(seen.sites, key=lambda site: (site.on_demand, site.zone))
        names = [(site.zone, True) for site in sites] + [(firm.zone, False)]
        start = tuple(
            name
            for name, want, have in zip(names, mix, held, strict=True)
            for _ in range(want - have)
            if name[1] or firm.on_demand < math.inf
        )
        stop = _superfluous(staying, place, mix, held)
        return FleetWant(
            start, stop, _why(names, mix, short, "on-demand" if firm.on_demand < math.inf else "not to be had")
        )


class _Mixes(NamedTuple):
    """M mixes over Z zones and on-demand, the last column. Severities are 0 where enough members would be left."""

    counts: Ints
    """(M, Z + 1)"""
    single: Floats
    """(M, Z): how severe the loss of a zone is."""
    first: Ints
    """(P,): a zone of each pair."""
    second: Ints
    """(P,): the other."""
    pair: Floats
    """(M, P): how much more severe the loss of both is than that of either."""
    region: Floats
    """(M, R): how severe the loss of a region is."""


def _best(seen: FleetSeen, sites: Sequence[Site], held: Ints, least: Ints, rate: Floats) -> tuple[list[int], float]:
    """The best mix, and the seconds per day for which it is expected to be short."""
    regions = [site.region for site in sites]
    groups = tuple(np.unique(regions, return_inverse=True)[1].tolist())
    mixes = _mixes(groups, seen.target, seen.target + seen.spare)
    unit = _unit(seen)
    # Where no on-demand is to be had, it stands for what is missing: anything else is better.
    firm = unit if min(site.on_demand for site in seen.sites) < math.inf else (unit or 1.0) * MISSING
    price = np.array([0.0 if site.spot is None else site.spot for site in sites] + [firm])
    room = np.array([have + _more(site) for site, have in zip(sites, held.tolist(), strict=False)] + [ENDLESS])
    whole = np.array([_weaker(rate, groups, region) for region in range(max(groups) + 1)])
    both = joint(rate, regions, mixes.first, mixes.second, seen.cold_start)
    losses: Floats = mixes.single @ rate + mixes.pair @ both + mixes.region @ (WHOLE_REGION * whole)
    short = losses * seen.cold_start / HOUR
    starts = np.maximum(mixes.counts - held, 0) @ price * seen.cold_start / HOUR / LASTS
    value = mixes.counts @ price + starts + short * WORTH * unit
    fits = (mixes.counts <= room).all(axis=1)
    keeps = fits & (mixes.counts >= least).all(axis=1)
    value = np.where(keeps if keeps.any() else fits, value, math.inf)
    best = int(value.argmin())
    return mixes.counts[best].tolist(), float(short[best]) * 24 * HOUR


@lru_cache(maxsize=32)
def _mixes(groups: tuple[int, ...], target: int, most: int) -> _Mixes:
    """All mixes of ``target`` to ``most`` members over zones whose regions have these numbers."""
    zones = len(groups)
    counts = np.array(
        [
            np.bincount(kinds, minlength=zones + 1)
            for size in range(target, most + 1)
            for kinds in combinations_with_replacement(range(zones + 1), size)
        ],
        dtype=np.int64,
    )
    extra = counts.sum(axis=1)[:, None] - target
    spot = counts[:, :zones]
    first, second = np.triu_indices(zones, 1)
    single = _severity(spot - extra)
    both = _severity(spot[:, first] + spot[:, second] - extra) - np.maximum(single[:, first], single[:, second])
    pair = np.where((spot[:, first] > 0) & (spot[:, second] > 0), both, 0.0)
    member = np.array(groups)[:, None] == np.arange(max(groups) + 1)
    return _Mixes(counts, single, first, second, pair, _severity(spot @ member - extra))


def _severity(missing: Ints) -> Floats:
    return np.where(missing > 0, 1.0 + DEEPER * (missing - 1), 0.0)


def _promising(seen: FleetSeen, risks: dict[str, float]) -> list[Site]:
    """The zones in which spot is, or is worth trying; if they are too many, the best, of different regions first."""
    here = {member.zone for member in seen.members if member.spot}
    sites = [site for site in seen.sites if worth_trying(site) or (site.zone in here and site.spot is not None)]
    risk = WORTH * _unit(seen) * seen.cold_start / HOUR
    worth = {site.zone: (site.spot or 0.0) + risk * risks[site.zone] for site in sites}
    ranked = sorted(sites, key=lambda site: (worth[site.zone], site.zone))
    before = Counter[str]()
    turns = {}
    for site in ranked:
        turns[site.zone] = before[site.region]
        before[site.region] += 1
    ranked.sort(key=lambda site: turns[site.zone])
    sizes = range(seen.target, seen.target + seen.spare + 1)
    count = len(ranked)
    while count > 1 and sum(math.comb(size + count, size) for size in sizes) > MIXES:
        count -= 1
    return sorted(ranked[:count], key=lambda site: site.zone) or list(seen.sites[:1])


def _unit(seen: FleetSeen) -> float:
    """The price of an on-demand machine; if there is none, of the dearest spot machine."""
    firm = min(site.on_demand for site in seen.sites)
    return firm if firm < math.inf else max(site.spot or 0.0 for site in seen.sites)


def _superfluous(
    staying: Sequence[Member], place: dict[str, int], mix: Sequence[int], held: Sequence[int]
) -> tuple[str, ...]:
    """What is not in the mix: at once if it is not ready, else as long as as many as the mix has stay ready."""
    spare = sum(member.ready for member in staying) - sum(mix)
    over = [have - want for have, want in zip(held, mix, strict=True)]
    found = []
    for member in sorted(staying, key=lambda member: (member.ready, member.age, member.id)):
        column = _column(member, place)
        if (column is not None and over[column] <= 0) or (member.ready and spare <= 0):
            continue
        found.append(member.id)
        spare -= member.ready
        if column is not None:
            over[column] -= 1
    return tuple(found)


def _column(member: Member, place: dict[str, int]) -> int | None:
    """Of a mix; None: in a zone that is not looked at."""
    return place.get(member.zone) if member.spot else len(place)


def _more(site: Site) -> int:
    if not worth_trying(site):
        return 0
    return ENDLESS if site.room is None else max(0, site.room)


def _weaker(rate: Floats, groups: Sequence[int], region: int) -> float:
    """The highest of the three lowest rates of a region: with what all of it goes."""
    here = sorted(float(each) for each, group in zip(rate, groups, strict=True) if group == region)
    return here[:3][-1]


def _why(names: Sequence[tuple[str, bool]], mix: Sequence[int], short: float, firm: str) -> str:
    counts = [(count, name) for (name, spot), count in zip(names, mix, strict=True) if spot and count]
    held = ", ".join(f"{count} in {name}" for count, name in counts)
    parts = [f"spot: {held}" if held else "no spot", f"{mix[-1]} {firm}" if mix[-1] else ""]
    return "; ".join(part for part in (*parts, f"short for {short:.0f} s a day is expected") if part)
