"""What is left of a budget, drawn."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from msgspec.structs import replace
from tests.costs.test_budgets import DAY, HOUR, usage

from spotweld.costs.budgets import Burn, burn, standing
from spotweld.costs.ledger import ledger
from spotweld.project.nouns import Budget, Period
from spotweld.report.burndown import burn_down
from spotweld.values.money import Money

TEN = Budget("ten", Money(Decimal(10)), Period.DAY, stop=Decimal(1), alerts=(Decimal("0.8"), Decimal(1)))
NOW = DAY + 12 * HOUR
NUMBER = re.compile(r' (?:x|y|x1|x2|y1|y2|width|height)="([^"]*)"')


def drawn(budget: Budget, *lives: tuple[float, float], running: bool = False) -> str:
    """A machine at 1 an hour for each of these hours of the day."""
    rows = [
        row
        for number, (began, ended) in enumerate(lives)
        for row in ledger([usage(DAY + began * HOUR, DAY + ended * HOUR, f"r{number}", closed=not running)])
    ]
    stands = standing(budget, rows, NOW)
    return str(burn_down(Burn(stands, tuple(burn(stands, rows)), NOW)))


def test_what_is_left_and_when_it_is_empty() -> None:
    text = drawn(TEN, (8, 12), running=True)
    assert "10.00 USD this day" in text
    assert "6.00 USD left (60%). Empty in 6h 00m, 2026-03-04 18:00 UTC, at 1.00 USD an hour now." in text
    assert 'class="ahead"' in text
    assert 'class="even"' in text


def test_thresholds_have_names_and_one_that_does_both_has_one_line() -> None:
    text = drawn(TEN, (8, 9))
    assert re.findall(r'class="mark-name"[^>]*>([^<]*)<', text) == ["alert at 80%", "alert at 100%, and stop"]


def test_what_is_overspent_is_below_nothing() -> None:
    text = drawn(TEN, (0, 12))
    assert "2.00 USD over it (20%). Nothing runs now." in text
    assert 'class="below"' in text
    assert 'class="below"' not in drawn(TEN, (0, 9))


def test_what_lasts_is_said() -> None:
    assert "It will last at 1.00 USD an hour now." in drawn(
        replace(TEN, amount=Money(Decimal(100))), (11, 12), running=True
    )


def test_for_good_it_begins_with_the_first_spending() -> None:
    total = replace(TEN, per=Period.TOTAL)
    text = drawn(total, (8, 12), running=True)
    assert "10.00 USD in all" in text
    assert 'class="even"' not in text
    assert "2026-03-04 08:00" in text


def test_nothing_spent_for_good_has_no_picture() -> None:
    text = drawn(replace(TEN, per=Period.TOTAL))
    assert "Nothing is spent." in text
    assert "<svg" not in text


@pytest.mark.parametrize("lives", [(), ((0.0, 0.001),), ((0, 12), (1, 12), (2, 11)), ((11.999, 12),)])
@pytest.mark.parametrize("per", Period)
def test_everything_is_drawn_inside_of_the_picture(lives: tuple[tuple[float, float], ...], per: Period) -> None:
    text = drawn(replace(TEN, per=per), *lives, running=True)
    numbers = [float(one) for one in NUMBER.findall(text)]
    numbers += [float(one) for points in re.findall(r'points="([^"]*)"', text) for one in re.split("[ ,]", points)]
    assert all(-1 <= one <= 961 for one in numbers)


def test_a_name_is_text() -> None:
    stands = standing(replace(TEN, name="<b>"), [], datetime(2026, 3, 4, tzinfo=UTC).timestamp())
    assert "<b>" not in str(burn_down(Burn(stands, (), DAY))).replace("</b>", "")
