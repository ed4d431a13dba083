"""From a published checkpoint to a state: the newest one whose every byte is what was written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from spotweld.checkpoint.arrays import allocate, build, writable
from spotweld.checkpoint.format import MANIFEST_LIMIT, Manifest, decode
from spotweld.checkpoint.reading import read
from spotweld.checkpoint.tiers import Candidate
from spotweld.checkpoint.tree import unflatten
from spotweld.errors import Corrupt, Fenced, NotFound, NoWholeCheckpoint, Unavailable
from spotweld.store.blobs import get_blob
from spotweld.store.heads import Kept, read_head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from spotweld.checkpoint.devices import Place
    from spotweld.checkpoint.format import LeafRecord
    from spotweld.store.objects import Objects


class Restored(msgspec.Struct, frozen=True):
    """The checkpoint that is used."""

    kept: Kept
    manifest: Manifest
    damaged: tuple[tuple[Kept, str], ...]
    """Newer ones, or better places of the same one, that are damaged, and how."""
    tier: str
    """Where it was found, as its candidate says."""


class Found(Restored, frozen=True):
    """One whose values have been read."""

    state: Any
    rng: Any


def find_newest(
    objects: Objects,
    run: str,
    kept: Sequence[Kept],
    *,
    epoch: int | None = None,
    places: Callable[[Manifest], Mapping[int, Any]] | None = None,
) -> Found | None:
    """Read the newest whole checkpoint of a store; None if the run has none at all.

    Args:
        objects: the store.
        run: the run's name.
        kept: what its head names, newest first.
        epoch: under which the caller has taken the run over; None: it only looks.
        places: as for ``find_best``.

    Raises:
        CheckpointError, StoreError: as ``find_best``.
    """
    owner = None if epoch is None else lambda: check_owner(objects, run, epoch)
    return find_best(run, [Candidate(objects, run, one, "") for one in kept], owner=owner, places=places)


def find_best(
    run: str,
    candidates: Sequence[Candidate],
    *,
    owner: Callable[[], None] | None = None,
    places: Callable[[Manifest], Mapping[int, Any]] | None = None,
) -> Found | None:
    """Read the first whole checkpoint; None if there is none at all.

    Args:
        run: the run's name.
        candidates: best first.
        owner: called when one is damaged, and raises ``Fenced`` if that has a simple reason.
        places: gives the arrays that are to be filled in place, by the number of the leaf; it may refuse a checkpoint
            by raising what it likes. The arrays are overwritten even if the checkpoint proves to be damaged.

    Raises:
        Fenced: checkpoints are missing because a later attempt has taken over and dropped them.
        NoWholeCheckpoint: there are some, and every one is damaged.
        UnknownFormat: the newest readable one was written by a newer Spotweld.
        Unavailable: the store did not answer; that is no damage.
    """
    damaged: list[tuple[Kept, str]] = []
    for one in candidates:
        try:
            manifest = read_manifest(one.objects, one.run, one.kept)
            unflatten(manifest.state, manifest.leaves)  # a tree that is damaged is found before anything is read
            leaves = read_leaves(one.objects, manifest, places(manifest) if places else None)
            values = [leaves[number] for number in range(len(manifest.leaves))]
            state, rng = unflatten(manifest.state, values), unflatten(manifest.rng, values)
        except (Corrupt, NotFound, Unavailable) as error:
            if isinstance(error, Unavailable) and not one.tier:
                raise
            if owner is not None:
                owner()
            damaged.append((one.kept, f"{error} (in {one.tier})" if one.tier else str(error)))
        else:
            return Found(one.kept, manifest, tuple(damaged), one.tier, state, rng)
    if damaged:
        raise all_damaged(run, damaged)
    return None


def all_damaged(run: str, damaged: Sequence[tuple[Kept, str]]) -> NoWholeCheckpoint:
    """There are checkpoints, and none is of use."""
    return NoWholeCheckpoint(
        f"All {len(damaged)} checkpoints of the run {run} are damaged",
        "; ".join(f"step {one.step}: {why}" for one, why in damaged),
        "To start over, use another run name.",
    )


def check_owner(objects: Objects, run: str, epoch: int) -> None:
    """Raise ``Fenced`` if the run has another epoch by now."""
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


def read_leaves(
    objects: Objects, manifest: Manifest, places: Mapping[int, Any] | None = None, wanted: Iterable[int] | None = None
) -> dict[int, object]:
    """The values of leaves, every byte of them verified.

    Args:
        objects: the store.
        manifest: of the checkpoint, verified.
        places: arrays that are filled in place and returned, by the number of the leaf.
        wanted: numbers of the leaves; None: all.

    Raises:
        Corrupt, NotFound, Unavailable: as ``reading.read``; the arrays in ``places`` may be overwritten in part.
    """
    numbers = range(len(manifest.leaves)) if wanted is None else wanted
    return values_of(manifest.leaves, lambda memory: read(objects, manifest, memory), places, numbers)


def values_of(
    leaves: Sequence[LeafRecord],
    fill: Callable[[Mapping[int, Place]], None],
    places: Mapping[int, Any] | None,
    wanted: Iterable[int],
) -> dict[int, object]:
    """The values of arrays, by number.

    Args:
        leaves: what they are.
        fill: fetches the bytes of some to where they are wanted.
        places: as for ``read_leaves``.
        wanted: numbers of the arrays.
    """
    places = places or {}
    memory: dict[int, Place] = {}
    made: dict[int, memoryview] = {}
    values: dict[int, object] = {}
    for number in wanted:
        record = leaves[number]
        if number in places:
            values[number] = places[number]
            memory[number] = writable(places[number])
        else:
            memory[number] = made[number] = allocate(record.size)
    fill(memory)
    for number, data in made.items():
        record = leaves[number]
        values[number] = build(record.kind, record.dtype, record.shape, data)
    return values
