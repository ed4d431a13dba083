"""The safetensors format: eight bytes with the length of a JSON header, the header, the tensors' bytes.

https://huggingface.co/docs/safetensors describes it. The header maps names to ``{dtype, shape, data_offsets}``, the
offsets counted from its end; the tensors lie without gaps or overlap, little-endian, in C order. Under
``__metadata__`` it may map texts to texts. A file from somewhere else is read as if it were out to do harm.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import msgspec

from spotweld.errors import UsageError
from spotweld.project.words import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

METADATA = "__metadata__"
HEADER_LIMIT = 100_000_000
"""Bytes; other readers refuse longer headers, too."""
_AHEAD = 8
_DIMENSIONS = 64

SIZES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}
"""Bytes of one element."""


class Tensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the header."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]
    """Where it begins and ends, in bytes from the end of the header."""


class Contents(msgspec.Struct, frozen=True):
    """What a file says that it holds."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    start: int
    """Where the tensors' bytes begin in the file."""


def place(tensors: Iterable[tuple[str, str, tuple[int, ...]]]) -> dict[str, Tensor]:
    """Give tensors their offsets: wide elements first, so that everything is aligned; else in the order given.

    Args:
        tensors: name, dtype and shape of each.
    """
    placed: dict[str, Tensor] = {}
    at = 0
    for name, dtype, shape in sorted(tensors, key=lambda tensor: -SIZES[tensor[1]]):
        end = at + math.prod(shape) * SIZES[dtype]
        placed[name] = Tensor(dtype, shape, (at, end))
        at = end
    return placed


def header(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """What stands ahead of the tensors' bytes; a multiple of eight bytes.

    Raises:
        UsageError: it would be too long for any reader.
    """
    body = msgspec.json.encode({METADATA: metadata, **tensors})
    body += b" " * (-len(body) % 8)
    if len(body) > HEADER_LIMIT:
        raise UsageError(
            f"The header would have {len(body)} bytes",
            f"readers of the format take {HEADER_LIMIT} at most",
            "Export fewer parts at once.",
        )
    return len(body).to_bytes(_AHEAD, "little") + body


def parse(data: memoryview, file: str) -> Contents:
    """Read a file's header, and see that it fits the file.

    Args:
        data: the whole file, mapped; no more of it is touched than the header.
        file: its name, for errors.

    Raises:
        UsageError: it is no safetensors file, or is damaged.
    """
    if data.nbytes < _AHEAD:
        raise _wrong(file, f"it has {data.nbytes} bytes, and even an empty one has more")
    length = int.from_bytes(data[:_AHEAD], "little")
    start = _AHEAD + length
    if length > HEADER_LIMIT:
        raise _wrong(file, f"its header would have {length} bytes, and {HEADER_LIMIT} are the limit")
    if start > data.nbytes:
        raise _wrong(file, f"it ends after {data.nbytes} bytes, within its header")
    try:
        text = bytes(data[_AHEAD:start]).decode()
        content = msgspec.convert(json.loads(text, object_pairs_hook=_once), dict[str, Any])
        metadata = msgspec.convert(content.pop(METADATA, {}), dict[str, str])
        tensors = msgspec.convert(content, dict[str, Tensor])
        for name, tensor in tensors.items():
            _check(name, tensor)
        _check_places(tensors, data.nbytes - start)
    except (ValueError, RecursionError) as error:
        raise _wrong(file, str(error)) from None
    return Contents(tensors, metadata, start)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        msg = "a name stands in its header twice"
        raise ValueError(msg)
    return found


def _check(name: str, tensor: Tensor) -> None:
    shown = quoted(name, 80)
    if tensor.dtype not in SIZES:
        msg = f"{shown} has the dtype {quoted(tensor.dtype)}, which is not known here"
        raise ValueError(msg)
    name.encode()  # JSON can hold halves of characters
    extent = math.prod(max(1, length) for length in tensor.shape[:_DIMENSIONS])
    if len(tensor.shape) > _DIMENSIONS or min(tensor.shape, default=0) < 0 or extent >= 2**60:
        msg = f"{shown} has an impossible shape"
        raise ValueError(msg)
    begin, end = tensor.data_offsets
    size = math.prod(tensor.shape) * SIZES[tensor.dtype]
    if begin < 0 or end - begin != size:
        msg = f"{shown} should have {size} bytes, and its offsets are {begin} and {end}"
        raise ValueError(msg)


def _check_places(tensors: Mapping[str, Tensor], size: int) -> None:
    at = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].data_offsets):
        begin, end = tensor.data_offsets
        if begin != at:
            msg = f"{quoted(name, 80)} begins at {begin}, and what comes before it ends at {at}"
            raise ValueError(msg)
        at = end
    if at != size:
        msg = f"its tensors need {at} bytes, and it has {size}: it was cut off, or something is left over"
        raise ValueError(msg)


def _wrong(file: str, why: str) -> UsageError:
    return UsageError(
        f"{quoted(file, 200)} is no whole safetensors file", quoted(why, 300)[1:-1], "Fetch or write it anew."
    )
