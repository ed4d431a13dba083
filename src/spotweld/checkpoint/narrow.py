"""Bytes of which some bits are always the same: those bits are left out, with a list of the bytes that differ.

Of trained numbers the highest bits of the exponent, and in squares the sign, hardly ever change; the bits beside them
in the same byte are noise. Leaving out what does not change takes as few bytes as an entropy code, and a fraction
of its time.

The bytes, little-endian: ``bits`` (u8) that are left out, from the lowest; their ``value`` (u8); how many exceptions
there are (u32), the index of each (u32), the byte of each; the bits that are kept, packed; the last few bytes, whole.

Packed: let ``unit`` be the greatest common divisor of 8 and ``bits``. The bytes are cut into ``8 / unit`` runs of the
same length, a multiple of 8; fewer than 64 bytes are left at the end, and stored whole. Each byte of the first
``(8 - bits) / unit`` runs gives one byte: the bits that it keeps, moved down to the bottom, and above them, for each
other run in order, ``unit`` of the bits that the byte in the same place there keeps; run ``j`` takes along those from
``j * unit`` on.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

from spotweld.checkpoint.planes import numpy, scratch
from spotweld.errors import Corrupt

if TYPE_CHECKING:
    from spotweld.checkpoint.planes import Array

HEADER = struct.Struct("<BBI")
EXCEPTION = 5
"""Bytes that each exception costs."""


def narrow(plane: Array, bits: int, value: int, most: int) -> bytes | None:
    """The plane without its bytes' lowest ``bits`` (1 to 7), which are ``value``; None if over ``most`` differ."""
    np = numpy()
    shifted = scratch("shifted", plane.size, 1)
    np.bitwise_and(plane, (1 << bits) - 1, out=shifted)
    odd = np.flatnonzero(np.not_equal(shifted, value, out=shifted.view("?")))
    if odd.size > most:
        return None
    np.right_shift(plane, bits, out=shifted)
    unit, runs, length = _cut(plane.size, bits)
    whole = runs - bits // unit
    packed, some = shifted[: whole * length].view("<u8"), scratch("some", length // 8, 8)
    shifted = shifted[: runs * length].view("<u8")
    for j in range(whole):
        for i in range(whole, runs):
            _take(_run(shifted, i, length), j * unit, 8 - bits + (i - whole) * unit, unit, some)
            np.bitwise_or(_run(packed, j, length), some, out=_run(packed, j, length))
    header = HEADER.pack(bits, value, odd.size)
    return b"".join((header, odd.astype("<u4").data, plane[odd].data, packed.data, plane[runs * length :].data))


def widen(narrowed: memoryview, into: Array) -> None:
    """Fill ``into`` with the bytes that were given to ``narrow``.

    Raises:
        Corrupt: these bytes do not give so many.
    """
    np = numpy()
    if len(narrowed) < HEADER.size:
        raise _corrupt("it is shorter than its header")
    bits, value, count = HEADER.unpack_from(narrowed)
    if not 1 <= bits <= 7 or value >> bits:
        raise _corrupt("it leaves out an impossible number of bits, or value")
    unit, runs, length = _cut(into.size, bits)
    whole = runs - bits // unit
    start = HEADER.size + EXCEPTION * count
    if len(narrowed) != start + whole * length + into.size - runs * length:
        raise _corrupt("its parts do not add up to its size")
    odd = np.frombuffer(narrowed, "<u4", count, HEADER.size)
    if count and int(odd.max()) >= into.size:
        raise _corrupt("an exception lies beyond its end")
    packed, some = scratch("shifted", whole * length // 8, 8), scratch("some", length // 8, 8)
    packed[:] = np.frombuffer(narrowed, "<u8", packed.size, start)  # which need not be aligned
    wide = into[: runs * length].view("<u8")
    wide[whole * length // 8 :] = _every(value)
    for i in range(whole, runs):
        for j in range(whole):
            _take(_run(packed, j, length), 8 - bits + (i - whole) * unit, bits + j * unit, unit, some)
            np.bitwise_or(_run(wide, i, length), some, out=_run(wide, i, length))
    first = wide[: whole * length // 8]
    _take(packed, 0, bits, 8 - bits, first)
    np.bitwise_or(first, _every(value), out=first)
    into[runs * length :] = np.frombuffer(narrowed, "u1", into.size - runs * length, start + whole * length)
    into[odd] = np.frombuffer(narrowed, "u1", count, HEADER.size + 4 * count)


def _cut(size: int, bits: int) -> tuple[int, int, int]:
    """Unit, number of runs, and length of a run."""
    unit = math.gcd(8, bits)
    runs = 8 // unit
    return unit, runs, size // (8 * runs) * 8


def _run(eights: Array, index: int, length: int) -> Array:
    return eights[index * length // 8 : (index + 1) * length // 8]


def _take(eights: Array, low: int, to: int, count: int, into: Array) -> None:
    """In each byte of ``into``: ``count`` bits from ``low`` on of the same byte, moved to ``to``, and zeros."""
    np = numpy()
    if low > to:
        np.right_shift(eights, np.uint64(low - to), out=into)
    else:
        np.left_shift(eights, np.uint64(to - low), out=into)
    np.bitwise_and(into, _every(((1 << count) - 1) << to), out=into)


def _every(byte: int) -> Any:  # noqa: ANN401 - a NumPy number
    """Eight times that byte: arithmetic on eight bytes at once is several times as fast."""
    return numpy().uint64(byte * 0x0101010101010101)


def _corrupt(why: str) -> Corrupt:
    return Corrupt("A plane without its constant bits cannot be decoded", why)
