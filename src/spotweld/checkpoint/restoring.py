"""From a published checkpoint to a state: the newest one whose every byte is what was written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from spotweld.checkpoint.arrays import allocate, build
from spotweld.checkpoint.format import MANIFEST_LIMIT, Manifest, decode, leaf_size
from spotweld.checkpoint.tree import unflatten
from spotweld.errors import Corrupt, Fenced, NotFound, NoWholeCheckpoint
from spotweld.store.blobs import get_blob
from spotweld.store.heads import Kept, read_head
from spotweld.values.digests import digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotweld.store.objects import Objects


class Found(msgspec.Struct, frozen=True):
    """The checkpoint that is used."""

    kept: Kept
    manifest: Manifest
    state: Any
    rng: Any
    damaged: tuple[tuple[Kept, str], ...]
    """Newer ones that are damaged, and how."""


def find_newest(objects: Objects, run: str, kept: Sequence[Kept], *, epoch: int | None = None) -> Found | None:
    """Read the newest whole checkpoint; None if the run has none at all.

    Args:
        objects: the store.
        run: the run's name.
        kept: what its head names, newest first.
        epoch: under which the caller has taken the run over; None: it only looks.

    Raises:
        Fenced: checkpoints are missing because a later attempt has taken over and dropped them.
        NoWholeCheckpoint: there are some, and every one is damaged.
        UnknownFormat: the newest readable one was written by a newer Spotweld.
        Unavailable: the store did not answer; that is no damage.
    """
    damaged: list[tuple[Kept, str]] = []
    for one in kept:
        try:
            manifest = read_manifest(objects, run, one)
            leaves = _read_leaves(objects, manifest)
            state, rng = unflatten(manifest.state, leaves), unflatten(manifest.rng, leaves)
        except (Corrupt, NotFound) as error:
            if not damaged and epoch is not None:
                _check_owner(objects, run, epoch)
            damaged.append((one, str(error)))
        else:
            return Found(one, manifest, state, rng, tuple(damaged))
    if damaged:
        raise NoWholeCheckpoint(
            f"All {len(damaged)} checkpoints of the run {run} are damaged",
            "; ".join(f"step {one.step}: {why}" for one, why in damaged),
            "To start over, use another run name.",
        )
    return None


def _check_owner(objects: Objects, run: str, epoch: int) -> None:
    current = read_head(objects, run)
    if current is None or current.epoch != epoch:
        raise Fenced(f"Run {run} has been taken over", "its checkpoints were dropped while they were being read")


def read_manifest(objects: Objects, run: str, kept: Kept) -> Manifest:
    """The manifest that a head names, verified and checked.

    Raises:
        NotFound: it is missing.
        Corrupt: it is not what was written, or does not say what the head says.
        UnknownFormat: a newer Spotweld wrote it.
    """
    if not 0 < kept.size <= MANIFEST_LIMIT:
        raise Corrupt(f"{kept.key} is damaged", f"a manifest of {kept.size} bytes")
    manifest = decode(get_blob(objects, kept.key, kept.digest, kept.size), run)
    if manifest.step != kept.step:
        raise Corrupt(f"{kept.key} is damaged", f"it is of step {manifest.step}, the head says {kept.step}")
    return manifest


def _read_leaves(objects: Objects, manifest: Manifest) -> list[object]:
    """All leaves, once every pack has been verified. One pack at a time is held beside them."""
    memory = [allocate(leaf_size(record)) for record in manifest.leaves]
    inside: list[list[tuple[int, int, int]]] = [[] for _ in manifest.packs]
    for number, record in enumerate(manifest.leaves):
        at = 0
        for place, segment in enumerate(record.segments):
            inside[segment.pack].append((number, place, at))
            at += segment.raw
    for index, pack in enumerate(manifest.packs):
        data = memoryview(get_blob(objects, pack.key, pack.digest, pack.size))
        for number, place, at in inside[index]:
            segment = manifest.leaves[number].segments[place]
            piece = data[segment.offset : segment.offset + segment.stored]
            if segment.digest != pack.digest and digest(piece) != segment.digest:
                raise Corrupt(f"{pack.key} is damaged", f"the digest of a segment of leaf {number} differs")
            memory[number][at : at + segment.raw] = piece
    return [
        build(record.kind, record.dtype, record.shape, data)
        for record, data in zip(manifest.leaves, memory, strict=True)
    ]
