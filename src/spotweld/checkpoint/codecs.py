"""Codecs: a chunk's bytes made fewer, bit for bit the same afterwards.

=========================  ==========================================================================================
``raw``                    as they are; encoded by nobody
``zstd``                   one Zstandard frame
``planes2|4|8``            numbers of so many bytes, split into byte planes; each stored as it is or as a Zstandard
                           frame, whichever is smaller
``scaled2|4|8``            the same, of numbers of a matrix, without the scales of their rows and columns
``delta2|4|8``             the same, of the differences from a base of the same size, taken as whole numbers
=========================  ==========================================================================================

``docs/compression.md`` has the bytes, and says why. Whether a codec is worth its time is for ``choosing`` to say.
Everything here may be called from several threads at once; NumPy and Zstandard work without the interpreter lock.
"""

from __future__ import annotations

import re
import struct
import threading
from typing import Any

import msgspec

from spotweld.checkpoint import narrow, planes, scales
from spotweld.errors import Corrupt

RAW = "raw"
ZSTD = "zstd"

_SPLIT = re.compile(r"(planes|scaled|delta)([248])")
_LEVEL = 3
_SAMPLE = 4096
"""About so many numbers are looked at before it is decided how to store the planes."""
_WORTH = 0.98
"""A plane is coded if that makes its sample at least this small."""
_FASTER = 0.01
"""How much larger a narrowed plane may be than a frame: it takes a fraction of the time."""
_ROTATIONS = {2: (1, 3), 4: (1, 3), 8: (6,)}
"""By bytes of a number: how far it may be rotated left. See ``docs/compression.md``."""
_STORED, _FRAME, _NARROWED = 0, 1, 2
_TOOLS = threading.local()


def codec_names(itemsize: int, *, has_base: bool, in_matrix: bool) -> tuple[str, ...]:
    """The codecs that may be used on numbers of ``itemsize`` bytes: ``raw``, then the more promising ones first."""
    if itemsize not in planes.WIDTHS:
        return (RAW, ZSTD)
    fitting = {"planes": True, "scaled": in_matrix, "delta": has_base}
    return (RAW, *(f"{name}{itemsize}" for name, fits in fitting.items() if fits), ZSTD)


def encode(raw: memoryview, codec: str, base: memoryview | None = None, matrix: scales.Matrix | None = None) -> bytes:
    """The bytes that ``decode`` turns into ``raw`` again. They may be a little more than ``raw``: then store that.

    Args:
        raw: contiguous; at most 4 GiB - 1, though chunks are far smaller.
        codec: ``zstd``, ``planesN``, ``scaledN`` or ``deltaN``.
        base: for ``deltaN`` only: as many bytes as ``raw``.
        matrix: for ``scaledN`` only: where in it the numbers lie.

    Raises:
        ValueError: no such codec, no base of that size, or no matrix.
        CheckpointError: the codec needs NumPy, which is not installed.
    """
    raw = raw.cast("B")
    if codec == ZSTD:
        return _tools().whole.compress(raw)
    name, width, before = _parameters(codec, raw, base)
    numbers = planes.words(raw, width)
    count = numbers.size
    bits = _rotation(numbers) if before is None else 0
    parts = [planes.scratch(f"plane {index}", count, 1) for index in range(width)]
    planes.split(numbers, before, bits, parts)
    taken = b""
    if name == "scaled":
        if matrix is None:
            msg = f"{codec} needs a matrix"
            raise ValueError(msg)
        taken = scales.take(parts[-1], matrix)
    packed = [_pack(part) for part in parts]
    modes, sizes = [mode for mode, _ in packed], [len(part) for _, part in packed]
    header = struct.pack(f"<B{width}B{width}I", bits, *modes, *sizes)
    return b"".join((header, *(part for _, part in packed), taken, raw[count * width :]))


def decode(stored: memoryview, codec: str, into: memoryview, base: memoryview | None = None) -> None:
    """Fill ``into`` with the bytes that were encoded.

    Args:
        stored: what ``encode`` gave. It should have been verified; if it was not, this finds most damage but not all.
        codec: the one it was encoded with.
        into: contiguous, writable, of the size that was encoded; what it holds after an error is undefined.
        base: for ``deltaN`` only: the one it was encoded with.

    Raises:
        ValueError: no such codec, or no base of that size.
        Corrupt: these bytes do not decode to that size.
        CheckpointError: the codec needs NumPy, which is not installed.
    """
    stored, into = stored.cast("B"), into.cast("B")
    if codec == ZSTD:
        into[:] = _content(stored, into.nbytes)
        return
    name, width, before = _parameters(codec, into, base)
    count = into.nbytes // width
    form = struct.Struct(f"<B{width}B{width}I")
    if stored.nbytes < form.size:
        raise _corrupt("it is shorter than its header")
    bits, *rest = form.unpack_from(stored)
    modes, sizes = rest[:width], rest[width:]
    if bits >= 8 * width:
        raise _corrupt("it is rotated by more bits than there are")
    parts, at = [], form.size
    for index, (mode, size) in enumerate(zip(modes, sizes, strict=True)):
        parts.append(_unpack(stored[at : at + size], size, mode, planes.scratch(f"plane {index}", count, 1)))
        at += size
    if name == "scaled":
        highest = planes.scratch("highest", count, 1)
        highest[:] = parts[-1]  # which may be a part of what is stored
        at += scales.put(highest, stored[at:])
        parts[-1] = highest
    if at + into.nbytes - count * width != stored.nbytes:
        raise _corrupt("its parts do not add up to its size")
    planes.merge(parts, before, bits, planes.words(into, width))
    into[count * width :] = stored[at:]


