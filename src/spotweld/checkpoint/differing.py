"""What differs between two checkpoints, leaf by leaf. Chunks that have the same digest are not read."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

from spotweld.checkpoint.arrays import Kind, allocate, build, itemsize
from spotweld.checkpoint.choice import Entry, entries
from spotweld.checkpoint.opened import batches
from spotweld.checkpoint.scrubbing import RNG, in_rng, span
from spotweld.checkpoint.tree import Node, unflatten
from spotweld.errors import CheckpointError
from spotweld.values.digests import checksum

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np

    from spotweld.checkpoint.distributed.planning import Box
    from spotweld.checkpoint.format import LeafRecord
    from spotweld.checkpoint.opened import Checkpoint
    from spotweld.values.digests import Digest

_BLOCK = 2**20
"""Numbers that are compared at a time: as float64 they take eight times as many bytes."""


class Verdict(StrEnum):
    """How an array or a value of two checkpoints compares."""

    EQUAL = "equal"
    """In every bit."""
    DIFFERS = "differs"
    FIRST = "first"
    """Only the first has it."""
    SECOND = "second"
    """Only the second has it."""


class Compared(msgspec.Struct, frozen=True):
    """An array or a plain value in two checkpoints."""

    part: str
    path: str
    verdict: Verdict
    elements: int | None = None
    """Numbers of an array that differ in a bit; None: it is no array, or its form differs."""
    of: int | None = None
    """How many it has."""
    largest: float | None = None
    """The largest absolute difference of two numbers with a fraction; infinite or NaN if one is; None: no such."""
    forms: tuple[str, str] | None = None
    """What the two are, where that differs: a dtype and a shape, or a plain value."""


def compare(
    one: Checkpoint, other: Checkpoint, told: Callable[[int, int], None] = lambda _done, _total: None
) -> list[Compared]:
    """Every array and value of either checkpoint, in the order of the first.

    Args:
        one: an open checkpoint.
        other: another, of any run in any store.
        told: called with the bytes compared so far, and all that have to be.

    Raises:
        CheckpointError: NumPy is missing, and there is something to compare.
        Corrupt, NotFound, Unavailable: as ``Checkpoint.load``.
    """
    ours, theirs = _everything(one), _everything(other)
    found: dict[str, Compared] = {}
    pairs: dict[int, tuple[str, int]] = {}
    for path, entry in ours.items():
        if path not in theirs:
            found[path] = Compared(entry.part, path, Verdict.FIRST)
        elif entry.leaf is not None and (twin := theirs[path].leaf) is not None:
            form, other_form = _form(one, entry.leaf), _form(other, twin)
            count = math.prod(one.inventory.leaves[entry.leaf].shape)
            if form != other_form:
                found[path] = Compared(entry.part, path, Verdict.DIFFERS, forms=(form, other_form))
            else:
                found[path] = Compared(entry.part, path, Verdict.EQUAL, 0, count)
                if not _same_chunks(one, entry.leaf, other, twin):
                    pairs[entry.leaf] = path, twin
        else:
            found[path] = _plain(one, entry, other, theirs[path])
    for path, entry in theirs.items():
        if path not in ours:
            found[path] = Compared(entry.part, path, Verdict.SECOND)
    for path, elements, largest in _read_pairs(one, other, pairs, told):
        if elements:
            before = found[path]
            found[path] = Compared(before.part, path, Verdict.DIFFERS, elements, before.of, largest)
    return list(found.values())


def _everything(checkpoint: Checkpoint) -> dict[str, Entry]:
    rng = (Entry(RNG, in_rng(entry.path), entry.node) for entry in entries(checkpoint.manifest.rng))
    return {entry.path: entry for entry in (*checkpoint.entries, *rng)}


def _form(checkpoint: Checkpoint, number: int) -> str:
    record = checkpoint.inventory.leaves[number]
    kind = "" if record.kind is Kind.TORCH else f"{record.kind} "
    return f"{kind}{record.dtype} {list(record.shape)}"


def _plain(one: Checkpoint, entry: Entry, other: Checkpoint, twin: Entry) -> Compared:
    if entry.node == twin.node and type(entry.node) is type(twin.node):
        return Compared(entry.part, entry.path, Verdict.EQUAL)
    forms = _shown(one, entry), _shown(other, twin)
    return Compared(entry.part, entry.path, Verdict.DIFFERS, forms=forms)


def _shown(checkpoint: Checkpoint, entry: Entry) -> str:
    return _form(checkpoint, entry.leaf) if entry.leaf is not None else _text(entry.node)


def _text(node: Node) -> str:
    value = unflatten(node, ())
    text = hex(value) if isinstance(value, int) and abs(value) >= 2**64 else repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _same_chunks(one: Checkpoint, number: int, other: Checkpoint, twin: int) -> bool:
    """The digests alone say that the bytes are the same."""
    return not one.inventory.leaves[number].size or _digests(one, number) == _digests(other, twin)


def _digests(checkpoint: Checkpoint, number: int) -> list[tuple[Box, int, list[tuple[Digest, int]]]]:
    """Of an array's pieces: where each belongs and begins, and the chunks that it lies in."""
    manifest, found = checkpoint.manifest, []
    for piece in checkpoint.inventory.pieces(number):
        chunks = (manifest.chunks[at] for at in span(manifest, piece.leaf))
        found.append((piece.box, manifest.leaves[piece.leaf].offset, [(chunk.digest, chunk.raw) for chunk in chunks]))
    return found


