"""Estimates, by the worked examples of the field."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec.structs import replace

from spotweld.checkpoint.hazard import USUAL, Rate
from spotweld.costs.commitments import Prices, choose
from spotweld.costs.estimates import (
    ANEW,
    COMMITTED,
    ON_DEMAND,
    SPOT,
    UNDISTURBED,
    Facts,
    Hourly,
    counted,
    estimate,
)
from spotweld.costs.loads import parse_load
from spotweld.costs.renewals import Range
from spotweld.errors import UsageError
from spotweld.values.money import Money

HOUR = 3600.0
P4D = Hourly(Money(Decimal(25)), Money(Decimal(400) / 48))
"""48 hours on a p4d.24xlarge: 25 an hour on demand, 400 in all on spot; three interruptions, saves every 30 minutes:
460, with "~1.5 hr lost work"; without checkpoints "400 + restart". From the public guide "Spot Instance Orchestration
for Training" (a README of 2024 or later; its amounts are in GBP, which changes nothing)."""
TRAINING = Facts(Range.exactly(48 * HOUR), 0.0, 30 * 60.0, USUAL)


def money(amount: Money) -> float:
    return round(float(amount.amount), 2)


def test_48_hours_on_a_p4d() -> None:
    found = estimate(TRAINING, P4D, 3)
    on_demand, undisturbed, three = (found.line(way).cost for way in (ON_DEMAND, UNDISTURBED, counted(3)))
    assert on_demand is not None
    assert undisturbed is not None
    assert three is not None
    assert (money(on_demand.expected), money(undisturbed.expected)) == (1200.00, 400.00)
    # The 1.5 hours that the guide says are lost are three whole intervals, our high figure: 12.50 at the spot price.
    line = found.line(counted(3))
    assert line.seconds is not None
    assert line.seconds.high - 48 * HOUR == 1.5 * HOUR
    assert (money(three.low), money(three.expected), money(three.high)) == (400.00, 406.25, 412.50)


def test_what_has_to_be_assumed_for_460() -> None:
    """The guide does not say it. Either each restart takes 1 h 54 min of spot, or 18 min, and both are on demand."""
    slow = estimate(replace(TRAINING, changeover=1.9 * HOUR), P4D, 3)
    three, calm = slow.line(counted(3)).cost, slow.line(UNDISTURBED).cost
    assert three is not None
    assert calm is not None
    assert money(three.high - calm.high) == 60.00
    quick = estimate(replace(TRAINING, changeover=0.3 * HOUR), Hourly(spot=P4D.on_demand), 3)
    three, calm = quick.line(counted(3)).cost, quick.line(UNDISTURBED).cost
    assert three is not None
    assert calm is not None
    assert money(three.high - calm.high) == 60.00


def test_without_checkpoints_48_hours_on_spot_cost_more_than_on_demand() -> None:
    found = estimate(TRAINING, P4D)
    anew, saving, on_demand = (found.line(way).cost for way in (ANEW, SPOT, ON_DEMAND))
    assert anew is not None
    assert saving is not None
    assert on_demand is not None
    # A machine lives for 48 hours with a chance of exp(-4.66), so about a hundred are lost, most of them soon.
    assert anew.expected > on_demand.expected
    assert saving.expected < on_demand.expected
    assert money(saving.low) > 400.00


def test_100_hours_on_an_n1_standard_8() -> None:
    """On demand, spot, and committed for a year, in us-central1 in 2024; docs/commitments.md has the source."""
    hourly = Hourly(*(Money(Decimal(price)) for price in ("0.38", "0.08", "0.2394")))
    found = estimate(Facts(Range.exactly(100 * HOUR), 0.0, 600.0, USUAL), hourly)
    costs = {way: found.line(way).cost for way in (ON_DEMAND, UNDISTURBED, COMMITTED)}
    assert [money(cost.expected) for cost in costs.values() if cost] == [38.00, 8.00, 23.94]
    assert found.notes[-1] == "a committed machine costs more than spot even if it is in use for all of its term"
    # The baseline with burst above it, for a load: four machines all the time, and spot that can be had for a third.
    spot = found.line(SPOT)
    assert spot.seconds is not None
    loss = Decimal(1) - Decimal(100 * HOUR) / Decimal(spot.seconds.expected)
    prices = Prices(*(Money(Decimal(price)) for price in ("0.38", "0.08", "0.2394")), loss, Decimal("0.3"))
    best = choose(parse_load("4x70h, 8x24h, 20x6h"), prices).alternatives[0]
    assert best.machines == 4
    burst = 192 * (0.3 * 0.08 / (1 - float(loss)) + 0.7 * 0.38)
    assert money(best.cost) == pytest.approx(400 * 0.2394 + burst, abs=0.01)


def test_work_that_is_not_known_for_certain_widens_all_ranges() -> None:
    sure = estimate(TRAINING, P4D, 3)
    unsure = estimate(replace(TRAINING, work=Range(40 * HOUR, 48 * HOUR, 60 * HOUR)), P4D, 3)
    for one, other in zip(sure.lines, unsure.lines, strict=True):
        assert one.cost is not None
        assert other.cost is not None
        assert other.cost.low < one.cost.low
        assert other.cost.expected == one.cost.expected
        assert other.cost.high > one.cost.high


def test_what_is_unknown_is_none_and_never_nothing() -> None:
    found = estimate(TRAINING, Hourly(on_demand=P4D.on_demand, committed=P4D.spot))
    assert found.line(SPOT).cost is None
    assert found.line(SPOT).seconds is not None
    assert found.line(ON_DEMAND).cost is not None
    endless = estimate(replace(TRAINING, hazard=(Rate(0.0, 60.0),), changeover=720.0), P4D).line(SPOT)
    assert (endless.cost, endless.seconds, endless.interruptions) == (None, None, None)


@pytest.mark.parametrize(
    ("facts", "interruptions", "why"),
    [
        (replace(TRAINING, work=Range.exactly(0.0)), None, "without work"),
        (replace(TRAINING, cadence=0.0), None, "between two saves"),
        (TRAINING, -1, "cannot be"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(facts: Facts, interruptions: int | None, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        estimate(facts, P4D, interruptions)


def test_currencies_are_never_compared() -> None:
    with pytest.raises(UsageError, match="different currencies"):
        Hourly(Money(Decimal(1)), Money(Decimal(1), "EUR"))
