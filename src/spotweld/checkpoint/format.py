"""The bytes of a checkpoint: a JSON manifest that says where its chunks lie. docs/format.md describes it for others."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import msgspec

from spotweld.checkpoint.arrays import Kind, itemsize
from spotweld.checkpoint.layout import CHUNK
from spotweld.errors import Corrupt, UnknownFormat
from spotweld.values.digests import Digest, hex_of, parse_digest

if TYPE_CHECKING:
    from spotweld.values.digests import Data

FORMAT = 1
"""Rises when a reader of the former number would misread; such a reader then refuses."""
MANIFEST_LIMIT = 256 * 2**20
"""Bytes; more is refused before it is read."""
PACK_LIMIT = 64 * 2**20
"""Bytes in a pack, at most."""
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
RAW = "raw"
"""The codec of bytes that are stored as they are."""
_CODED = re.compile(r"zstd|(?:planes|scaled)[248]|(delta[248])")


class Pack(msgspec.Struct, frozen=True):
    """One immutable object that holds chunks, written for this checkpoint or for an earlier one."""

    key: str
    size: int
    """Bytes."""


class Chunk(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Some bytes of the state, and where they lie."""

    pack: int
    """Index into the manifest's packs."""
    offset: int
    """Bytes from the pack's start."""
    stored: int
    """Bytes in the pack."""
    raw: int
    """Bytes after decoding."""
    digest: Digest
    """Of the decoded bytes."""
    codec: str = RAW
    check: Digest | None = None
    """Of the stored bytes, to be compared before they are decoded; None: they are the decoded ones."""
    base: Chunk | None = None
    """What the codec needs besides; has no base itself."""


class LeafRecord(msgspec.Struct, frozen=True, gc=False):
    """One array-like value."""

    kind: Kind
    dtype: str
    shape: tuple[int, ...]
    chunk: int
    """Index of the chunk in which it begins; it goes on in those that follow."""
    offset: int
    """Bytes from that chunk's start, decoded."""

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * itemsize(self.kind, self.dtype)


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
    chunks: tuple[Chunk, ...]
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


def pack_key(run: str, epoch: int, writer: int, serial: int) -> str:
    """The key of a pack.

    Args:
        run: the run.
        epoch: of the attempt that writes it.
        writer: which process of the attempt writes it, from 0.
        serial: counts the packs that this process has begun to write, so that no name is ever used twice.
    """
    return f"{packs_prefix(run)}{epoch:08d}-{writer:04d}-{serial:08d}"


def epoch_of(key: str) -> int | None:
    """The epoch in the name of a manifest or a pack; None if it is no such name."""
    found = re.fullmatch(r"(\d{1,12})-.*", key.rpartition("/")[2])
    return int(found[1]) if found else None


def _check(manifest: Manifest, run: str) -> None:
    _require(manifest.format == FORMAT, f"format {manifest.format}")
    _require(manifest.run == run, f"it belongs to the run {manifest.run[:80]!r}")
    _require(min(manifest.step, manifest.epoch, manifest.number) >= 0, "a negative count")
    name = re.compile(re.escape(packs_prefix(run)) + r"[0-9-]{1,128}")
    for pack in manifest.packs:
        _require(bool(name.fullmatch(pack.key)), f"a pack outside of the run: {pack.key[:120]!r}")
        _require(0 < pack.size <= PACK_LIMIT, f"a pack of {pack.size} bytes")
    for chunk in manifest.chunks:
        _check_chunk(chunk, manifest.packs)
        if chunk.base is not None:
            _check_chunk(chunk.base, manifest.packs)
            _require(chunk.base.base is None and chunk.base.raw == chunk.raw, "a base that cannot be one")
    for leaf in manifest.leaves:
        _check_leaf(leaf, manifest.chunks)


def _check_chunk(chunk: Chunk, packs: tuple[Pack, ...]) -> None:
    _require(0 <= chunk.pack < len(packs), f"no pack {chunk.pack}")
    end = chunk.offset + chunk.stored
    _require(chunk.stored > 0 and chunk.offset >= 0 and end <= packs[chunk.pack].size, "a chunk outside its pack")
    _require(0 < chunk.raw <= CHUNK, f"a chunk of {chunk.raw} bytes")
    parse_digest(chunk.digest)
    if chunk.codec == RAW:
        _require(chunk.stored == chunk.raw and chunk.base is None, "a raw chunk that is not as long as its bytes")
        return
    codec = _CODED.fullmatch(chunk.codec)
    if codec is None:
        raise UnknownFormat(
            f"The checkpoint has a chunk in the codec {chunk.codec[:40]!r}",
            "this Spotweld does not know it",
            "Upgrade Spotweld on this machine.",
        )
    _require(codec[1] is None or chunk.base is not None, "a difference without what it is taken against")
    _require(chunk.check is not None, "an encoded chunk without a digest of its stored bytes")
    parse_digest(chunk.check or "")


def _check_leaf(leaf: LeafRecord, chunks: tuple[Chunk, ...]) -> None:
    _require(all(length >= 0 for length in leaf.shape), f"the shape {leaf.shape}")
    missing = leaf.size + leaf.offset
    _require(leaf.chunk >= 0 and leaf.offset >= 0, "a leaf before the first chunk")
    at = leaf.chunk
    while leaf.size and missing > 0:
        _require(at < len(chunks), f"a leaf of {leaf.size} bytes that ends behind the last chunk")
        missing -= chunks[at].raw
        at += 1
    _require(not leaf.size or leaf.offset < chunks[leaf.chunk].raw, "a leaf that begins behind its chunk")


def _require(fine: bool, wrong: str) -> None:
    if not fine:
        raise ValueError(wrong)
