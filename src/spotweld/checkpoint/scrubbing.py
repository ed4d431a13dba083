"""Reading every byte of a checkpoint, to know that it is there and is what was written."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from spotweld.checkpoint.choice import entries
from spotweld.checkpoint.inventory import inventory_of
from spotweld.checkpoint.reading import Buffers, read_chunk
from spotweld.errors import Corrupt, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping

    from spotweld.checkpoint.format import Chunk, Manifest
    from spotweld.store.objects import Objects
    from spotweld.values.digests import Digest

Spot: TypeAlias = "tuple[str, int, int, Digest]"
"""Where stored bytes lie, and what they must decode to: the same for all checkpoints that share them."""
RNG = "(rng)"
"""Stands ahead of the paths of the random number generators' states."""


class Damage(msgspec.Struct, frozen=True):
    """A leaf that cannot be read."""

    leaf: str
    why: str


def spots(manifest: Manifest) -> dict[Spot, Chunk]:
    """The stored bytes that a checkpoint needs, each once."""
    return {_spot(manifest, chunk): chunk for chunk in manifest.chunks}


def scrub(
    objects: Objects,
    manifest: Manifest,
    known: MutableMapping[Spot, str],
    told: Callable[[int], None] = lambda _size: None,
) -> tuple[Damage, ...]:
    """Read every chunk, and say which leaves are damaged.

    Args:
        objects: the store.
        manifest: of the checkpoint, verified.
        known: what was wrong with chunks that were read before, empty for those that are whole; it is added to.
        told: called with the stored bytes of each chunk that was read; from several threads, one at a time.

    Raises:
        Unavailable: the store did not answer.
    """
    lock, local = threading.Lock(), threading.local()
    todo = {spot: chunk for spot, chunk in spots(manifest).items() if spot not in known}

    def read(spot: Spot) -> None:
        if not hasattr(local, "buffers"):
            local.buffers = Buffers()
        chunk, why = todo[spot], ""
        try:
            read_chunk(objects, manifest, chunk, local.buffers.get("decoded", chunk.raw), local.buffers)
        except (Corrupt, NotFound, ValueError) as error:
            why = str(error)
        with lock:
            known[spot] = why
            told(chunk.stored)

    order = sorted(todo, key=lambda spot: spot[:2])
    with ThreadPoolExecutor(objects.streams, "spotweld scrub") as pool:
        running = [pool.submit(read, spot) for spot in order]
        try:
            for one in running:
                one.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    names = dict(leaf_names(manifest))
    found: list[Damage] = []
    for number in range(len(manifest.leaves)):
        wrong = [why for at in span(manifest, number) if (why := known[_spot(manifest, manifest.chunks[at])])]
        if wrong:
            found.append(Damage(names.get(number, f"leaf {number}"), wrong[0]))
    return tuple(found)


def leaf_names(manifest: Manifest) -> Iterator[tuple[int, str]]:
    """The number and the path of every leaf, those of the random number generators among them.

    All shards of an array have its path.
    """
    inventory = inventory_of(manifest)
    for entry in entries(inventory.state):
        if entry.leaf is not None:
            for piece in inventory.pieces(entry.leaf):
                yield piece.leaf, entry.path
    for entry in entries(manifest.rng):
        if entry.leaf is not None:
            yield entry.leaf, in_rng(entry.path)


def in_rng(path: str) -> str:
    """The path of something in the generators' states; those of a group are a list by rank."""
    return f"{RNG}{path}" if path.startswith("[") else f"{RNG}.{path}"


def span(manifest: Manifest, number: int) -> range:
    """The chunks in which a leaf lies."""
    record = manifest.leaves[number]
    at, missing = record.chunk, record.size + record.offset
    if not record.size:
        return range(0)
    while missing > 0:
        missing -= manifest.chunks[at].raw
        at += 1
    return range(record.chunk, at)


def _spot(manifest: Manifest, chunk: Chunk) -> Spot:
    return manifest.packs[chunk.pack].key, chunk.offset, chunk.stored, chunk.digest
