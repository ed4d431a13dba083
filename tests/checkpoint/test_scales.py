"""Scales of rows and columns: taken out of a plane and put back, and what that saves."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotweld.checkpoint.codecs import decode, encode
from spotweld.checkpoint.scales import HEADER, Matrix, put, take
from spotweld.errors import Corrupt

if TYPE_CHECKING:
    from collections.abc import Callable


@given(st.binary(max_size=300), st.integers(1, 30), st.integers(1, 400), st.data())
def test_what_is_taken_can_be_put_back(data: bytes, times: int, columns: int, choice: st.DataObject) -> None:
    matrix = Matrix(columns, choice.draw(st.integers(0, columns - 1)))
    whole = np.frombuffer(data * times, "u1")
    plane = whole.copy()
    stored = take(plane, matrix)
    assert len(stored) == HEADER.size + matrix.rows(plane.size) + columns
    assert put(plane, memoryview(stored + b"what follows")) == len(stored)
    assert (plane == whole).all()


@given(st.integers(0, 39), st.integers(0, 255), st.integers(0, 99))
def test_of_rows_and_columns_nothing_is_left(start: int, level: int, seed: int) -> None:
    dice = np.random.default_rng(seed)
    rows, columns = dice.integers(0, 60, (200, 1)), dice.integers(0, 60, (1, 40))
    plane = (rows + columns + level).astype("u1").reshape(-1)[start : start - 40 or None].copy()
    take(plane, Matrix(40, start))
    whole = plane[40:-40]
    assert len(set((whole - whole[0]).tolist())) <= 3  # each scale is rounded


def moments(columns: int, rows: int = 1000) -> np.ndarray:
    """Numbers whose size is a product of one for the row and one for the column, and a draw."""
    dice = np.random.default_rng(5)
    sizes = np.exp(dice.normal(0, 2, (rows, 1)) + dice.normal(0, 2, (1, columns)))
    return (dice.standard_normal((rows, columns)) * sizes).astype("<f4")


@pytest.mark.parametrize("start", [0, 7])
def test_moments_get_smaller_by_what_their_scales_say(start: int) -> None:
    numbers = moments(300).reshape(-1)[start:]
    raw = memoryview(numbers.tobytes())
    plain, scaled = encode(raw, "planes4"), encode(raw, "scaled4", None, Matrix(300, start))
    assert len(scaled) < len(plain) - 0.03 * raw.nbytes
    into = memoryview(bytearray(raw.nbytes))
    decode(memoryview(scaled), "scaled4", into)
    assert into == raw


@pytest.mark.parametrize(
    "forge",
    [
        lambda good: good[:5],
        lambda good: good[:-1],
        lambda good: struct.pack("<II", 50, 50) + good[8:],
        lambda good: struct.pack("<II", 0, 0) + good[8:],
        lambda good: struct.pack("<II", 2**32 - 1, 0) + good[8:],
        lambda good: struct.pack("<II", 1, 0) + good[8:],
    ],
)
def test_scales_that_do_not_fit_are_refused(forge: Callable[[bytes], bytes]) -> None:
    plane = np.arange(5000, dtype="u2").astype("u1")
    good = take(plane, Matrix(50, 3))
    with pytest.raises(Corrupt, match="scales"):
        put(plane, memoryview(forge(good)))
