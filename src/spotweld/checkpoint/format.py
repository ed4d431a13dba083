"""The bytes of a checkpoint: a JSON manifest that names packs of raw bytes. docs/format.md describes it for others."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import msgspec

from spotweld.checkpoint.arrays import Kind, itemsize
from spotweld.checkpoint.packing import PACK_LIMIT
from spotweld.errors import Corrupt, UnknownFormat
from spotweld.values.digests import Digest, hex_of, parse_digest

if TYPE_CHECKING:
    from spotweld.values.digests import Data

FORMAT = 1
"""Rises when a reader of the former number would misread; such a reader then refuses."""
MANIFEST_LIMIT = 256 * 2**20
"""Bytes; more is refused before it is read."""
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
RAW = "raw"
"""The codec of bytes that are stored as they are."""


class Pack(msgspec.Struct, frozen=True):
    """One immutable object of raw bytes, written for this checkpoint or for an earlier one."""

    key: str
    digest: Digest
    size: int


class Segment(msgspec.Struct, frozen=True):
    """A piece of a leaf."""

    pack: int
    """Index into the manifest's packs."""
    offset: int
    """Bytes from the pack's start."""
    stored: int
    """Bytes in the pack."""
    raw: int
    """Bytes after decoding."""
    codec: str
    digest: Digest
    """Of the decoded bytes."""


class LeafRecord(msgspec.Struct, frozen=True):
    """One array-like value."""

    kind: Kind
    dtype: str
    shape: tuple[int, ...]
    segments: tuple[Segment, ...]
    """In order; together they are the leaf's bytes."""


class Manifest(msgspec.Struct, frozen=True):
    """One checkpoint."""

    format: int
    spotweld: str
    """The version that wrote it."""
    run: str
    epoch: int
    attempt: int
    step: int
    """Steps finished."""
    number: int
    """How many checkpoints the run had published, this one included; retention counts by it."""
    created: float
    """Seconds since 1970 UTC."""
    state: Any
    """The program's state as a tree (``checkpoint.tree``)."""
    rng: Any
    """The generators' states as a tree."""
    leaves: tuple[LeafRecord, ...]
    packs: tuple[Pack, ...]


class _Version(msgspec.Struct):
    format: int


def encode(manifest: Manifest) -> bytes:
    """The manifest's bytes."""
    return msgspec.json.encode(manifest)


def decode(data: Data, run: str) -> Manifest:
    """The manifest with these bytes, whose digest the caller has verified, fit to be followed.

    Args:
        data: the bytes.
        run: the run it must belong to; it may name only packs of that run.

    Raises:
        UnknownFormat: a newer Spotweld wrote it.
        Corrupt: it is no manifest, or contradicts itself.
    """
    try:
        version = msgspec.json.decode(data, type=_Version).format
        if version > FORMAT:
            raise UnknownFormat(
                f"The checkpoint has format {version}",
                f"this Spotweld knows formats up to {FORMAT}",
                "Upgrade Spotweld on this machine.",
            )
        manifest = msgspec.json.decode(data, type=Manifest)
        _check(manifest, run)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Corrupt("The manifest cannot be read", str(error)) from None
    return manifest


def manifests_prefix(run: str) -> str:
    """Where a run's manifests lie."""
    return f"runs/{run}/manifests/"


def packs_prefix(run: str) -> str:
    """Where a run's packs lie."""
    return f"runs/{run}/packs/"


def manifest_key(run: str, epoch: int, step: int, name: Digest) -> str:
    """The key of a manifest."""
    return f"{manifests_prefix(run)}{epoch:08d}-{step:012d}-{hex_of(name)}.json"


def pack_key(run: str, epoch: int, serial: int, name: Digest) -> str:
    """The key of a pack.

    Args:
        run: the run.
        epoch: of the attempt that writes it.
        serial: counts the packs that this epoch has begun to write, so that no name is ever used twice.
        name: digest of its bytes.
    """
    return f"{packs_prefix(run)}{epoch:08d}-{serial:08d}-{hex_of(name)}"


def epoch_of(key: str) -> int | None:
    """The epoch in the name of a manifest or a pack; None if it is no such name."""
    found = re.fullmatch(r"(\d{1,12})-.*", key.rpartition("/")[2])
    return int(found[1]) if found else None


def leaf_size(record: LeafRecord) -> int:
    """Bytes of the leaf."""
    return sum(segment.raw for segment in record.segments)


def _check(manifest: Manifest, run: str) -> None:
    _require(manifest.format == FORMAT, f"format {manifest.format}")
    _require(manifest.run == run, f"it belongs to the run {manifest.run[:80]!r}")
    _require(min(manifest.step, manifest.epoch, manifest.number) >= 0, "a negative count")
    name = re.compile(re.escape(packs_prefix(run)) + r"[0-9A-Za-z-]{1,128}")
    for pack in manifest.packs:
        _require(bool(name.fullmatch(pack.key)), f"a pack outside of the run: {pack.key[:120]!r}")
        _require(0 < pack.size <= PACK_LIMIT, f"a pack of {pack.size} bytes")
        parse_digest(pack.digest)
    for leaf in manifest.leaves:
        _check_leaf(leaf, manifest.packs)


def _check_leaf(leaf: LeafRecord, packs: tuple[Pack, ...]) -> None:
    _require(all(length >= 0 for length in leaf.shape), f"the shape {leaf.shape}")
    wanted = math.prod(leaf.shape) * itemsize(leaf.kind, leaf.dtype)
    _require(wanted == leaf_size(leaf), f"a leaf of {wanted} bytes in segments of {leaf_size(leaf)}")
    seen: dict[int, int] = {}
    for segment in leaf.segments:
        _require(0 <= segment.pack < len(packs), f"no pack {segment.pack}")
        _require(segment.codec == RAW and segment.stored == segment.raw, f"the codec {segment.codec[:40]!r}")
        end = segment.offset + segment.stored
        _require(
            segment.raw > 0 and segment.offset >= 0 and end <= packs[segment.pack].size, "a segment outside its pack"
        )
        # A leaf's pieces lie one after another, so a short pack cannot be made to stand for a huge leaf.
        _require(segment.offset >= seen.get(segment.pack, 0), "segments that overlap")
        seen[segment.pack] = end
        parse_digest(segment.digest)


def _require(fine: bool, wrong: str) -> None:
    if not fine:
        raise ValueError(wrong)