def _read_pairs(
    one: Checkpoint, other: Checkpoint, pairs: dict[int, tuple[str, int]], told: Callable[[int, int], None]
) -> Iterator[tuple[str, int, float | None]]:
    total, done = sum(one.inventory.leaves[number].size for number in pairs), 0
    for batch in batches(one.inventory.leaves, pairs):
        ours = _fetch(one, batch)
        theirs = _fetch(other, [pairs[number][1] for number in batch])
        for number in batch:
            record, (path, twin) = one.inventory.leaves[number], pairs[number]
            yield path, *_difference(record, ours[number], theirs[twin])
            done += record.size
        told(done, total)


def _fetch(checkpoint: Checkpoint, numbers: list[int]) -> dict[int, memoryview]:
    memory = {number: allocate(checkpoint.inventory.leaves[number].size) for number in numbers}
    checkpoint.fetch(memory)
    return memory


def _difference(record: LeafRecord, ours: memoryview, theirs: memoryview) -> tuple[int, float | None]:
    """How many elements differ, and by how much at most."""
    if checksum(ours) == checksum(theirs):
        return 0, None
    try:
        import numpy as np  # noqa: PLC0415 - not before something differs
    except ImportError:
        raise CheckpointError("NumPy is needed to compare arrays", "", "pip install numpy") from None
    width = itemsize(record.kind, record.dtype)
    rows = [np.frombuffer(data, dtype=np.uint8).reshape(-1, width) for data in (ours, theirs)]
    elements, largest = 0, None
    for start in range(0, len(rows[0]), _BLOCK):
        a, b = (row[start : start + _BLOCK] for row in rows)
        where = (a != b).any(axis=1)
        elements += int(where.sum())
        if where.any():
            pair = _numbers(record, a[where]), _numbers(record, b[where])
            if pair[0] is not None and pair[1] is not None:
                with np.errstate(all="ignore"):
                    # NumPy's max hands a NaN on.
                    most = float(np.abs(pair[0] - pair[1]).max())
                largest = most if largest is None or not most <= largest else largest
    return elements, largest


def _numbers(record: LeafRecord, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
    """Elements as numbers in double precision; None: they have no fraction."""
    dtype = record.dtype
    if record.kind is Kind.TORCH:
        if not dtype.startswith(("float", "bfloat", "complex")):
            return None
        if dtype == "bfloat16":
            return (rows.view("<u2").astype("<u4") << 16).view("<f4").reshape(-1).astype("f8")
        if dtype.startswith("float8") or dtype == "complex32":
            import torch  # noqa: PLC0415 - NumPy does not have these

            tensor: Any = build(Kind.TORCH, dtype, (len(rows),), memoryview(bytearray(rows.tobytes())))
            wide: np.ndarray[Any, Any] = tensor.to(torch.complex128 if dtype == "complex32" else torch.float64).numpy()
            return wide
        bits = int(dtype.removeprefix("float").removeprefix("complex"))
        dtype = f"<{dtype[0]}{bits // 8}"
    if record.kind is Kind.BYTES or dtype[1] not in "fc":
        return None
    return rows.view(dtype).reshape(-1).astype("f8" if dtype[1] == "f" else "c16")
