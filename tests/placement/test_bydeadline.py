"""The placer of runs with a deadline: it decides as the simulator does, and keeps the deadline whatever it is told."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.placement.live import EPOCH, Live, offer

from spotweld.errors import UsageError
from spotweld.placement.bydeadline import ByDeadline
from spotweld.placement.market import Market
from spotweld.placement.placer import Ending, Held, Observation, Placement, Placer, Rent, Sighting, Standing, Wait
from spotweld.placement.policies import POLICIES, policy_of
from spotweld.placement.seeing import Task
from spotweld.placement.simulating import simulate
from spotweld.project.nouns import Job, PlacementRules, PolicyName, SpotUse
from spotweld.values.money import Money
from spotweld.values.offers import CapacityType

JOB = Job("j", "true", work=3600.0, deadline=7200.0)
HOURLY = {"spot": 1.0, "on-demand": 3.0}


def test_the_project_file_knows_every_policy() -> None:
    assert {str(name) for name in PolicyName} == set(POLICIES)


def lively(seed: int, zones: int, ticks: int = 150) -> Market:
    """Capacity that comes and goes in lives of some ticks."""
    rng = np.random.default_rng(seed)
    capacity = np.empty((ticks, zones), dtype=np.int64)
    for zone in range(zones):
        turns = np.cumsum(rng.geometric(0.12, size=ticks))
        capacity[:, zone] = (np.searchsorted(turns, np.arange(ticks), side="right") + zone) % 2
    spot = np.broadcast_to(np.arange(zones) / 8 + 1, (ticks, zones)).copy()
    return Market(tuple("abc"[:zones]), ("r",) * zones, 600.0, capacity, spot, np.full(zones, 3.0))


@pytest.mark.parametrize("name", [str(name) for name in PolicyName])
@pytest.mark.parametrize("zones", [1, 3])
@settings(max_examples=8)
@given(seed=st.integers(0, 10_000), slack=st.sampled_from([2400.0, 9000.0, 30000.0]))
def test_a_live_market_and_its_recording_cost_the_same(name: str, zones: int, seed: int, slack: float) -> None:
    market, task = lively(seed, zones), Task(36000.0, 36000.0 + slack, 1.05**128)
    live = Live(market, task, pace=1200.0)
    took = live.run(ByDeadline(live.job, live.rules, policy_of(name), live.pace))
    outcome = simulate(market, np.array([0]), task, policy_of(name))
    assert (live.cost, took) == pytest.approx((outcome.cost[0], outcome.took[0]))


class Restarted(Placer):
    """A placer that is made anew for every question, as if the controller had been killed before each."""

    def __init__(self, live: Live) -> None:
        self.live, self.name, self.every = live, "restarted", 0.5

    def _anew(self) -> ByDeadline:
        return ByDeadline(self.live.job, self.live.rules, policy_of("ours"), self.live.pace)

    def decide(self, observation: Observation) -> Rent | Wait:
        return self._anew().decide(observation)

    def reconsider(self, observation: Observation) -> str | None:
        return self._anew().reconsider(observation)


@settings(max_examples=3)
@given(seed=st.integers(0, 10_000))
def test_a_controller_that_restarts_all_the_time_decides_the_same(seed: int) -> None:
    market, task = lively(seed, 2), Task(18000.0, 27000.0, 1.05**128)
    once, again = (Live(market, task, pace=1200.0) for _ in range(2))
    once.run(ByDeadline(once.job, once.rules, policy_of("ours"), once.pace))
    again.run(Restarted(again))
    assert again.whys == once.whys


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), slack=st.sampled_from([1300.0, 9000.0]), every=st.integers(1, 4))
def test_a_provider_that_tells_nothing_cannot_make_it_late(seed: int, slack: float, every: int) -> None:
    market, task = lively(seed, 2), Task(30000.0, 30000.0 + slack, 500.0)
    market.capacity[::every] = 0
    live = Live(market, task, pace=1200.0, tells=False)
    took = live.run(ByDeadline(live.job, live.rules, policy_of("ours"), live.pace))
    assert took <= task.deadline
    refused = [one for one in live.past if one.ending is Ending.REFUSED]
    assert len(refused) <= len(live.whys)


def observation(**fields: object) -> Observation:
    both = tuple(offer(zone, kind, HOURLY[kind]) for zone in "ab" for kind in CapacityType)
    known = {"offers": both, "rooms": {"a": 1, "b": 1}, "standing": Standing(3600.0, 7200.0, 60.0, 0.0), "past": ()}
    return Observation(**{"now": EPOCH, "spot_policy": SpotUse.AUTO} | known | fields)  # type: ignore[arg-type]


def placer(policy: str = "ours", **rules: object) -> ByDeadline:
    return ByDeadline(JOB, PlacementRules(changeover=60.0, **rules), policy_of(policy))  # type: ignore[arg-type]


def test_it_says_what_it_saw_and_what_it_expects_of_each_choice() -> None:
    answer = placer().decide(observation(rooms={"a": 1, "b": 0}))
    assert isinstance(answer, Rent)
    assert answer.offer == offer("a", CapacityType.SPOT, 1.0)
    for part in (
        "ours: spot in a at 1/h",
        "slack 1h 00m",
        "expected to the end: ",
        "with on-demand in a",
        "no spot in b",
    ):
        assert part in answer.why


@pytest.mark.parametrize(
    ("price", "size", "zone"), [(None, 50, "b"), ("0.02", 0, "b"), ("0.02", 1, "b"), ("0.02", 50, "a")]
)
def test_a_state_moves_to_another_region_only_where_that_pays(price: str | None, size: int, zone: str) -> None:
    both = tuple(
        offer(zone, kind, HOURLY[kind] - (zone == "b") * 0.4, region=f"region-{zone}")
        for zone in "ab"
        for kind in CapacityType
    )
    was = Placement("a", CapacityType.SPOT, EPOCH - 900, EPOCH - 10, Ending.OTHER)
    left = Standing(3600.0, 7200.0, 60.0, 0.0, size * 2**30)
    egress = None if price is None else Money(Decimal(price))
    answer = placer(egress_price=egress, egress="global").decide(observation(offers=both, past=(was,), standing=left))
    assert isinstance(answer, Rent)
    # An hour there saves 0.40, and 50 GiB cost 1.00.
    assert answer.offer.zone == zone


def test_no_time_to_lose_means_on_demand_and_says_so() -> None:
    answer = placer("greedy").decide(observation(standing=Standing(3600.0, 3690.0, 60.0, 0.0)))
    assert isinstance(answer, Rent)
    assert answer.offer.capacity_type is CapacityType.ON_DEMAND
    assert "on-demand in a" in answer.why


def test_it_waits_no_longer_than_the_deadline_allows() -> None:
    answer = placer("greedy").decide(observation(rooms={"a": 0, "b": 0}))
    assert isinstance(answer, Wait)
    assert 0 < answer.seconds <= 3600.0


def test_a_zone_that_has_refused_is_left_alone_for_a_while() -> None:
    refused = Placement("a", CapacityType.SPOT, EPOCH - 5, EPOCH - 5, Ending.REFUSED)
    answer = placer().decide(observation(past=(refused,), rooms={}))
    assert isinstance(answer, Rent)
    assert answer.offer.zone == "b"
    later = placer().decide(observation(now=EPOCH + 60, past=(refused,), rooms={"b": 0}))
    assert isinstance(later, Rent)
    assert later.offer.zone == "a"


def test_on_demand_that_refuses_is_had_elsewhere_or_waited_for() -> None:
    late = Standing(3600.0, 3660.0, 60.0, 0.0)
    refused = tuple(Placement(zone, CapacityType.ON_DEMAND, EPOCH - 5, EPOCH - 5, Ending.REFUSED) for zone in "ab")
    answer = placer().decide(observation(standing=late, past=refused[:1], rooms={"a": 0, "b": 0}))
    assert isinstance(answer, Rent)
    assert answer.offer.zone == "b"
    answer = placer().decide(observation(standing=late, past=refused, rooms={"a": 0, "b": 0}))
    assert isinstance(answer, Wait)
    assert "no on-demand machine can be had" in answer.why


@pytest.mark.parametrize("time", [3660.0, -60.0])
def test_without_on_demand_spot_is_better_than_nothing(time: float) -> None:
    late = Standing(3600.0, time, 60.0, 0.0)
    refused = tuple(Placement(zone, CapacityType.ON_DEMAND, EPOCH - 5, EPOCH - 5, Ending.REFUSED) for zone in "ab")
    spot_alone = tuple(offer(zone, price=price) for zone, price in (("a", 2.0), ("b", 1.0)))
    for fields in ({"past": refused}, {"offers": spot_alone}):
        answer = placer().decide(observation(standing=late, **fields))
        assert isinstance(answer, Rent)
        assert answer.offer.capacity_type is CapacityType.SPOT
        assert "no on-demand machine can be had" in answer.why
    assert isinstance(placer().decide(observation(standing=late, past=refused, spot_policy=SpotUse.ON_DEMAND)), Wait)


@given(ran=st.floats(0.0, 1e5), unsaved=st.floats(0.0, 2000.0), slack=st.floats(63.0, 4000.0))
def test_spot_is_kept_only_if_its_loss_before_the_next_look_leaves_time_enough(
    ran: float, unsaved: float, slack: float
) -> None:
    """Whenever it was saved last: saves are in no step with the machine's start, and may be late."""
    held = Held(offer("a", CapacityType.SPOT, 1.0), EPOCH - ran - 60, EPOCH - ran - 50, EPOCH - ran)
    left = Standing(3000.0, 3000.0 + slack, 60.0, 600.0, unsaved=unsaved)
    greedy = placer("greedy")
    if greedy.reconsider(observation(held=held, standing=left)) is None:
        assert left.work + unsaved + left.changeover <= left.time - greedy.every


