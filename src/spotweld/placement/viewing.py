"""A live market as policies see it: one run, at one moment, among the zones that are on offer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from spotweld.placement.facts import facts
from spotweld.placement.market import ages
from spotweld.placement.memory import Stretch, recorded
from spotweld.placement.placer import Ending, Sighting, Standing
from spotweld.placement.refusals import left_alone
from spotweld.placement.seeing import NONE, Past, Seen, Task
from spotweld.values.offers import CapacityType
from spotweld.values.sizes import GIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotweld.placement.placer import Observation
    from spotweld.project.nouns import PlacementRules
    from spotweld.values.offers import Offer

NEVER = 1e6
"""The price of what cannot be had; finite, so that it can be reckoned with."""
_GRID = 1.05
"""What is measured is rounded up to a power of this, so that a policy's plans hold for a while."""


class View(NamedTuple):
    """What a policy is shown, and what its answers mean."""

    seen: Seen
    zones: tuple[str, ...]
    offers: tuple[Offer | None, ...]
    """By the codes of ``Seen.held`` from 0 on; None: it cannot be had now."""


def view(
    seen: Observation,
    rules: PlacementRules,
    work: float,
    deadline: float,
    *,
    gap: float,
    pace: float,
    before: Sequence[Stretch],
    past: Past,
) -> View | None:
    """The market for a run with a deadline.

    Args:
        seen: what was observed.
        rules: the project file's.
        work: seconds that the whole run takes, undisturbed.
        deadline: seconds after its beginning.
        gap: seconds until the next decision.
        pace: seconds of the market's time that pass in a second. All that policies see is the market's time.
        before: what earlier runs saw.
        past: gets the market until now, for policies to learn from; if its zones are others, a new one is shown.

    Returns:
        None: nothing is offered.
    """
    spot, firm = _by_zone(seen, CapacityType.SPOT), _by_zone(seen, CapacityType.ON_DEMAND)
    zones = tuple(sorted(spot.keys() | firm.keys()))
    if not zones:
        return None
    regions = tuple((spot.get(zone) or firm[zone]).region for zone in zones)
    spot_prices = [_price(spot.get(zone)) for zone in zones]
    firm_prices = [_price(firm.get(zone)) for zone in zones]
    known = facts(seen)
    now = Sighting(seen.now, known, {zone: p for zone, p in zip(zones, spot_prices, strict=True) if p < NEVER})
    sights = (*(one for one in seen.sightings if one.time <= seen.now), now)
    market = recorded([*before, Stretch(sights, seen.now)], zones, regions, firm_prices, gap=gap * pace, pace=pace)
    # What policies have reckoned from a past counts its zones by their places.
    past = past if past.market.zones == zones else Past(market)
    past.market = market
    held = _held(seen, zones)

    def tried(offer: Offer | None, code: int) -> bool:
        """Whether it may be asked for now."""
        if offer is None or code == held:
            return code == held
        return left_alone(offer, seen, rules.back_off, rules.longest_back_off) <= 0

    up = [tried(spot.get(zone), z) and (z == held or seen.rooms.get(zone, 1) > 0) for z, zone in enumerate(zones)]
    on_demand = [tried(firm.get(zone), len(zones) + z) for z, zone in enumerate(zones)]
    lately = past.market.up(1)
    age = np.where(lately[-1] == up, ages(lately, past.market.gap)[-1], 0.0)
    standing = seen.standing or Standing(work, deadline, rules.changeover, 0.0)
    changeover = _up(standing.changeover * pace)
    task = Task(
        work * pace,
        max(deadline * pace, work * pace + changeover + 1.0),
        changeover,
        cadence=_up(standing.cadence * pace),
        size=standing.size / GIB,
        # Machines' prices are by the market's time, which stretches them against what is paid at once.
        egress=float(rules.egress_price.amount) * pace if rules.egress_price else 0.0,
    )
    policy_sees = Seen(
        up=np.array([up]),
        capacity=np.array([up], dtype=np.int64),
        age=age[None, :],
        spot=np.array([spot_prices]),
        on_demand=np.where(on_demand, firm_prices, NEVER)[None, :],
        held=np.array([held]),
        warming=np.array([_warming(seen, standing, gap) * pace]),
        ran=np.array([_ran(seen) * pace]),
        unsaved=np.array([standing.unsaved * pace]),
        home=np.array([_home(seen, zones, past.market.region.tolist())]),
        work=np.array([max(standing.work * pace, 1.0)]),
        time=np.array([standing.time * pace]),
        tick=np.array([past.market.ticks - 1]),
        regions=past.market.region,
        task=task,
        gap=gap * pace,
        past=past,
    )
    haveable = [offer if can else None for offer, can in zip(map(spot.get, zones), up, strict=True)]
    haveable += [offer if can else None for offer, can in zip(map(firm.get, zones), on_demand, strict=True)]
    return View(policy_sees, zones, tuple(haveable))


def _by_zone(seen: Observation, kind: CapacityType) -> dict[str, Offer]:
    """The cheapest of each zone; what is held is there whether or not it is still on offer."""
    found = {
        offer.zone: offer
        for offer in sorted(seen.offers, key=lambda one: one.hourly.amount, reverse=True)
        if offer.capacity_type is kind
    }
    if seen.held is not None and seen.held.offer.capacity_type is kind:
        found[seen.held.offer.zone] = seen.held.offer
    return found


def _price(offer: Offer | None) -> float:
    return NEVER if offer is None else float(offer.hourly.amount)


def _held(seen: Observation, zones: Sequence[str]) -> int:
    if seen.held is None:
        return NONE
    zone = zones.index(seen.held.offer.zone)
    return zone + (len(zones) if seen.held.offer.capacity_type is CapacityType.ON_DEMAND else 0)


def _warming(seen: Observation, standing: Standing, gap: float) -> float:
    """Seconds until the machine makes progress; what is late is expected to be so for as long again."""
    if seen.held is None or seen.held.working is not None:
        return 0.0
    left = seen.held.began + standing.changeover - seen.now
    return left if left > 0 else max(-left, gap)


def _ran(seen: Observation) -> float:
    if seen.held is None or seen.held.working is None:
        return 0.0
    return max(0.0, seen.now - seen.held.working)


def _home(seen: Observation, zones: Sequence[str], regions: Sequence[int]) -> int:
    """The region of the last machine that the run had."""
    there = [one.zone for one in seen.past if one.ending is not Ending.REFUSED and one.zone in zones]
    return int(regions[zones.index(there[-1])]) if there else NONE


def _up(seconds: float) -> float:
    return 0.0 if seconds <= 0 else _GRID ** math.ceil(math.log(seconds, _GRID) - 1e-4)
