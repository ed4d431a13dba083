"""What a project file allows to be rented."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.placement.live import offer

from spotweld.errors import UsageError
from spotweld.placement.bounds import permitted, share_holds
from spotweld.placement.placer import Ending, Placement
from spotweld.project.nouns import Egress, PlacementRules
from spotweld.values.money import Money
from spotweld.values.offers import CapacityType

SPOT, FIRM = CapacityType.SPOT, CapacityType.ON_DEMAND
US, EU = offer("us-east-1a", region="us-east-1"), offer("eu-west-1a", region="eu-west-1")
WEST = offer("us-west-2a", region="us-west-2")
ALL = (US, EU, WEST)


def stay(zone: str, kind: CapacityType = SPOT, seconds: float = 10.0) -> Placement:
    return Placement(zone, kind, 100.0, 100.0 + seconds, Ending.OTHER)


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        (PlacementRules(), ALL),
        (PlacementRules(zones=("us-east-1a", "eu-west-1a")), (US, EU)),
        (PlacementRules(regions=("eu-west-1",)), (EU,)),
        (PlacementRules(zones=("us-east-1a",), regions=("eu-west-1",)), ()),
        (PlacementRules(max_price=Money(Decimal("0.99"))), ()),
        (PlacementRules(max_price=Money(Decimal(1))), ALL),
    ],
)
def test_zones_regions_and_prices(rules: PlacementRules, left: tuple[object, ...]) -> None:
    assert permitted(ALL, rules, ()) == left


def test_a_zone_may_be_named_without_its_provider_and_the_price_is_spots() -> None:
    local, firm = offer("local/a", price=2.0), offer("local/a", FIRM, 9.0)
    assert permitted((local, firm), PlacementRules(zones=("a",), max_price=Money(Decimal(1))), ()) == (firm,)


@pytest.mark.parametrize(
    ("egress", "left"), [(Egress.NONE, (US,)), (Egress.CONTINENTAL, (US, WEST)), (Egress.GLOBAL, ALL)]
)
def test_a_run_moves_as_far_from_where_it_is_as_its_egress_allows(egress: Egress, left: tuple[object, ...]) -> None:
    rules = PlacementRules(egress=egress)
    assert permitted(ALL, rules, ()) == ALL
    assert permitted(ALL, rules, (stay("us-east-1a"),)) == left
    # Where it got no machine, it left nothing.
    assert permitted(ALL, rules, (stay("us-east-1a"), stay("eu-west-1a", seconds=0.0))) == left


def test_regions_of_two_clouds_on_one_continent_belong_together() -> None:
    aws, gcp = offer("eu-west-1a", region="eu-west-1"), offer("europe-west4-a", region="europe-west4")
    assert permitted((aws, gcp), PlacementRules(), (stay("eu-west-1a"),)) == (aws, gcp)


def test_prices_in_another_currency_are_refused() -> None:
    with pytest.raises(UsageError, match="currency"):
        permitted(ALL, PlacementRules(max_price=Money(Decimal(1), "EUR")), ())


@given(
    st.lists(st.tuples(st.sampled_from([SPOT, FIRM]), st.floats(1, 1e6)), min_size=1),
    st.floats(0.01, 0.99),
)
def test_the_share_is_that_of_machine_time(stays: list[tuple[CapacityType, float]], least: float) -> None:
    past = [stay("a", kind, seconds) for kind, seconds in stays]
    spot = sum(one.ended - one.started for one in past if one.capacity_type is SPOT)
    total = sum(one.ended - one.started for one in past)
    assert share_holds(past, least) == (spot > least * total)
    assert share_holds(past, None)
    assert not share_holds((), least)