class _Tools:
    """What one thread compresses and decompresses with. Its parts are not safe to share, and costly to make."""

    def __init__(self) -> None:
        import zstandard  # noqa: PLC0415 - not before it is needed

        self.zstandard = zstandard
        self.whole = zstandard.ZstdCompressor(level=_LEVEL)
        # Next to no search for repetitions, which planes of numbers have only by chance: Huffman coding is what counts.
        parameters = zstandard.ZstdCompressionParameters(
            strategy=zstandard.STRATEGY_FAST,
            min_match=7,
            hash_log=zstandard.HASHLOG_MIN,
            chain_log=zstandard.CHAINLOG_MIN,
            window_log=17,
        )
        self.plane = zstandard.ZstdCompressor(compression_params=parameters)
        self.decompressor = zstandard.ZstdDecompressor()


def _tools() -> _Tools:
    tools: _Tools | None = getattr(_TOOLS, "tools", None)
    if tools is None:
        tools = _TOOLS.tools = _Tools()
    return tools


def _parameters(codec: str, data: memoryview, base: memoryview | None) -> tuple[str, int, planes.Array | None]:
    """What the codec's name says, and the base's numbers if it takes one."""
    found = _SPLIT.fullmatch(codec)
    if found is None:
        msg = f"no such codec: {codec[:40]!r}"
        raise ValueError(msg)
    name, width = found[1], int(found[2])
    if name != "delta":
        return name, width, None
    if base is None or base.nbytes != data.nbytes:
        msg = f"{codec} needs a base of {data.nbytes} bytes"
        raise ValueError(msg)
    return name, width, planes.words(base.cast("B"), width)


class _Form(msgspec.Struct, frozen=True):
    """How a plane is to be stored, and what a sample of it says of its size then."""

    mode: int
    share: float
    """Bytes over the plane's own."""
    bits: int = 0
    value: int = 0
    """Of a narrowed plane: how many bits are left out, and what they are."""


def _rotation(numbers: planes.Array) -> int:
    """How far the numbers are best rotated, as a sample of them says."""
    some = planes.sample(numbers, _SAMPLE).copy()
    turned, spare = some.copy(), some.copy()

    def share(bits: int) -> float:
        planes.rotate(some, bits, turned, spare)
        return sum(_form(column).share for column in turned.view("u1").reshape(-1, numbers.itemsize).T)

    return min(_ROTATIONS[numbers.itemsize], key=share)


def _form(sample: planes.Array) -> _Form:
    counts = planes.numpy().bincount(sample, minlength=256)
    share = planes.entropy(counts) / 8
    if share >= _WORTH:
        return _Form(_STORED, 1)
    best = _Form(_FRAME, share)
    for bits in range(1, 5):
        lowest = counts.reshape(-1, 1 << bits).sum(axis=0)
        value = int(lowest.argmax())
        others = 1 - float(lowest[value]) / max(1, sample.size)
        share = 1 - bits / 8 + others * narrow.EXCEPTION
        if share < best.share + _FASTER:
            best = _Form(_NARROWED, share, bits, value)
    return best


def _pack(plane: planes.Array) -> tuple[int, Any]:
    """How the plane is stored, and its bytes."""
    form = _form(planes.sample(plane, _SAMPLE))
    packed: bytes | None = None
    if form.mode == _NARROWED:
        packed = narrow.narrow(plane, form.bits, form.value, plane.size // 50)
    if form.mode != _STORED and packed is None:  # the sample had promised too much
        form, packed = _Form(_FRAME, 1), _tools().plane.compress(plane.data)
    if packed is None or len(packed) >= plane.size:
        return _STORED, plane.data
    return form.mode, packed


def _unpack(part: memoryview, size: int, mode: int, into: planes.Array) -> planes.Array:
    """The bytes of a plane, as many as ``into`` has; perhaps elsewhere."""
    if len(part) != size:
        raise _corrupt("a plane ends too early")
    if mode == _STORED and size == into.size:
        return planes.words(part, 1)
    if mode == _FRAME:
        return planes.words(memoryview(_content(part, into.size)), 1)
    if mode == _NARROWED:
        narrow.widen(part, into)
        return into
    raise _corrupt("a plane has an unknown form or the wrong size")


def _content(frame: memoryview, size: int) -> bytes:
    """The content of a Zstandard frame, which must have that size: no more memory than that is taken."""
    tools = _tools()
    try:
        if tools.zstandard.get_frame_parameters(frame).content_size != size:
            raise _corrupt("a compressed part has another size than it should")
        content = tools.decompressor.decompress(frame, max_output_size=size, allow_extra_data=False)
    except tools.zstandard.ZstdError as error:
        raise _corrupt(str(error)) from None
    if len(content) != size:
        raise _corrupt("a compressed part ends too early")
    return content


def _corrupt(why: str) -> Corrupt:
    return Corrupt("A compressed chunk cannot be decoded", why)
