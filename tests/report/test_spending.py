"""The page of what was spent: its bars are the sums, and its text is text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from tests.costs.test_ledger import usage
from tests.costs.test_sums import MARK, placed

from spotweld.costs.ledger import ledger
from spotweld.costs.ledgerfile import LedgerFile
from spotweld.costs.sums import Part
from spotweld.report.spending import page

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from spotweld.costs.usage import Usage


@pytest.fixture
def file(tmp_path: Path) -> Iterator[LedgerFile]:
    opened = LedgerFile(tmp_path / "ledger.db")
    yield opened
    opened.close()


def drawn(file: LedgerFile, used: list[Usage], *by: str) -> str:
    file.replace("digits", "r1", ledger(used), MARK)
    text = page("digits", file, Part(), by)
    assert text is not None
    return text


def on_days(*days: float, team: str | None = "vision", lost: float = 0.0) -> list[Usage]:
    return [
        placed(usage(attempt=n, price="2", firm="5", lost=lost), "r1", "us-a", day, team)
        for n, day in enumerate(days, 1)
    ]


def heights(text: str, kind: str) -> list[float]:
    return [float(found) for found in re.findall(rf'<rect [^>]*height="([0-9.]+)" class="{kind}"', text)]


def test_nothing_spent_is_no_page(file: LedgerFile) -> None:
    assert page("digits", file, Part(), ("team",)) is None


def test_bars_are_as_high_as_what_was_spent(file: LedgerFile) -> None:
    text = drawn(file, [*on_days(0, 3), *on_days(0, 0, 0, team=None)[2:]], "team")
    (first, third), (other,) = heights(text, "s0")[:2], heights(text, "s1")
    assert first == pytest.approx(third, abs=0.02)
    assert other == pytest.approx(first, abs=0.02)
    for told in ("Spent by team", ">vision<", ">no team<", "6.00<"):
        assert told in text
    # Days on which nothing was spent are there, and empty.
    assert re.findall(r">(2023-11-\d\d)<", text)[:1] == ["2023-11-14"]
    assert text.count("<title>2023-11-15") == 0


def test_lost_work_and_on_demand_stand_beside_what_was_kept(file: LedgerFile) -> None:
    text = drawn(file, on_days(0, lost=900.0))
    (kept,), (lost,) = heights(text, "s0")[1:], heights(text, "lost")
    assert kept == pytest.approx(3 * lost, abs=0.05)
    # Three quarters of an hour at 5 an hour.
    assert "2023-11-14 on-demand: 3.75" in text
    assert "Spent<" in text
    assert "Figures" not in text


@pytest.mark.parametrize(
    ("length", "by", "word"),
    [
        (2, (), "day"),
        (61, (), "day"),
        (62, (), "week"),
        (365, (), "week"),
        (366, (), "month"),
        (2, ("month",), "month"),
    ],
)
def test_time_is_cut_as_it_fits_or_as_one_says(file: LedgerFile, length: int, by: tuple[str, ...], word: str) -> None:
    assert f"USD a {word}<" in drawn(file, on_days(0, length), *by)


def test_many_spenders_share_a_colour_and_currencies_have_pictures_of_their_own(file: LedgerFile) -> None:
    many = [placed(usage(attempt=n), "r1", "us-a", 0, f"team-{n}") for n in range(1, 10)]
    euros = [placed(usage(attempt=10, currency="EUR"), "r1", "us-a", 0, "team-1")]
    text = drawn(file, [*many, *euros], "team")
    assert "3 others" in text
    assert len(heights(text, "rest")) == 1
    assert text.count("Spent by team") == 2
    assert "EUR a day" in text
    assert "USD a day" in text


def test_a_name_cannot_become_markup(file: LedgerFile) -> None:
    text = drawn(file, on_days(0, team="<script>x</script>"), "team")
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
