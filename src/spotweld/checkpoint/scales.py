"""Numbers of a matrix without the scales of their rows and columns, which their exponents then need not tell.

In a gradient some rows and some columns are larger than others, and so they are in Adam's moments: a moment is near the
product of one number for its row and one for its column (Adafactor stores it as nothing else, https://arxiv.org/abs/1804.04235).
The highest byte of a rotated number is about the logarithm of its size. So what remains of that byte after one byte for
the row and one for the column were taken away varies less, and takes fewer bits. All arithmetic is modulo 256.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import msgspec

from spotweld.checkpoint.planes import numpy, sample, scratch
from spotweld.errors import Corrupt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spotweld.checkpoint.planes import Array

HEADER = struct.Struct("<II")
FEWEST = 8
"""Rows and columns from which on scales can be worth their bytes."""
_OFTEN = 4
"""One row in so many tells the scales of the columns, and the other way round: that is exact enough."""
_SAMPLE = 4096
_BLOCK = 2**17
"""Bytes of the plane that are worked on at a time; they stay in a core's cache."""


class Matrix(msgspec.Struct, frozen=True):
    """Where in a matrix the numbers of a chunk lie: row after row."""

    columns: int
    """At least 1."""
    start: int = 0
    """The column of the first number, less than ``columns``."""

    def rows(self, count: int) -> int:
        """How many rows ``count`` numbers touch."""
        return -(-(self.start + count) // self.columns)


def take(plane: Array, matrix: Matrix) -> bytes:
    """Take the scales out of the plane, in place; what ``put`` needs to undo that."""
    rows, columns = _scales(plane, matrix)
    np = numpy()
    for piece, amounts in _pieces(plane, matrix, rows, columns):
        np.subtract(piece, amounts, out=piece)
    return HEADER.pack(matrix.columns, matrix.start) + rows.tobytes() + columns.tobytes()


def put(plane: Array, stored: memoryview) -> int:
    """Put the scales back into the plane, in place; how many of the bytes in ``stored`` they took.

    Raises:
        Corrupt: these bytes are no scales of so many numbers.
    """
    if len(stored) < HEADER.size:
        raise _corrupt("they are shorter than their header")
    matrix = Matrix(*HEADER.unpack_from(stored))
    if not matrix.start < matrix.columns:
        raise _corrupt("they begin beyond the last column")
    rows = matrix.rows(plane.size)
    end = HEADER.size + rows + matrix.columns
    if len(stored) < end:
        raise _corrupt("they end too early")
    np = numpy()
    scales = np.frombuffer(stored, "u1", rows + matrix.columns, HEADER.size)
    for piece, amounts in _pieces(plane, matrix, scales[:rows], scales[rows:]):
        np.add(piece, amounts, out=piece)
    return end


def _scales(plane: Array, matrix: Matrix) -> tuple[Array, Array]:
    """A byte for each row, and one for each column."""
    np = numpy()
    rows, columns = np.zeros(matrix.rows(plane.size), "u1"), np.zeros(matrix.columns, "u1")
    # Means are of distances from the most frequent byte: where bytes begin anew may lie amidst the numbers.
    usual = np.bincount(sample(plane, _SAMPLE), minlength=1).argmax().astype("u1")
    for first, piece, within in _parts(plane, matrix):
        rows[first : first + len(piece)] = _rounded(_mean(piece[:, ::_OFTEN] - usual, 1)) + usual
        if len(piece) >= FEWEST:
            means = _mean(piece[::_OFTEN] - usual, 0)
            columns[within] = _rounded(means - means.mean())
    return rows, columns


def _pieces(plane: Array, matrix: Matrix, rows: Array, columns: Array) -> Iterator[tuple[Array, Array]]:
    """Pieces of the plane that stay in the cache, and what is to be taken from each of their bytes."""
    np = numpy()
    for first, part, within in _parts(plane, matrix):
        wide = columns[within]
        many = max(1, _BLOCK // wide.size)
        for at in range(0, len(part), many):
            piece = part[at : at + many]
            amounts = scratch("amounts", piece.size, 1).reshape(piece.shape)
            np.add(rows[first + at : first + at + len(piece), None], wide, out=amounts)
            yield piece, amounts


def _parts(plane: Array, matrix: Matrix) -> Iterator[tuple[int, Array, slice]]:
    """The end of a row, whole rows, and the beginning of one: number of the first row, the numbers, their columns."""
    columns = matrix.columns
    ahead = min(plane.size, -matrix.start % columns)
    whole = (plane.size - ahead) // columns
    after = ahead + whole * columns
    first = 1 if ahead else 0
    if ahead:
        yield 0, plane[:ahead].reshape(1, -1), slice(matrix.start, matrix.start + ahead)
    if whole:
        yield first, plane[ahead:after].reshape(whole, columns), slice(0, columns)
    if after < plane.size:
        yield first + whole, plane[after:].reshape(1, -1), slice(0, plane.size - after)


def _mean(distances: Array, axis: int) -> Any:  # noqa: ANN401 - floats
    return distances.view("i1").mean(axis=axis, dtype="f4")


def _rounded(amounts: Any) -> Array:  # noqa: ANN401 - floats
    return numpy().rint(amounts).astype("i2").astype("u1")  # type: ignore[no-any-return]


def _corrupt(why: str) -> Corrupt:
    return Corrupt("The scales of a matrix cannot be read", why)
