"""Numbers as byte planes: what makes the bytes of floating-point numbers compressible, and undoes it.

The exponents of trained numbers are few and alike, their mantissas are noise. A *plane* holds one byte of each number.
Numbers are rotated first, so that the bits that say something come to lie in as few planes as possible.

NumPy does the arithmetic, in its own loops on one thread and without the interpreter lock, on buffers that a thread
keeps: the first touch of fresh memory can cost more than all the rest.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np

    Array = np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]]

WIDTHS = (2, 4, 8)
"""Bytes a number may have."""
_BLOCK = 512 * 2**10
"""Bytes: larger pieces leave a core's cache between two operations, smaller ones pay for the calls."""
_KEPT = threading.local()


def numpy() -> Any:  # noqa: ANN401 - the module itself
    """NumPy, which is not imported before it is needed."""
    import numpy as np  # noqa: PLC0415 - see above

    return np


def words(data: memoryview, width: int) -> Array:
    """The numbers of ``width`` bytes in ``data``, little-endian, not copied; bytes beyond the last are left out."""
    count = data.nbytes // width
    return numpy().frombuffer(data, dtype=f"<u{width}", count=count)  # type: ignore[no-any-return]


def scratch(name: str, count: int, width: int) -> Array:
    """This thread's buffer of that name, as ``count`` numbers of ``width`` bytes; its content is left over."""
    kept = getattr(_KEPT, name, None)
    if kept is None or kept.nbytes < count * width:
        kept = numpy().empty(count * width, dtype="u1")
        setattr(_KEPT, name, kept)
    return kept[: count * width].view(f"<u{width}")  # type: ignore[no-any-return]


def sample(numbers: Array, count: int) -> Array:
    """About ``count`` of the numbers."""
    return numbers[:: numbers.size // count | 1]  # an odd stride: it falls on every column of a matrix


def split(numbers: Array, base: Array | None, bits: int, into: Sequence[Array]) -> None:
    """Byte ``k`` of each number goes into ``into[k]``, after its difference from ``base`` and a rotation."""
    for block, turned, spare in _blocks(numbers):
        piece = numbers[block]
        if base is not None:
            difference(piece, base[block], turned, spare)
            piece = turned
        if bits:
            rotate(piece, bits, turned, spare)
            piece = turned
        for index, part in enumerate(into):
            plane(piece, index, part[block], spare)


def merge(parts: Sequence[Array], base: Array | None, bits: int, into: Array) -> None:
    """The inverse of ``split``: fill ``into`` with the numbers again."""
    for block, turned, spare in _blocks(into):
        whole = into[block]
        join([part[block] for part in parts], turned if bits else whole, spare)
        if bits:
            rotate(turned, 8 * into.itemsize - bits, whole, spare)
        if base is not None:
            undo_difference(whole, base[block], whole, spare)


def _blocks(numbers: Array) -> Iterator[tuple[slice, Array, Array]]:
    """Pieces that stay in a core's own cache, each with two buffers of its size."""
    width = numbers.itemsize
    most = _BLOCK // width
    for start in range(0, numbers.size, most):
        count = min(most, numbers.size - start)
        yield slice(start, start + count), scratch("turned", count, width), scratch("spare", count, width)


def rotate(numbers: Array, bits: int, into: Array, spare: Array) -> None:
    """``into[i] = numbers[i]`` rotated left by ``bits`` (0 or more, less than a number has); both may be the same."""
    np = numpy()
    kind = numbers.dtype.type
    np.right_shift(numbers, kind(numbers.itemsize * 8 - bits), out=spare)
    np.left_shift(numbers, kind(bits), out=into)
    np.bitwise_or(into, spare, out=into)


def plane(numbers: Array, index: int, into: Array, spare: Array) -> None:
    """``into[i]`` = byte ``index`` of ``numbers[i]``; byte 0 is the lowest."""
    np = numpy()
    if index:
        np.right_shift(numbers, numbers.dtype.type(8 * index), out=spare)
        numbers = spare
    np.copyto(into, numbers, casting="unsafe")


def join(parts: Sequence[Array], into: Array, spare: Array) -> None:
    """``into[i]`` = the number whose bytes are ``parts[0][i]``, ``parts[1][i]``, ..., the lowest first."""
    np = numpy()
    count, width = into.size, 1
    while len(parts) > 1:
        width *= 2
        last = len(parts) == 2
        wider = [into if last else scratch(f"{at}:{width}", count, width) for at in range(len(parts) // 2)]
        widened = spare.view("u1")[: count * width].view(f"<u{width}")
        for low, high, both in zip(parts[::2], parts[1::2], wider, strict=True):
            np.copyto(both, high)  # in four steps: NumPy is slow where it has to convert while it computes
            np.left_shift(both, 4 * width, out=both)
            np.copyto(widened, low)
            np.bitwise_or(both, widened, out=both)
        parts = wider


def difference(numbers: Array, base: Array, into: Array, spare: Array) -> None:
    """``into[i] = zigzag(numbers[i] - base[i])``, modulo the width: small where the two are near each other.

    Zigzag puts 0, -1, 1, -2, 2, ... at 0, 1, 2, 3, 4, ...
    """
    np = numpy()
    signed = f"<i{numbers.itemsize}"
    np.subtract(numbers, base, out=into)
    np.right_shift(into.view(signed), numbers.itemsize * 8 - 1, out=spare.view(signed))
    np.left_shift(into, numbers.dtype.type(1), out=into)
    np.bitwise_xor(into, spare, out=into)


def undo_difference(coded: Array, base: Array, into: Array, spare: Array) -> None:
    """The inverse of ``difference``: the numbers, from their zigzag differences; ``into`` may be ``coded``."""
    np = numpy()
    kind = coded.dtype.type
    np.bitwise_and(coded, kind(1), out=spare)
    np.negative(spare, out=spare)
    np.right_shift(coded, kind(1), out=into)
    np.bitwise_xor(into, spare, out=into)
    np.add(into, base, out=into)


def entropy(counts: np.ndarray[Any, Any]) -> float:
    """Bits a byte (0 to 8) that a code without memory needs for bytes of which each value occurs ``counts`` times."""
    np = numpy()
    shares = counts[counts > 0] / max(1, counts.sum())
    return float(-(shares * np.log2(shares)).sum())
