"""Replicas in the simulator: its accounts, and laws that hold for all policies or for good ones."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.placement.fleets import Steadfast, Whim, services
from tests.placement.markets import market_from

from spotweld.errors import UsageError
from spotweld.placement.fleetpolicies import FLEET_POLICIES
from spotweld.placement.fleets import FleetPolicy, FleetSeen, FleetWant
from spotweld.placement.serving import Service, roomy, serve

if TYPE_CHECKING:
    from spotweld.placement.market import Market

HOUR = 3600.0
SPOT_BACKED = ("ours", "hedged", "on-demand")


class Diary(FleetPolicy):
    """Asks another policy, and keeps what it saw and wanted."""

    name = "diary"

    def __init__(self, policy: FleetPolicy) -> None:
        self.policy = policy
        self.pages: list[tuple[FleetSeen, FleetWant]] = []

    def decide(self, seen: FleetSeen) -> FleetWant:
        want = self.policy.decide(seen)
        self.pages.append((seen, want))
        return want


def slow(market: Market, service: Service, policy: FleetPolicy) -> tuple[Fraction, Fraction, Fraction]:
    """Seconds with enough, mean ready share in seconds, and cost: in the smallest steps that anything happens at.

    Only what was wanted is taken from the fast one; who is there, ready or paid is worked out here.
    """
    diary = Diary(policy)
    serve(market, service, diary)
    numbers, pages, fleet = count(1), iter(diary.pages), dict[str, tuple[str, bool, Fraction]]()
    gap, cold = Fraction(market.gap), Fraction(service.cold_start)
    step = Fraction(math.gcd(round(gap * 1024), round(cold * 1024)), 1024)
    enough = share = cost = Fraction(0)
    for moment in (number * step for number in range(int(gap * market.ticks / step))):
        tick = int(moment / gap)
        levels = dict(zip(market.zones, market.capacity[tick].tolist(), strict=True))
        if moment % gap == 0:
            _shrink(fleet, levels)
        if moment % gap == 0 or (cold and any(begun + cold == moment for _, _, begun in fleet.values())):
            _change(fleet, levels, next(pages)[1], moment, numbers)
        prices = [_price(market, tick, zone, spot=spot) for zone, spot, _ in fleet.values()]
        cost += sum(prices, Fraction(0)) * step / 3600
        if moment >= cold:
            ready = sum(begun + cold <= moment for _, _, begun in fleet.values())
            enough += step * (ready >= service.target)
            share += step * min(Fraction(1), Fraction(ready, service.target))
    assert next(pages, None) is None
    return enough, share, cost


def _shrink(fleet: dict[str, tuple[str, bool, Fraction]], levels: dict[str, int]) -> None:
    for zone, level in levels.items():
        held = [name for name, (place, spot, _) in fleet.items() if spot and place == zone]
        for name in held[level:]:
            del fleet[name]


def _change(
    fleet: dict[str, tuple[str, bool, Fraction]],
    levels: dict[str, int],
    want: FleetWant,
    moment: Fraction,
    numbers: count[int],
) -> None:
    for name in want.stop:
        del fleet[name]
    for zone, spot in want.start:
        if not spot or sum(place == zone and is_spot for place, is_spot, _ in fleet.values()) < levels[zone]:
            fleet[f"m{next(numbers)}"] = (zone, spot, moment)


def _price(market: Market, tick: int, zone: str, *, spot: bool) -> Fraction:
    place = market.zones.index(zone)
    return Fraction(float(market.spot[tick, place] if spot else market.on_demand[place]))


@given(services(), st.integers(0, 99))
def test_it_agrees_with_a_slow_one(problem: tuple[Market, Service], seed: int) -> None:
    market, service = problem
    served = serve(market, service, Whim(seed))
    enough, share, cost = slow(market, service, Whim(seed))
    counted = market.ticks * market.gap - service.cold_start
    assert served.enough == enough
    assert served.availability == pytest.approx(float(enough) / counted)
    assert served.ready == pytest.approx(float(share) / counted)
    assert served.cost == pytest.approx(float(cost))


@given(services(), st.sampled_from(SPOT_BACKED))
def test_without_a_cold_start_there_are_always_enough(problem: tuple[Market, Service], name: str) -> None:
    market, service = problem
    served = serve(market, replace(service, cold_start=0.0), FLEET_POLICIES[name]())
    assert served.availability == 1.0


@given(services(), st.sampled_from(SPOT_BACKED))
def test_without_losses_there_are_always_enough(problem: tuple[Market, Service], name: str) -> None:
    market, service = problem
    steady = replace(market, capacity=np.full_like(market.capacity, 9))
    assert serve(steady, service, FLEET_POLICIES[name]()).availability == 1.0


@given(services(), st.data())
def test_more_capacity_never_harms_who_wants_the_same(problem: tuple[Market, Service], data: st.DataObject) -> None:
    market, service = problem
    counts = data.draw(st.lists(st.integers(0, 3), min_size=len(market.zones), max_size=len(market.zones)))
    more = market.capacity.copy()
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, market.ticks - 1)), data.draw(st.integers(0, len(market.zones) - 1))
        more[at] += data.draw(st.integers(1, 3))
    less = serve(market, service, Steadfast(counts))
    assert serve(replace(market, capacity=more), service, Steadfast(counts)).enough >= less.enough


@given(services())
def test_what_on_demand_costs_is_exact(problem: tuple[Market, Service]) -> None:
    market, service = problem
    served = serve(market, service, FLEET_POLICIES["on-demand"]())
    hours = market.ticks * market.gap / HOUR
    assert served.cost == pytest.approx(service.target * float(market.on_demand.min()) * hours)
    assert served.cost_share == pytest.approx(1.0)
    assert (served.availability, served.preemptions, served.starts) == (1.0, 0, service.target)


@given(services(), st.sampled_from(list(FLEET_POLICIES)))
def test_the_same_again_gives_the_same(problem: tuple[Market, Service], name: str) -> None:
    assert serve(*problem, FLEET_POLICIES[name]()) == serve(*problem, FLEET_POLICIES[name]())


@given(services(), st.integers(0, 99))
def test_the_accounts_add_up(problem: tuple[Market, Service], seed: int) -> None:
    market, service = problem
    diary = Diary(Whim(seed))
    served = serve(market, service, diary)
    machine_seconds = sum(spot + firm + cold for spot, firm, cold, _ in served.ticks) * market.gap
    assert machine_seconds == pytest.approx(served.spot + served.on_demand)
    assert served.enough <= sum(enough for *_, enough in served.ticks) * market.gap + 1e-6
    wanted = sum(len(want.start) for _, want in diary.pages)
    assert served.starts == wanted - served.refused
    for seen, _ in diary.pages:
        taken = Counter(member.zone for member in seen.members if member.spot)
        for site in seen.sites:
            assert site.up == (taken[site.zone] + (site.room or 0) > 0)


def test_readiness_within_a_tick() -> None:
    """Two zones of 100 s ticks; the one machine is lost at 300 s and replaced after a cold start of 30 s."""
    market = market_from([[1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1]], [[0.36] * 6, [0.72] * 6], [3.6, 3.6], 100.0)
    served = serve(market, Service(1, 0, 30.0), FLEET_POLICIES["spot-only"]())
    assert served.enough == 540.0
    assert served.availability == 540 / 570
    assert served.cost == pytest.approx((300 * 0.36 + 300 * 0.72) / 3600)
    assert (served.preemptions, served.starts, served.refused) == (1, 2, 0)
    assert served.ticks[3] == pytest.approx((0.7, 0.0, 0.3, 0.7))


def test_what_does_not_fit_is_refused_and_remembered() -> None:
    class Pushy(FleetPolicy):
        name = "pushy"

        def decide(self, seen: FleetSeen) -> FleetWant:
            losses.append(seen.sites[0].losses)
            return FleetWant((("a", True),) * 2)

    losses: list[tuple[float, ...]] = []
    market = market_from([[1, 1, 0]], [[1.0] * 3], [3.0], 60.0)
    served = serve(market, Service(1, 0, 0.0), Pushy())
    assert (served.starts, served.refused, served.preemptions) == (1, 5, 1)
    assert losses == [(), (60.0,), (0.0, 60.0, 60.0, 120.0)]


def test_room_for_more() -> None:
    assert roomy(market_from([[1, 0, 2]], [[1.0] * 3], [3.0], 60.0), 4).capacity.tolist() == [[4], [0], [8]]


def test_what_cannot_be_is_refused() -> None:
    market = market_from([[1, 1]], [[1.0] * 2], [3.0], 60.0)
    with pytest.raises(UsageError, match="too short"):
        serve(market, Service(1, 0, 120.0), FLEET_POLICIES["on-demand"]())
    for wrong in ({"target": 0}, {"target": 1, "spare": -1}, {"target": 1, "cold_start": math.nan}):
        with pytest.raises(UsageError, match="cannot be"):
            Service(**wrong)
    for want in (FleetWant((("nowhere", True),)), FleetWant((), ("m7",))):
        with pytest.raises(ValueError, match="does not exist"):
            serve(market, Service(1, 0, 0.0), Stubborn(want))


class Stubborn(FleetPolicy):
    name = "stubborn"

    def __init__(self, want: FleetWant) -> None:
        self.want = want

    def decide(self, seen: FleetSeen) -> FleetWant:  # noqa: ARG002 - it does not look
        return self.want
