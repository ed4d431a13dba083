"""Parts of stored arrays, fetched into live tensors: from wherever their bytes lie to wherever they are wanted."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from spotweld.checkpoint.arrays import allocate, can_be_filled, itemsize, writable
from spotweld.checkpoint.distributed.planning import Box
from spotweld.checkpoint.distributed.shards import Shard
from spotweld.checkpoint.reading import Want, read_wants

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from spotweld.checkpoint.devices import Place
    from spotweld.checkpoint.format import Manifest
    from spotweld.store.objects import Objects

_HELD = 256 * 2**20
"""Bytes held beside the state, at most, for what cannot be read straight to its place."""


Span: TypeAlias = tuple[str, int, int]
"""Of a tensor in memory: the device, the first byte's address, and that behind the last one."""


class Transfer(msgspec.Struct, frozen=True):
    """A part of a shard, and the tensor of its shape that it is wanted in, which may have another dtype."""

    shard: Shard
    part: Box
    """In the coordinates of the whole; lies in the shard."""
    into: Any


def fetch(objects: Objects, manifest: Manifest, transfers: Iterable[Transfer]) -> None:
    """Make all transfers. Only the chunks that hold their bytes are read, and each is verified before it is used.

    Raises:
        Corrupt: a chunk is not what was written; tensors may have been filled in part.
        NotFound: a pack is missing.
        Unavailable: the store did not answer.
    """
    wanted: dict[int, list[Want]] = defaultdict(list)
    held: list[tuple[memoryview, Transfer]] = []
    filled: list[Span] = []
    size = 0
    for transfer in transfers:
        start, _, row = _extent(manifest, transfer)
        alike = str(transfer.into.dtype) == f"torch.{manifest.leaves[transfer.shard.leaf].dtype}"
        direct = row and alike and can_be_filled(transfer.into)
        span = _span(transfer.into)
        at = bisect_left(filled, span)
        if direct and filled[at : at + 1] == [span]:
            continue  # two names of one tensor have one content
        if direct and not any(_overlap(span, other) for other in filled[max(0, at - 1) : at + 1]):
            filled.insert(at, span)
            want(manifest, transfer.shard.leaf, start, [writable(transfer.into)], wanted)
            continue
        # Nor must two threads fill the same bytes, as those of a tensor and of a part of it.
        for one in _cut(manifest, transfer):
            start, length, _ = _extent(manifest, one)
            if size + length > _HELD:
                _settle(objects, manifest, wanted, held)
                wanted, held, size = defaultdict(list), [], 0
            held.append((allocate(length), one))
            size += length
            want(manifest, one.shard.leaf, start, [held[-1][0]], wanted)
    _settle(objects, manifest, wanted, held)


def _span(tensor: Any) -> Span:  # noqa: ANN401
    return str(tensor.device), tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes


def _overlap(one: Span, other: Span) -> bool:
    return one[0] == other[0] and one[1] < other[2] and other[1] < one[2]


def _settle(
    objects: Objects, manifest: Manifest, wanted: dict[int, list[Want]], held: list[tuple[memoryview, Transfer]]
) -> None:
    read_wants(objects, manifest, wanted)
    if not held:
        return
    import torch  # noqa: PLC0415 - whoever has no tensors needs none of it

    for memory, transfer in held:
        dtype = getattr(torch, manifest.leaves[transfer.shard.leaf].dtype)
        source = torch.frombuffer(memory, dtype=torch.uint8).view(dtype)
        with torch.no_grad():
            transfer.into.copy_(source.as_strided(transfer.part.shape, _strides(transfer.shard.box.shape)))


def _cut(manifest: Manifest, transfer: Transfer) -> Iterator[Transfer]:
    """The same in pieces that can be held."""
    part, into = transfer.part, transfer.into
    at = next((at for at, length in enumerate(part.shape) if length > 1), None)
    if at is None or _extent(manifest, transfer)[1] <= _HELD:
        yield transfer
        return
    half = part.shape[at] // 2
    for first, count in ((0, half), (half, part.shape[at] - half)):
        offsets = (*part.offsets[:at], part.offsets[at] + first, *part.offsets[at + 1 :])
        shape = (*part.shape[:at], count, *part.shape[at + 1 :])
        yield from _cut(manifest, Transfer(transfer.shard, Box(offsets, shape), into.narrow(at, first, count)))


def _extent(manifest: Manifest, transfer: Transfer) -> tuple[int, int, bool]:
    """Where in the leaf the part lies: its first byte, its length, and whether it is nothing but the part."""
    record, shard, part = manifest.leaves[transfer.shard.leaf], transfer.shard.box, transfer.part
    strides = _strides(shard.shape)
    inside = (at - start for at, start in zip(part.offsets, shard.offsets, strict=True))
    first = sum(at * stride for at, stride in zip(inside, strides, strict=True))
    count = 1 + sum((length - 1) * stride for length, stride in zip(part.shape, strides, strict=True))
    size = itemsize(record.kind, record.dtype)
    return first * size, count * size, count == part.volume


def want(manifest: Manifest, leaf: int, start: int, parts: Iterable[Place], wanted: dict[int, list[Want]]) -> None:
    """Note in ``wanted`` which pieces of which chunks fill these parts with the bytes of a leaf, from ``start`` on."""
    record = manifest.leaves[leaf]
    at, start = record.chunk, record.offset + start
    for part in parts:
        rest = part
        while rest:
            while start >= manifest.chunks[at].raw:
                at, start = at + 1, start - manifest.chunks[at].raw
            piece = rest[: manifest.chunks[at].raw - start]
            wanted[at].append(Want(start, piece))
            rest, start = rest[piece.nbytes :], start + piece.nbytes


def _strides(shape: tuple[int, ...]) -> list[int]:
    strides, step = [], 1
    for length in reversed(shape):
        strides.append(step)
        step *= length
    return strides[::-1]
