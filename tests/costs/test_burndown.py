"""What was spent of a budget over time: the ledger's sums, to the last digit."""

from __future__ import annotations

from decimal import Decimal, localcontext
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.costs.test_budgets import DAY, HOUR, TEN, usage

from spotweld.costs.budgets import standing
from spotweld.costs.burndown import burndown
from spotweld.costs.charges import EXACT
from spotweld.costs.ledger import ledger
from spotweld.project.nouns import Period
from spotweld.values.money import Money

if TYPE_CHECKING:
    from random import Random

NOW = DAY + 15 * HOUR
moments = st.floats(DAY - 4 * 24 * HOUR, NOW + HOUR)
used = st.lists(st.tuples(moments, moments, st.booleans(), st.sampled_from(["USD", "EUR"])), max_size=5)


@given(used, st.sampled_from(Period), st.randoms())
def test_it_ends_with_what_the_budget_has_spent_exactly(
    times: list[tuple[float, float, bool, str]], per: Period, chance: Random
) -> None:
    budget = replace(TEN, per=per)
    rows = ledger(
        usage(min(a, b), max(a, b), f"r{number}", closed=closed, currency=currency)
        for number, (a, b, closed, currency) in enumerate(times)
    )
    found = burndown(budget, rows, (), NOW)
    assert found.points[0][1] == 0
    assert found.points[-1] == (NOW, standing(budget, rows, NOW).spent.amount)
    assert all(at <= then and spent <= later for (at, spent), (then, later) in pairwise(found.points))
    if per is Period.TOTAL:
        with localcontext(EXACT):
            assert found.points[-1][1] == sum(row.billed_cost for row in rows if row.billing_currency == "USD")
            # In between as well: at each moment that is told, all charge periods that had ended by then.
            for at, spent in found.points[1:-1]:
                ended = (row for row in rows if row.charge_period_end.timestamp() <= at)
                assert spent == sum(row.billed_cost for row in ended if row.billing_currency == "USD")
    mixed = list(rows)
    chance.shuffle(mixed)
    assert burndown(budget, mixed, (), NOW) == found


def test_it_is_level_where_nothing_ran_and_begins_with_the_period() -> None:
    rows = ledger([usage(DAY - 2 * HOUR, DAY + HOUR, "a"), usage(DAY + 3 * HOUR, DAY + 3.5 * HOUR, "b")])
    found = burndown(replace(TEN, per=Period.DAY), rows, (), DAY + 5 * HOUR)
    assert [((at - DAY) / HOUR, spent) for at, spent in found.points] == [
        (0, 0),
        (1, 1),
        (3, 1),
        (3.5, Decimal("1.5")),
        (5, Decimal("1.5")),
    ]


def test_a_budget_for_good_begins_with_its_first_machine_and_an_unspent_one_now() -> None:
    assert burndown(TEN, [], (), NOW).points == ((NOW, 0),)
    assert burndown(TEN, ledger([usage(DAY, DAY + HOUR)]), (), NOW).points[0] == (DAY, 0)


def test_a_clock_that_is_ahead_draws_nothing_after_now() -> None:
    found = burndown(TEN, ledger([usage(NOW + 60, NOW + HOUR)]), (), NOW)
    assert found.points == ((NOW, 0), (NOW, found.stands.spent.amount))


def test_rounds_of_earlier_periods_are_not_of_this_one() -> None:
    assert burndown(replace(TEN, per=Period.DAY), [], (DAY + 2, DAY - 1, DAY + 1), NOW).stops == (DAY + 1, DAY + 2)
    assert burndown(TEN, [], (DAY - 1,), NOW).stops == (DAY - 1,)


@pytest.mark.parametrize(("per", "left"), [(Period.DAY, Decimal(-14)), (Period.TOTAL, None)])
def test_what_will_be_left_at_the_rate_of_now(per: Period, left: Decimal | None) -> None:
    found = burndown(replace(TEN, per=per), ledger([usage(DAY, NOW, closed=False)]), (), NOW)
    assert found.at_end == (None if left is None else Money(left))


def test_the_overshoot_is_what_was_spent_beyond_the_amount() -> None:
    over = standing(TEN, ledger([usage(DAY, NOW)]), NOW)
    assert (over.left, over.overshoot, over.overshoot_share) == (Money(Decimal(-5)), Money(Decimal(5)), Decimal("0.5"))
    spent = standing(TEN, ledger([usage(DAY, DAY + 10 * HOUR)]), NOW)
    assert (spent.left, spent.overshoot, spent.overshoot_share) == (Money(Decimal(0)), None, None)
