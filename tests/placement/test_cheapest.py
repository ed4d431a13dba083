"""The policy's laws, over arbitrary pasts, and its behaviour in the situations that it is made for."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotweld.errors import UsageError
from spotweld.placement.cheapest import CheapestSpot
from spotweld.placement.placer import Ending, Held, Observation, Placement, Rent, Wait
from spotweld.project.nouns import SpotUse
from spotweld.values.money import Money
from spotweld.values.offers import CapacityType, Offer

NOW = 1_700_000_000.0
ZONES = ("a", "b", "c")
SPOT, FIRM = CapacityType.SPOT, CapacityType.ON_DEMAND
POLICY = CheapestSpot()


def offer(zone: str, capacity: CapacityType, price: str, currency: str = "USD") -> Offer:
    return Offer("local", "here", zone, "small", capacity, Money(Decimal(price), currency), "test")


OFFERS = (
    offer("a", SPOT, "0.30"),
    offer("b", SPOT, "0.32"),
    offer("c", SPOT, "0.35"),
    offer("a", FIRM, "1.00"),
    offer("b", FIRM, "0.98"),
)


def ended(zone: str, ago: float, ending: Ending = Ending.INTERRUPTED, capacity: CapacityType = SPOT) -> Placement:
    return Placement(zone, capacity, NOW - ago - 60, NOW - ago, ending)


def seen(*past: Placement, use: SpotUse = SpotUse.AUTO, offers: tuple[Offer, ...] = OFFERS) -> Observation:
    return Observation(NOW, use, offers, past)


def rented(decision: Rent | Wait) -> tuple[str, CapacityType]:
    assert isinstance(decision, Rent), decision
    return decision.offer.zone, decision.offer.capacity_type


prices = st.decimals("0.001", "100", places=3)
any_offer = st.builds(
    lambda zone, capacity, price: Offer("local", "here", zone, "small", capacity, Money(price), "test"),
    st.sampled_from(ZONES),
    st.sampled_from(CapacityType),
    prices,
)
any_past = st.builds(
    lambda zone, capacity, ago, ending: Placement(zone, capacity, NOW - ago - 1, NOW - ago, ending),
    st.sampled_from(ZONES),
    st.sampled_from(CapacityType),
    st.floats(-500, 8000),  # below 0: the clock was set back
    st.sampled_from(Ending),
)
observations = st.builds(
    Observation,
    st.just(NOW),
    st.sampled_from(SpotUse),
    st.lists(any_offer, max_size=6).map(tuple),
    st.lists(any_past, max_size=8).map(tuple),
)


@given(observations)
def test_rents_only_what_is_offered_and_allowed(observation: Observation) -> None:
    decision = POLICY.decide(observation)
    assert decision.why
    if isinstance(decision, Wait):
        assert 0 < decision.seconds <= POLICY.backoff_most
        return
    assert decision.offer in observation.offers
    if observation.spot_policy is SpotUse.SPOT:
        assert decision.offer.capacity_type is SPOT
    if observation.spot_policy is SpotUse.ON_DEMAND:
        assert decision.offer.capacity_type is FIRM


@given(observations, st.randoms(use_true_random=False))
def test_is_pure_and_deaf_to_the_order_of_offers(observation: Observation, random: object) -> None:
    shuffled = list(observation.offers)
    random.shuffle(shuffled)
    other = Observation(NOW, observation.spot_policy, tuple(shuffled), observation.past)
    assert POLICY.decide(observation) == POLICY.decide(observation) == POLICY.decide(other)


@given(observations)
def test_auto_always_rents_while_on_demand_has_not_refused(observation: Observation) -> None:
    refused = {p.zone for p in observation.past if p.capacity_type is FIRM and p.ending is Ending.REFUSED}
    zones = {o.zone for o in observation.offers if o.capacity_type is FIRM}
    if observation.spot_policy is SpotUse.AUTO and zones - refused:
        assert isinstance(POLICY.decide(observation), Rent)


@given(observations)
def test_after_the_wait_there_is_something_to_rent(observation: Observation) -> None:
    decision = POLICY.decide(observation)
    usable = [o for o in observation.offers if observation.spot_policy in {SpotUse.AUTO, o.capacity_type}]
    if isinstance(decision, Wait) and usable:
        # A microsecond more: seconds since 1970 are coarse.
        later = Observation(
            NOW + decision.seconds + 1e-6,
            observation.spot_policy,
            observation.offers,
            tuple(Placement(p.zone, p.capacity_type, p.started, min(p.ended, NOW), p.ending) for p in observation.past),
        )
        assert isinstance(POLICY.decide(later), Rent)


@given(observations, st.sampled_from([2.0**-10, 0.25, 64.0]))
def test_a_demo_can_run_it_at_any_speed(observation: Observation, pace: float) -> None:
    p = POLICY
    fast = CheapestSpot(
        p.window * pace, p.interruptions, p.cool_off * pace, p.backoff * pace, p.backoff_most * pace, p.avoid * pace
    )

    def at(pace: float) -> Observation:
        past = [Placement(x.zone, x.capacity_type, 0.0, (x.ended - NOW) * pace, x.ending) for x in observation.past]
        return Observation(0.0, observation.spot_policy, observation.offers, tuple(past))

    one, other = p.decide(at(1.0)), fast.decide(at(pace))
    if isinstance(one, Rent) and isinstance(other, Rent):
        assert one.offer == other.offer
    else:
        assert other.seconds == one.seconds * pace


def test_takes_the_cheapest_spot() -> None:
    decision = POLICY.decide(seen())
    assert rented(decision) == ("a", SPOT)
    assert decision.why == "cheapest spot: a at 0.3000 USD/h"


def test_ties_go_by_name() -> None:
    offers = (offer("c", SPOT, "0.3"), offer("a", SPOT, "0.30"), offer("b", SPOT, "0.300"))
    assert rented(POLICY.decide(seen(offers=offers))) == ("a", SPOT)


def test_does_not_go_straight_back_to_the_zone_that_interrupted() -> None:
    decision = POLICY.decide(seen(ended("a", 10)))
    assert rented(decision) == ("b", SPOT)
    assert "a cheaper but has just interrupted the run" in decision.why
    assert rented(POLICY.decide(seen(ended("a", POLICY.avoid)))) == ("a", SPOT)


def test_with_every_zone_just_interrupted_takes_the_one_whose_interruption_is_oldest() -> None:
    patient = replace(POLICY, interruptions=9)
    assert rented(patient.decide(seen(ended("c", 30), ended("a", 20), ended("b", 10)))) == ("c", SPOT)


def test_an_avoided_zone_is_better_than_on_demand() -> None:
    offers = (offer("a", SPOT, "0.3"), offer("a", FIRM, "1"))
    assert rented(POLICY.decide(seen(ended("a", 1), offers=offers))) == ("a", SPOT)


def test_the_third_interruption_within_the_window_sends_it_to_on_demand() -> None:
    two = (ended("a", 2000), ended("b", 1000))
    assert rented(POLICY.decide(seen(*two)))[1] is SPOT
    decision = POLICY.decide(seen(*two, ended("c", 600)))
    assert rented(decision) == ("b", FIRM)
    assert decision.why == (
        "3 interruptions within 1h 00m: no spot for another 50m 00s; cheapest on-demand: b at 0.9800 USD/h"
    )


def test_and_back_to_spot_once_the_cool_off_has_passed() -> None:
    storm = (ended("a", 3700), ended("b", 3650), ended("c", 3599))
    assert rented(POLICY.decide(seen(*storm)))[1] is FIRM
    storm = (ended("a", 3700), ended("b", 3650), ended("c", 3601))
    assert rented(POLICY.decide(seen(*storm))) == ("a", SPOT)


def test_interruptions_far_apart_are_no_storm() -> None:
    assert rented(POLICY.decide(seen(ended("a", 3700), ended("b", 1800), ended("c", 10))))[1] is SPOT


def test_only_interruptions_of_spot_count() -> None:
    past = [ended("a", 30, Ending.OTHER), ended("a", 20, Ending.REFUSED), ended("b", 10, capacity=FIRM)]
    assert rented(POLICY.decide(seen(*past * 3)))[1] is SPOT


def test_the_window_includes_its_ends() -> None:
    assert rented(POLICY.decide(seen(ended("a", 3610), ended("b", 1800), ended("c", 10))))[1] is FIRM
    assert rented(POLICY.decide(seen(ended("a", 3611), ended("b", 1800), ended("c", 10))))[1] is SPOT


def test_the_cool_off_counts_from_the_latest_of_many() -> None:
    decision = POLICY.decide(seen(ended("a", 3500), ended("b", 3400), ended("c", 3300), ended("a", 10)))
    assert "no spot for another 59m 50s" in decision.why


def test_attempts_that_ended_out_of_order_are_no_storm() -> None:
    assert rented(POLICY.decide(seen(ended("c", 10), ended("a", 3700), ended("b", 2000))))[1] is SPOT


def test_spot_is_never_given_up_when_the_job_says_so() -> None:
    storm = (ended("a", 30), ended("b", 20), ended("c", 10))
    assert rented(POLICY.decide(seen(*storm, use=SpotUse.SPOT)))[1] is SPOT
    nothing = POLICY.decide(seen(use=SpotUse.SPOT, offers=OFFERS[3:]))
    assert nothing == Wait(30.0, "nothing is offered that this job may use (spot_policy: spot)")


@pytest.mark.parametrize(("refusals", "pause"), [(1, 30), (2, 60), (3, 120), (5, 480), (6, 600), (5000, 600)])
def test_the_pause_after_refusals_doubles_up_to_its_bound(refusals: int, pause: float) -> None:
    past = [ended("a", 5, Ending.REFUSED)] * refusals
    decision = POLICY.decide(seen(*past, use=SpotUse.SPOT, offers=OFFERS[:1]))
    assert decision.seconds == pause - 5


def test_a_zone_that_was_had_again_starts_over() -> None:
    past = [ended("a", 9, Ending.REFUSED)] * 5 + [ended("a", 8, Ending.OTHER), ended("a", 5, Ending.REFUSED)]
    assert POLICY.decide(seen(*past, use=SpotUse.SPOT, offers=OFFERS[:1])).seconds == 25


def test_a_refused_zone_is_left_alone_and_the_next_one_asked() -> None:
    assert rented(POLICY.decide(seen(ended("a", 5, Ending.REFUSED)))) == ("b", SPOT)
    decision = POLICY.decide(seen(*(ended(zone, 5, Ending.REFUSED) for zone in ZONES)))
    assert rented(decision) == ("b", FIRM)
    assert decision.why.startswith("no spot machine can be had; ")


def test_on_demand_refused_in_a_storm_means_spot_after_all() -> None:
    storm = [ended("a", 30), ended("b", 20), ended("c", 10)]
    firm = [ended(zone, 5, Ending.REFUSED, FIRM) for zone in ("a", "b")]
    decision = POLICY.decide(seen(*storm, *firm))
    assert rented(decision)[1] is SPOT
    assert decision.why.startswith("on-demand cannot be had; ")


def test_everything_refused_waits_for_the_first_zone_to_open() -> None:
    past = [ended(zone, ago, Ending.REFUSED) for zone, ago in (("a", 5), ("b", 12), ("c", 1))]
    assert POLICY.decide(seen(*past, use=SpotUse.SPOT)) == Wait(
        18.0, "all 3 zones have refused; asking again in 18.0 s"
    )


def test_a_clock_that_was_set_back_does_not_lengthen_a_pause() -> None:
    past = Placement("a", SPOT, NOW, NOW + 7200, Ending.REFUSED)
    assert POLICY.decide(seen(past, use=SpotUse.SPOT, offers=OFFERS[:1])).seconds == 30


def test_prices_in_two_currencies_are_refused() -> None:
    with pytest.raises(UsageError, match="several currencies"):
        POLICY.decide(seen(offers=(offer("a", SPOT, "1"), offer("b", SPOT, "1", "EUR"))))


def on(kind: CapacityType, since: float, *past: Placement, use: SpotUse = SpotUse.AUTO) -> Observation:
    """On a machine whose agent reported ``since`` seconds ago."""
    rented = next(one for one in OFFERS if one.capacity_type is kind)
    going_on = Placement(rented.zone, kind, NOW - since, NOW, Ending.OTHER)
    held = Held(rented, NOW - since, NOW - since, None)
    return Observation(NOW, use, OFFERS, (*past, going_on), held=held)


def test_a_run_that_fled_to_on_demand_goes_back_to_spot_after_the_window() -> None:
    assert POLICY.reconsider(on(FIRM, POLICY.window - 1)) is None
    assert POLICY.reconsider(on(FIRM, POLICY.window)) == "back to spot: cheapest spot: a at 0.3000 USD/h"


def test_it_stays_where_it_is_asked_to_be_or_where_nothing_is_better() -> None:
    long = 10 * POLICY.window
    assert POLICY.reconsider(on(FIRM, long, use=SpotUse.ON_DEMAND)) is None
    assert POLICY.reconsider(on(SPOT, long)) is None
    refused = [ended(zone, 1, Ending.REFUSED) for zone in ZONES]
    assert POLICY.reconsider(on(FIRM, long, *refused)) is None


def test_on_demand_is_left_as_soon_as_its_share_is_used_up() -> None:
    strict = replace(POLICY, min_spot_share=0.5)
    assert strict.reconsider(on(FIRM, 60, ended("a", 100))) is not None
    assert strict.reconsider(on(FIRM, 50, ended("a", 100))) is None


def test_a_share_of_spot_means_spot_first() -> None:
    strict = replace(POLICY, min_spot_share=0.5)
    refused = [ended(zone, 1, Ending.REFUSED) for zone in ZONES]
    assert rented(POLICY.decide(seen(*refused)))[1] is FIRM
    assert isinstance(strict.decide(seen(*refused)), Wait)
    assert rented(strict.decide(seen(ended("a", 400), *refused)))[1] is FIRM
