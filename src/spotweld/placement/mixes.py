"""Mixes of spot and on-demand machines: all that could be held, and which one is best with its risk priced in."""

from __future__ import annotations

import math
from collections import Counter
from functools import lru_cache
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from spotweld.placement.hedging import worth_trying
from spotweld.placement.risk import HOUR, WHOLE_REGION, joint, rates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from spotweld.placement.fleets import FleetSeen, Site
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


def risks_of(seen: FleetSeen) -> dict[str, float]:
    """Losses per hour by zone."""
    oldest: dict[str, float] = {}
    for member in seen.members:
        if member.spot and not member.going:
            oldest[member.zone] = max(oldest.get(member.zone, 0.0), member.age)
    every = rates(seen.sites, [oldest.get(site.zone, 0.0) for site in seen.sites])
    return {site.zone: float(rate) for site, rate in zip(seen.sites, every, strict=True)}


def promising(seen: FleetSeen, risks: Mapping[str, float]) -> list[Site]:
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


def best_mix(
    seen: FleetSeen, sites: Sequence[Site], risks: Mapping[str, float], have: Sequence[int], keep: Sequence[int]
) -> tuple[list[int], float]:
    """The best mix over ``sites`` and on-demand, the last, and the seconds a day for which it is expected to be short.

    Args:
        seen: what is asked for.
        sites: the zones that are looked at.
        risks: losses per hour by zone.
        have: how many members are held in each, and on-demand.
        keep: how many of those the mix should have in any case, if it can.
    """
    rate, held = np.array([risks[site.zone] for site in sites]), np.array(have)
    regions = [site.region for site in sites]
    groups = tuple(np.unique(regions, return_inverse=True)[1].tolist())
    mixes = _mixes(groups, seen.target, seen.target + seen.spare)
    unit = _unit(seen)
    # Where no on-demand is to be had, it stands for what is missing: anything else is better.
    firm = unit if min(site.on_demand for site in seen.sites) < math.inf else (unit or 1.0) * MISSING
    price = np.array([0.0 if site.spot is None else site.spot for site in sites] + [firm])
    room = np.array([count + _more(site) for site, count in zip(sites, have, strict=False)] + [ENDLESS])
    whole = np.array([_weaker(rate, groups, region) for region in range(max(groups) + 1)])
    both = joint(rate, regions, mixes.first, mixes.second, seen.cold_start)
    losses: Floats = mixes.single @ rate + mixes.pair @ both + mixes.region @ (WHOLE_REGION * whole)
    short = losses * seen.cold_start / HOUR
    starts = np.maximum(mixes.counts - held, 0) @ price * seen.cold_start / HOUR / LASTS
    value = mixes.counts @ price + starts + short * WORTH * unit
    fits = (mixes.counts <= room).all(axis=1)
    keeps = fits & (mixes.counts >= np.array(keep)).all(axis=1)
    value = np.where(keeps if keeps.any() else fits, value, math.inf)
    best = int(value.argmin())
    return mixes.counts[best].tolist(), float(short[best]) * 24 * HOUR


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


def _unit(seen: FleetSeen) -> float:
    """The price of an on-demand machine; if there is none, of the dearest spot machine."""
    firm = min(site.on_demand for site in seen.sites)
    return firm if firm < math.inf else max(site.spot or 0.0 for site in seen.sites)


def _more(site: Site) -> int:
    if not worth_trying(site):
        return 0
    return ENDLESS if site.room is None else max(0, site.room)


def _weaker(rate: Floats, groups: Sequence[int], region: int) -> float:
    """The highest of the three lowest rates of a region: with what all of it goes."""
    here = sorted(float(each) for each, group in zip(rate, groups, strict=True) if group == region)
    return here[:3][-1]
