"""What the policies for replicas want."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.placement.fleets import sights

from spotweld.errors import UsageError
from spotweld.placement.fleetpolicies import FLEET_POLICIES, fleet_policy_of
from spotweld.placement.fleets import FleetSeen, Member, Site
from spotweld.placement.hedging import worth_trying
from spotweld.placement.keeping import FleetOurs
from spotweld.placement.risk import rates

if TYPE_CHECKING:
    from spotweld.placement.fleets import FleetWant

DAY = 86_400.0


def zone(name: str, *, age: float = 3 * DAY, spot: float = 1.0, up: bool | None = True, region: str = "") -> Site:
    return Site(name, spot, 3.0, up, age, region=region)


def seen(*sites: Site, members: tuple[Member, ...] = (), target: int = 3, spare: int = 1) -> FleetSeen:
    return FleetSeen(target, spare, members, sites, 120.0)


def kinds(want: FleetWant) -> Counter[bool]:
    return Counter(spot for _, spot in want.start)


@given(sights(), st.sampled_from(list(FLEET_POLICIES)))
def test_whatever_is_seen_there_is_an_answer(sight: FleetSeen, name: str) -> None:
    want = FLEET_POLICIES[name]().decide(sight)
    assert want == FLEET_POLICIES[name]().decide(sight)
    sites = {site.zone: site for site in sight.sites}
    for place, spot in want.start:
        assert worth_trying(sites[place]) if spot else sites[place].on_demand < math.inf
    for place, count in Counter(place for place, spot in want.start if spot).items():
        room = sites[place].room
        assert room is None or count <= room
    members = {member.id for member in sight.members if not member.going}
    assert len(set(want.stop)) == len(want.stop)
    assert set(want.stop) <= members


@given(sights())
def test_ours_asks_for_enough_and_never_stops_what_is_needed(sight: FleetSeen) -> None:
    want = FleetOurs().decide(sight)
    staying = [member for member in sight.members if not member.going]
    ready = sum(member.ready for member in staying)
    left = sum(member.ready for member in staying if member.id not in want.stop)
    assert left >= min(ready, sight.target)
    if any(site.on_demand < math.inf for site in sight.sites):
        assert len(staying) + len(want.start) - len(want.stop) >= sight.target


@pytest.mark.parametrize("name", ["ours", "hedged"])
def test_nothing_up_means_on_demand(name: str) -> None:
    want = fleet_policy_of(name).decide(seen(zone("a", up=False), zone("b", up=False)))
    assert kinds(want)[False] == 3
    assert not kinds(want)[True]


def test_where_no_on_demand_is_to_be_had_spot_is_all_there_is() -> None:
    sites = [replace(zone(name, age=0.0), on_demand=math.inf, room=room) for name, room in (("a", 1), ("b", 9))]
    assert kinds(FleetOurs().decide(seen(*sites)))[True] >= 3
    scarce = [replace(site, room=1) for site in sites]
    want = FleetOurs().decide(seen(*scarce))
    assert Counter(want.start) == Counter({("a", True): 1, ("b", True): 1})
    assert want.why.startswith("spot: 1 in a, 1 in b; 1 not to be had; short for ")


def test_old_capacity_needs_less_backing_than_fresh() -> None:
    old = FleetOurs().decide(seen(*(zone(name) for name in "abcd")))
    fresh = FleetOurs().decide(seen(*(zone(name, age=0.0) for name in "abcd")))
    assert kinds(old)[False] == 0
    assert kinds(fresh)[False] > 0


def test_on_demand_stays_until_the_spot_machine_is_ready() -> None:
    sites = tuple(zone(name) for name in "abcd")
    firm = tuple(Member(f"f{number}", "a", False, True, DAY) for number in range(3))
    want = FleetOurs().decide(seen(*sites, members=firm))
    assert kinds(want)[True] >= 3
    assert not want.stop
    cold = tuple(Member(f"s{number}", place, True, False, 60.0) for number, (place, _) in enumerate(want.start))
    assert FleetOurs().decide(seen(*sites, members=firm + cold)).stop == ()
    warm = tuple(replace(member, ready=True, age=120.0) for member in cold)
    assert set(FleetOurs().decide(seen(*sites, members=firm + warm)).stop) == {"f0", "f1", "f2"}


def test_what_is_about_to_be_ready_is_kept_when_there_are_too_few() -> None:
    cold = Member("m1", "a", True, False, 60.0)
    cheaper = zone("b", spot=0.01)
    assert FleetOurs().decide(seen(zone("a"), cheaper, members=(cold,), target=1, spare=0)).start == ()


def test_who_has_a_notice_is_replaced_at_once_and_left_to_go() -> None:
    sites = tuple(zone(name) for name in "abcd")
    held = tuple(Member(f"m{number}", name, True, True, DAY) for number, name in enumerate("abcd"))
    settled = FleetOurs().decide(seen(*sites, members=held, spare=1))
    kept = tuple(member for member in held if member.id not in settled.stop)
    going = (replace(kept[0], going=True), *kept[1:])
    want = FleetOurs().decide(seen(*sites, members=going, spare=1))
    assert len(want.start) >= 1
    assert kept[0].id not in want.stop


def test_a_zone_that_nobody_knows_is_tried_and_left_alone_after_a_refusal() -> None:
    unknown = zone("a", up=None, age=0.0)
    assert worth_trying(unknown)
    assert not worth_trying(replace(unknown, losses=(5.0,)))
    assert worth_trying(replace(unknown, losses=(61.0,)))
    # Each refusal within an hour doubles the wait.
    assert not worth_trying(replace(unknown, losses=(100.0, 170.0)))
    assert worth_trying(replace(unknown, losses=(121.0, 170.0)))
    assert worth_trying(replace(unknown, losses=(3601.0,) * 16))
    refused = FleetOurs().decide(seen(replace(unknown, losses=(5.0,))))
    assert kinds(refused) == Counter({False: 3})


def test_spot_only_spreads_evenly() -> None:
    want = fleet_policy_of("spot-only").decide(seen(*(zone(name) for name in "abc"), target=5, spare=1))
    assert Counter(place for place, _ in want.start) == Counter(a=2, b=2, c=2)


def test_spot_hedge_as_published() -> None:
    sites = [zone("a", spot=1.0), zone("b", spot=0.9), zone("c", spot=0.8)]
    first = fleet_policy_of("hedged").decide(seen(*sites, target=1, spare=1))
    assert first.start == (("c", True), ("b", True), ("a", False))
    # c was lost a minute ago: its zone is preempting, and on-demand stands in until two are ready.
    held = (Member("m1", "b", True, True, 500.0),)
    lost = (*sites[:2], replace(sites[2], losses=(60.0,)))
    assert fleet_policy_of("hedged").decide(seen(*lost, members=held, target=1)).start == (("a", True), ("a", False))
    # A machine that became ready there afterwards makes it available again.
    back = (*held, Member("m2", "c", True, True, 30.0))
    settled = fleet_policy_of("hedged").decide(seen(*lost, members=back, target=1))
    assert (settled.start, settled.stop) == ((), ())
    # When fewer than two are available, all are: c, the cheapest, too.
    worse = (replace(sites[0], losses=(90.0,)), sites[1], lost[2])
    assert fleet_policy_of("hedged").decide(seen(*worse, target=1, spare=0)).start[0] == ("c", True)


def test_many_replicas_are_decided_as_well() -> None:
    sites = [zone(f"z{number}", region=f"r{number % 3}") for number in range(13)]
    want = FleetOurs().decide(seen(*sites, target=40, spare=3))
    assert 40 <= len(want.start) <= 43


def test_a_rate_falls_with_age_and_with_neighbours_that_are_up() -> None:
    def rate(age: float, *neighbours: bool) -> float:
        others = [zone(f"n{number}", up=up, region="r") for number, up in enumerate(neighbours)]
        return float(rates([zone("a", age=age, region="r"), *others], [0.0] * (1 + len(others)))[0])

    assert rate(0.0) > rate(3600.0) > rate(DAY)
    assert rate(DAY, False, False) > rate(DAY, True, False) > rate(DAY, True, True)


def test_a_name_that_nobody_has() -> None:
    with pytest.raises(UsageError) as caught:
        fleet_policy_of("hegded")
    assert "hedged" in caught.value.todo