def test_what_is_held_stays_though_it_is_not_on_offer_any_more() -> None:
    held = Held(offer("c", CapacityType.SPOT, 1.0), EPOCH - 600, EPOCH - 590, EPOCH - 580)
    assert placer("uniform-progress").reconsider(observation(held=held)) is None


@pytest.mark.parametrize("name", [str(name) for name in PolicyName])
def test_zones_that_come_and_go_are_not_taken_for_each_other(name: str) -> None:
    lived = {"a": 9 * 86_400.0, "b": 40.0, "c": 86_400.0}
    seen = [Sighting(EPOCH - 9 * 86_400, dict.fromkeys(lived, False), dict.fromkeys(lived, 1.0))]
    seen += [Sighting(EPOCH - ago, {zone: True}, {}) for zone, ago in sorted(lived.items(), key=lambda one: -one[1])]

    def ask(one: ByDeadline, zones: str, now: float) -> Rent | Wait:
        both = tuple(offer(zone, kind, HOURLY[kind]) for zone in zones for kind in CapacityType)
        known = {"offers": both, "rooms": dict.fromkeys(zones, 1), "sightings": tuple(seen)}
        return one.decide(observation(now=now, **known))

    kept = placer(name)
    for minute, zones in enumerate(["bc", "abc", "ac", "c", "ab"]):
        now = EPOCH + 60.0 * minute
        assert ask(kept, zones, now) == ask(placer(name), zones, now)


