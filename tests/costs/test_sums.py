"""Sums by words are the sums of the rows, to the last digit."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal, localcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.costs.test_ledger import usage

from spotweld.costs.charges import EXACT
from spotweld.costs.ledger import ledger
from spotweld.costs.ledgerfile import LedgerFile, Mark
from spotweld.costs.sums import PERIODS, PLACES, Part, Sums, sum_up
from spotweld.costs.totals import total
from spotweld.values.offers import CapacityType

if TYPE_CHECKING:
    from spotweld.costs.focus import Row
    from spotweld.costs.usage import Usage

MARK = Mark(1, 1.0, open=False)
DAY = 86400.0
MIDNIGHT = 19675 * DAY
"""The 14th of November 2023."""


def placed(one: Usage, run: str, zone: str, days: float, team: str | None) -> Usage:
    labels = {} if team is None else {"team": team}
    began = MIDNIGHT + days * DAY + one.attempt * 3600
    offer = replace(one.offer, zone=zone, region=zone[:-1], machine_type=f"large-{zone}")
    ended = began + one.ended - one.started
    return replace(one, run=run, offer=offer, started=began, ended=ended, labels=labels)


def summed(rows: list[Row], *by: str, part: Part | None = None) -> Sums:
    with TemporaryDirectory() as folder:
        file = LedgerFile(Path(folder) / "ledger.db")
        for run in {row.run for row in rows}:
            file.replace("digits", run, [row for row in rows if row.run == run], MARK)
        found = sum_up(file, part or Part(), by)
        file.close()
    return found


somewhere = st.builds(
    lambda attempt, seconds, lost, price, currency, capacity, closed, run, zone, days, team: placed(
        usage(
            attempt=attempt,
            seconds=seconds,
            lost=lost,
            price=str(price),
            currency=currency,
            capacity=capacity,
            closed=closed,
        ),
        run,
        zone,
        days,
        team,
    ),
    st.integers(1, 6),
    st.floats(0, 1e6),
    st.sampled_from([0.0, 0.0, 100.0]),
    st.decimals(0, 10**6, places=9),
    st.sampled_from(["USD", "EUR"]),
    st.sampled_from(CapacityType),
    st.booleans(),
    st.sampled_from(["r1", "r2"]),
    st.sampled_from(["us-a", "us-b", "eu-a"]),
    st.integers(0, 500),
    st.sampled_from(["vision", "speech", None]),
)


@settings(max_examples=60)
@given(
    st.lists(somewhere, max_size=12), st.lists(st.sampled_from([*PERIODS, *PLACES, "team"]), max_size=3, unique=True)
)
def test_every_line_is_the_total_of_its_rows(used: list[Usage], by: list[str]) -> None:
    rows = ledger(used)
    expected: dict[tuple[str | None, ...], list[Row]] = defaultdict(list)
    for row in rows:
        day = row.charge_period_start.date()
        group = [
            PERIODS[word](day) if word in PERIODS else PLACES[word](row) if word in PLACES else row.tags.get(word)
            for word in by
        ]
        expected[*group, row.billing_currency].append(row)
    found = summed(rows, *by)
    assert {(*line.group, line.spent.currency) for line in found.lines} == set(expected)
    for line in (*found.lines, *found.totals):
        group = (*line.group, line.spent.currency)
        mine = expected[group] if line.group else [row for row in rows if row.billing_currency == line.spent.currency]
        (whole,) = total(mine)
        assert (line.spent, line.kept, line.lost, line.on_demand, line.savings, line.estimated) == (
            whole.billed,
            whole.kept,
            whole.lost,
            whole.on_demand,
            whole.savings,
            whole.estimated,
        )
        with localcontext(EXACT):
            assert line.list_cost.amount == sum(row.list_cost for row in mine)
            assert line.hours * 3600 == whole.seconds
            assert line.lost_hours * 3600 == whole.lost_seconds
            assert line.kept + line.lost == line.spent
    with localcontext(EXACT):
        for one in found.totals:
            parts = [line.spent.amount for line in found.lines if line.spent.currency == one.spent.currency]
            assert one.spent.amount == sum(parts)


def test_what_has_no_label_is_a_line_of_its_own_and_comes_last() -> None:
    used = [placed(usage(attempt=n), "r1", "us-a", 0, team) for n, team in enumerate([None, "vision", "speech", ""])]
    assert [line.group for line in summed(ledger(used), "team").lines] == [("",), ("speech",), ("vision",), (None,)]


def test_currencies_stay_apart_in_a_group_and_in_the_totals() -> None:
    used = [usage(attempt=1), usage(attempt=2, currency="EUR")]
    found = summed(ledger(used), "run")
    assert [(line.group, line.spent.currency) for line in found.lines] == [(("r1",), "EUR"), (("r1",), "USD")]
    assert [line.spent.currency for line in found.totals] == ["EUR", "USD"]


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("day", ["2023-11-14", "2024-12-30"]),
        # The 30th of December 2024 is in the first week of 2025.
        ("week", ["2023-W46", "2025-W01"]),
        ("month", ["2023-11", "2024-12"]),
    ],
)
def test_periods_are_of_the_calendar_in_utc(word: str, names: list[str]) -> None:
    used = [placed(usage(), run, "us-a", days, None) for run, days in (("r1", 0), ("r2", 412))]
    assert [line.group for line in summed(ledger(used), word).lines] == [(name,) for name in names]


@pytest.mark.parametrize(
    ("part", "runs"),
    [
        (Part(), {"r1", "r2", "r3"}),
        (Part(runs=("r1", "r3")), {"r1", "r3"}),
        (Part(labels={"team": "vision"}), {"r1", "r2"}),
        (Part(labels={"team": "vision"}, runs=("r2", "r3")), {"r2"}),
        (Part(labels={"team": "nobody"}), set()),
        (Part(since=MIDNIGHT + DAY), {"r2", "r3"}),
        (Part(since=MIDNIGHT + DAY, until=MIDNIGHT + 3 * DAY), {"r2"}),
    ],
    ids=str,
)
def test_a_part_of_the_ledger(part: Part, runs: set[str]) -> None:
    used = [
        placed(usage(), run, "us-a", days, team)
        for run, days, team in (("r1", 0, "vision"), ("r2", 2, "vision"), ("r3", 4, None))
    ]
    assert {line.group for line in summed(ledger(used), "run", part=part).lines} == {(run,) for run in runs}


def test_figures_have_no_digits_that_say_nothing() -> None:
    (line,) = summed(ledger([usage(seconds=7200.0, price="50")])).totals
    assert [str(line.spent.amount), str(line.lost.amount), str(line.hours)] == ["100", "0", "2"]
    assert line.list_cost.amount == Decimal(2)
