"""Loads from words and from tables."""

from __future__ import annotations

import pytest

from spotweld.costs.loads import Span, decode_load, parse_load


def test_words() -> None:
    assert parse_load("8x24h, 20 x 1h 30m,0x2d") == [Span(86_400, 8), Span(5400, 20), Span(172_800, 0)]


@pytest.mark.parametrize("text", ["", "8", "8x", "x24h", "8x24", "8x24h,", "-1x2h", "1.5x2h"])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="machines x duration"):
        parse_load(text)


@pytest.mark.parametrize(
    ("rows", "spans"),
    [
        ("0,8\n3600,20\n9000,\n", [Span(3600, 8), Span(5400, 20)]),
        ("0,8\n3600,20\n", [Span(3600, 8), Span(3600, 20)]),
        ("2025-01-01,1\n2025-01-02 00:00+02:00,2\n", [Span(79_200, 1), Span(79_200, 2)]),
    ],
    ids=["closed", "open", "dates"],
)
def test_a_table(rows: str, spans: list[Span]) -> None:
    assert decode_load(f"Time, machines\n{rows}".encode()) == spans


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "the columns are"),
        ("time,count\n0,1\n", "the columns are"),
        ("time,machines\n0,1\n", "at least two rows"),
        ("time,machines\n0,1,2\n", "line 2: 3 cells"),
        ("time,machines\n0,1\nsoon,2\n", 'line 3: time is "soon"'),
        ("time,machines\nnan,1\n5,2\n", 'line 2: time is "nan"'),
        ("time,machines\n0,1\n0,2\n", "line 3: its time is not after"),
        ("time,machines\n0,1\n5,\n9,1\n", "line 4: the row before it"),
        ("time,machines\n0,-1\n5,1\n", 'line 2: machines is "-1"'),
        ("time,machines\n0,1.5\n5,1\n", "a whole number"),
        ('time,machines\n0,"1\n', "line 2"),
        ("time,machines\n0,1\n\udcfe", "line 3, column 1: byte 0xfe does not belong to UTF-8"),
    ],
)
def test_other_tables_are_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        decode_load(text.encode(errors="surrogateescape"))