def test_on_demand_goes_back_to_spot_once_that_pays() -> None:
    held = Held(offer("a", CapacityType.ON_DEMAND, 3.0), EPOCH - 600, EPOCH - 590, EPOCH - 580)
    why = placer().reconsider(observation(held=held))
    assert why is not None
    assert "ours: spot in a" in why
    assert (
        placer().reconsider(observation(held=held, rooms={"a": 0, "b": 0}, standing=Standing(60.0, 90.0, 60.0, 0.0)))
        is None
    )


def test_on_demand_alone_is_never_left() -> None:
    held = Held(offer("b", CapacityType.ON_DEMAND, 3.0), EPOCH - 600, EPOCH - 590, EPOCH - 580)
    assert placer().reconsider(observation(held=held, spot_policy=SpotUse.ON_DEMAND)) is None


def test_the_share_of_spot_holds_until_the_deadline_forbids_it() -> None:
    past = (Placement("a", CapacityType.ON_DEMAND, EPOCH - 600, EPOCH, Ending.OTHER),)
    none = {"a": 0, "b": 0}
    answer = placer("on-demand", min_spot_share=0.5).decide(observation(past=past, rooms=none))
    assert isinstance(answer, Wait)
    assert "min_spot_share of 50%" in answer.why
    late = Standing(3600.0, 3660.0, 60.0, 0.0)
    answer = placer("on-demand", min_spot_share=0.5).decide(observation(past=past, rooms=none, standing=late))
    assert isinstance(answer, Rent)
    assert "the deadline allows nothing but on-demand" in answer.why


@pytest.mark.parametrize("policy", ["greedy", "on-demand"])
@pytest.mark.parametrize(
    ("slack", "unsaved", "kept"), [(-1.0, 0.0, False), (0.0, 0.0, True), (59.0, 100.0, True), (65.0, 100.0, False)]
)
def test_spot_that_would_be_in_time_is_not_left_for_on_demand_that_would_not(
    policy: str, slack: float, unsaved: float, kept: bool
) -> None:
    held = Held(offer("a", CapacityType.SPOT, 1.0), EPOCH - 600, EPOCH - 590, EPOCH - 580)
    left = Standing(3600.0, 3600.0 + slack, 60.0, 600.0, unsaved=unsaved)
    assert (placer(policy).reconsider(observation(held=held, standing=left)) is None) is kept


def test_after_the_deadline_it_still_goes_on() -> None:
    answer = placer().decide(observation(standing=Standing(600.0, -60.0, 60.0, 0.0)))
    assert isinstance(answer, Rent)
    assert "late by" in answer.why


def test_nothing_on_offer_is_waited_for() -> None:
    assert isinstance(placer().decide(observation(offers=())), Wait)


def test_a_deadline_that_nobody_could_meet_is_refused() -> None:
    with pytest.raises(UsageError, match="deadline of 1h 00m cannot be met"):
        ByDeadline(Job("j", "true", work=3590.0, deadline=3600.0), PlacementRules(), policy_of("ours"))
    with pytest.raises(UsageError, match="spot alone"):
        ByDeadline(
            Job("j", "true", work=1.0, deadline=3600.0, spot_policy=SpotUse.SPOT), PlacementRules(), policy_of("ours")
        )
