"""Sizes: what people write and what they read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotweld.values.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0B", 0),
        ("100GB", 100 * 1000**3),
        ("16MiB", 16 * 1024**2),
        ("1.5 kB", 1500),
        ("1 KB", 1000),
        ("1KiB", 1024),
        (" 2TB ", 2 * 1000**4),
        ("1PiB", 1024**5),
    ],
)
def test_what_people_write(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "100", "GB", "-1GB", "1gb", "1kiB", "1iB", "1e3B", "٣GB", "9" * 16 + "B", "1 GBs"]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.6, "1.0 kB"),
        (12_345_678, "12.3 MB"),
        (999_950_000, "1.0 GB"),
        (5e15, "5000.0 TB"),
    ],
)
def test_what_people_read(size: float, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(0, 10**17))
def test_what_is_shown_is_near(size: int) -> None:
    assert parse_size(format_size(size)) == pytest.approx(size, rel=0.051)


@given(st.integers(0, 10**17))
def test_showing_what_was_read_back_changes_nothing(size: int) -> None:
    text = format_size(size)
    assert format_size(parse_size(text)) == text
