"""Commitments: worked out by hand, and never dearer than any other number of machines."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from spotweld.costs.commitments import Choice, Prices, choose
from spotweld.costs.loads import Span
from spotweld.errors import UsageError
from spotweld.values.money import Money

if TYPE_CHECKING:
    from collections.abc import Sequence


def usd(amount: str) -> Money:
    return Money(Decimal(amount))


# n1-standard-8 in us-central1, in 2024, to four digits (https://cloud.google.com/compute/vm-instance-pricing): on
# demand 8 x 0.031611 + 30 x 0.004237 = 0.379998; committed for a year 37 % less; spot moves, and was about 0.08.
PRICES = Prices(on_demand=usd("0.38"), spot=usd("0.08"), committed=usd("0.2394"))
HUNDRED = [Span(70 * 3600, 4), Span(24 * 3600, 8), Span(6 * 3600, 20)]
"""592 machine-hours in 100 hours."""


def costs(choice: Choice) -> dict[str, Decimal]:
    return {one.name: one.cost.amount for one in choice.alternatives}


def test_one_machine_for_a_hundred_hours() -> None:
    found = choose([Span(360_000, 1)], PRICES)
    assert (found.machines, found.hours, found.machine_hours) == (0, 100, 100)
    assert costs(found) == {
        "baseline and burst": Decimal(8),
        "all on-demand": Decimal(38),
        "all spot": Decimal(8),
        "all committed": Decimal("23.94"),
    }
    # 0.2394 / 0.08: spot that can always be had is cheaper than a commitment that is always used.
    assert found.break_even == pytest.approx(2.9925)


def test_a_baseline_with_burst_on_demand() -> None:
    found = choose(HUNDRED, replace(PRICES, availability=Decimal(0)))
    # 0.2394 / 0.38 = 63 %. Four machines are in use all the time, the fifth for 30 hours of 100.
    assert found.break_even == pytest.approx(0.63)
    assert (found.machines, found.last_used, found.next_used) == (4, 1.0, 0.3)
    # 4 x 100 x 0.2394, and 24 x 4 + 6 x 16 = 192 machine-hours at 0.38.
    assert costs(found)["baseline and burst"] == Decimal("95.76") + Decimal("72.96")
    assert costs(found)["all on-demand"] == 592 * Decimal("0.38")
    assert costs(found)["all committed"] == 20 * 100 * Decimal("0.2394")
    best = found.alternatives[0]
    assert (best.committed_hours, best.unused_hours, best.spot_hours, best.on_demand_hours) == (400, 0, 0, 192)


def test_a_baseline_with_burst_on_spot_that_is_scarce_and_loses_work() -> None:
    found = choose(HUNDRED, replace(PRICES, availability=Decimal("0.3"), loss=Decimal("0.1")))
    # An hour of work above the baseline: 0.3 x 0.08 / 0.9 + 0.7 x 0.38 = 0.292666...
    assert found.break_even == pytest.approx(0.2394 / 0.2926666667)
    assert found.machines == 4
    assert costs(found)["baseline and burst"] == Decimal("151.952")
    assert costs(found)["all spot"] == Decimal("173.258666667")
    best = found.alternatives[0]
    assert (best.spot_hours, best.on_demand_hours) == (pytest.approx(192 * 0.3 / 0.9), pytest.approx(192 * 0.7))


def test_machines_without_number_are_not_tried_one_by_one() -> None:
    load = [Span(1000 * 3600.0 + number, number * 10**6) for number in range(1, 1000)]
    found = choose(load, replace(PRICES, availability=Decimal(0)))
    # In use for more than 63 % of the time, where all spans are about as long.
    assert found.machines == 370 * 10**6
    assert found.last_used is not None
    assert found.last_used > 0.63 >= found.next_used


def test_spot_that_loses_too_much_is_left_alone() -> None:
    found = choose(HUNDRED, replace(PRICES, loss=Decimal("0.8")))
    # 0.08 / 0.2 = 0.40 an hour of work: on demand is cheaper, and then a baseline of four.
    assert found.machines == 4
    assert costs(found)["baseline and burst"] == Decimal("168.72")
    assert costs(found)["all spot"] == Decimal("236.8")
    assert found.alternatives[0].on_demand_hours == 192


def test_where_it_makes_no_difference_nothing_is_committed_to() -> None:
    found = choose([Span(50, 3), Span(50, 1)], Prices(usd("2"), usd("2"), usd("1")))
    assert (found.machines, found.break_even) == (1, 0.5)
    free = choose(HUNDRED, replace(PRICES, spot=usd("0")))
    assert (free.machines, free.break_even) == (0, None)
    assert choose(HUNDRED, replace(PRICES, committed=usd("0"))).machines == 20


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[Span], Prices]:
    spans = draw(
        st.lists(
            st.builds(Span, st.integers(0, 40).map(lambda n: n * 450.25), st.integers(0, 12)), min_size=1, max_size=6
        )
    )
    price = st.integers(0, 12).map(lambda n: usd(f"{n / 8}"))
    share = st.integers(0, 10).map(lambda n: Decimal(n) / 10)
    loss = st.integers(0, 9).map(lambda n: Decimal(n) / 10)
    prices = Prices(draw(price), draw(price), draw(price), draw(loss), draw(share))
    return [*spans, Span(100.5, draw(st.integers(0, 12)))], prices


def paid(load: Sequence[Span], machines: int, prices: Prices) -> Fraction:
    """Span by span, in the cheaper way to burst."""
    on_demand, spot, committed = (Fraction(one.amount) for one in (prices.on_demand, prices.spot, prices.committed))
    share = Fraction(prices.availability)
    hourly = min(on_demand, share * spot / (1 - Fraction(prices.loss)) + (1 - share) * on_demand)
    return sum(
        (
            Fraction(span.seconds) / 3600 * (machines * committed + max(0, span.machines - machines) * hourly)
            for span in load
        ),
        Fraction(0),
    )


@given(problems())
def test_no_other_number_costs_less(problem: tuple[list[Span], Prices]) -> None:
    load, prices = problem
    found = choose(load, prices)
    every = [paid(load, machines, prices) for machines in range(14)]
    assert every[found.machines] == min(every)
    assert found.machines == every.index(min(every)), "the lowest of those that cost the same"
    assert float(found.alternatives[0].cost.amount) == pytest.approx(float(min(every)), abs=1e-8)
    assert all(found.alternatives[0].cost <= other.cost for other in found.alternatives)
    assert choose([*reversed(load)], prices) == found


@given(problems())
def test_what_is_paid_is_what_is_used(problem: tuple[list[Span], Prices]) -> None:
    load, prices = problem
    for one in choose(load, prices).alternatives:
        used = one.committed_hours - one.unused_hours + one.spot_hours * float(1 - prices.loss) + one.on_demand_hours
        assert used == pytest.approx(sum(span.seconds * span.machines for span in load) / 3600, abs=1e-9)
        bill = one.committed_hours * float(prices.committed.amount) + one.spot_hours * float(prices.spot.amount)
        bill += one.on_demand_hours * float(prices.on_demand.amount)
        assert float(one.cost.amount) == pytest.approx(bill, abs=1e-8)


def test_what_cannot_be_is_refused() -> None:
    for changes, what in (
        ({"spot": Money(Decimal(1), "EUR")}, "EUR, USD"),
        ({"loss": Decimal(1)}, "loses all work"),
        ({"loss": Decimal("-0.1")}, "a loss of -0.1"),
        ({"availability": Decimal("1.1")}, "an? availability of 1.1"),
    ):
        with pytest.raises(UsageError, match=what):
            replace(PRICES, **changes)
    with pytest.raises(UsageError, match="no time"):
        choose([Span(0, 5)], PRICES)
