"""Random services and fleet policies for the laws."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

from hypothesis import strategies as st
from tests.placement.markets import lives, market_from

from spotweld.placement.fleets import FleetPolicy, FleetSeen, FleetWant, Member, Site
from spotweld.placement.serving import Service

if TYPE_CHECKING:
    from spotweld.placement.market import Market


@st.composite
def services(draw: st.DrawFn, *, zones: int = 3, ticks: int = 10) -> tuple[Market, Service]:
    """A market and a service that is ready before it ends."""
    count, gap = draw(st.integers(1, zones)), draw(st.sampled_from([60.0, 195.0, 0.5]))
    capacity = [[level for level, length in draw(lives(ticks)) for _ in range(length)][:ticks] for _ in range(count)]
    price = st.integers(0, 8).map(lambda eighths: eighths / 8)
    spot = [draw(st.lists(price, min_size=ticks, max_size=ticks)) for _ in range(count)]
    regions = tuple(draw(st.sampled_from(["west", "east"])) for _ in range(count))
    firm = [draw(st.integers(1, 24)) / 8 for _ in range(count)]
    cold = gap * draw(st.sampled_from([0, 0.25, 0.5, 1, 1.25, 2.5]))
    service = Service(draw(st.integers(1, 4)), draw(st.integers(0, 2)), cold)
    return market_from(capacity, spot, firm, gap, regions), service


@st.composite
def sights(draw: st.DrawFn) -> FleetSeen:
    """Anything that could be seen, by a pool too: unknown capacity, no spot, members of zones that are gone."""
    names = draw(st.lists(st.sampled_from("abcde"), unique=True, max_size=4))
    seconds = st.floats(0, 1e6)
    sites = [
        Site(
            zone,
            draw(st.none() | st.floats(0, 5)),
            draw(st.floats(0, 5) | st.just(math.inf)),
            draw(st.sampled_from([True, False, None])),
            draw(seconds),
            tuple(sorted(draw(st.lists(seconds, max_size=16)))),
            draw(st.sampled_from(["", "west", "east"])),
            draw(st.none() | st.integers(0, 3)),
        )
        for zone in names
    ]
    members = [
        Member(f"m{place}", draw(st.sampled_from("abcdef")), *(draw(st.booleans()) for _ in range(2)), draw(seconds))
        for place in range(draw(st.integers(0, 7)))
    ]
    going = [
        Member(f"g{place}", "a", True, True, draw(seconds), going=True) for place in range(draw(st.integers(0, 2)))
    ]
    cold = draw(st.sampled_from([0.0, 120.0, 900.0]))
    return FleetSeen(draw(st.integers(1, 5)), draw(st.integers(0, 2)), (*members, *going), tuple(sites), cold)


class Whim(FleetPolicy):
    """Starts and stops anything that exists, by a seed and what it sees; the same each time it is asked."""

    name = "whim"

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def decide(self, seen: FleetSeen) -> FleetWant:
        chance = random.Random(f"{self.seed} {seen}")
        stop = tuple(member.id for member in seen.members if chance.random() < 0.2)
        kinds = [(site.zone, spot) for site in seen.sites for spot in (True, False)]
        return FleetWant(tuple(kind for kind in kinds if chance.random() < 0.3), stop)


class Steadfast(FleetPolicy):
    """Wants the same number of spot machines in each zone, whatever happens."""

    name = "steadfast"

    def __init__(self, counts: list[int]) -> None:
        self.counts = counts

    def decide(self, seen: FleetSeen) -> FleetWant:
        start = []
        for site, count in zip(seen.sites, self.counts, strict=False):
            held = sum(member.zone == site.zone for member in seen.members)
            start += [(site.zone, True)] * min(count - held, site.room or 0)
        return FleetWant(tuple(start))
