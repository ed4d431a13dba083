"""The one place that knows how the engine stores bytes: files as leaves into a checkpoint, and out of it again.

Neither way holds more than a few chunks in memory.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

import msgspec

from spotweld.checkpoint.arrays import Kind
from spotweld.checkpoint.format import LeafRecord
from spotweld.checkpoint.layout import CHUNK, SMALL, lay_out
from spotweld.checkpoint.reading import Buffers, read_chunk
from spotweld.checkpoint.snapshot import Content, Snapshot
from spotweld.values.digests import Digest, checksum

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from spotweld.checkpoint.format import Manifest
    from spotweld.checkpoint.layout import Plan
    from spotweld.checkpoint.publishing import Publisher
    from spotweld.checkpoint.staging import Staging
    from spotweld.checkpoint.tree import Node
    from spotweld.store.heads import Kept
    from spotweld.store.objects import Objects
    from spotweld.values.clocks import Clock

MEMORY = 32 * CHUNK
"""Bytes of staging memory, at most."""
Local: TypeAlias = Callable[[int, int, memoryview], bool]
"""Fills the memory with the bytes of a leaf (its number) from an offset on; False if they are not on this machine."""
Take: TypeAlias = Callable[[int, int, memoryview], object]
"""Is given a leaf's number, an offset in it, and the bytes that are there. May be called from several threads."""


class Body(Protocol):
    """The bytes of one leaf, wherever they are."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    @property
    def digests(self) -> Sequence[Digest]:
        """Of its chunks, if they are stored already, so that it need not be read; else empty."""
        ...

    def read(self, start: int, into: memoryview) -> None:
        """Fill ``into`` with the bytes from ``start`` on."""
        ...


def publish(
    publisher: Publisher, step: int, tree: Node, contents: Sequence[Body], staging: Staging, clock: Clock
) -> Kept:
    """Store the contents as leaves 0, 1, 2, ... of the tree, and make that the run's newest checkpoint.

    Raises:
        Fenced: a later attempt owns the run.
        StoreError: it could not be stored.
        OSError: a content could not be read.
    """
    layout = lay_out([content.size for content in contents], [""] * len(contents))
    source = _Source(contents, layout.chunks)
    leaves = tuple(
        LeafRecord(Kind.BYTES, "", (content.size,), chunk, offset)
        for content, (chunk, offset) in zip(contents, layout.places, strict=True)
    )
    sizes = tuple(plan.size for plan in layout.chunks)
    staging.reserve(sizes)
    content = Content(tree, {"dict": []}, leaves, sizes)
    snapshot = Snapshot(content, source, step, staging, clock, clock.monotonic())
    known = {number: digest for number in range(len(sizes)) if (digest := source.digest(number)) is not None}
    copying = threading.Thread(target=snapshot.copy, args=(known,), name="spotweld directory copy", daemon=True)
    copying.start()
    try:
        return publisher.publish(snapshot)
    except BaseException:
        snapshot.discard()
        raise
    finally:
        copying.join()


class _Source:
    """The contents as chunks."""

    def __init__(self, contents: Sequence[Body], chunks: Sequence[Plan]) -> None:
        self._contents, self._chunks = contents, chunks

    def digest(self, number: int) -> Digest | None:
        first = self._chunks[number].parts[0]
        digests = self._contents[first.leaf].digests
        return digests[first.start // CHUNK] if digests else None

    def is_plain(self, _number: int) -> bool:
        return False

    def copy(self, number: int, into: memoryview) -> None:
        end = 0
        for part in self._chunks[number].parts:
            into[end : part.offset] = bytes(part.offset - end)
            end = part.offset + part.size
            self._contents[part.leaf].read(part.start, into[part.offset : end])
        into[end:] = bytes(into.nbytes - end)


def stored_digests(publisher: Publisher, leaf: int) -> tuple[Digest, ...]:
    """Of the chunks of a leaf of the newest checkpoint, if it has some of its own that may be referred to."""
    manifest = publisher.newest
    if manifest is None:
        return ()
    record = manifest.leaves[leaf]
    chunks = manifest.chunks[record.chunk : record.chunk - (-record.size // CHUNK)]
    alone = lay_out([record.size], [""]).chunks
    # A small file may share its chunk, whose digest then tells of its neighbours as well.
    if record.size < SMALL or record.offset or [plan.size for plan in alone] != [chunk.raw for chunk in chunks]:
        return ()
    known = all(publisher.has(chunk.digest, chunk.raw) for chunk in chunks)
    return tuple(chunk.digest for chunk in chunks) if known else ()


class _Part(msgspec.Struct, frozen=True):
    """A piece of a leaf in a chunk."""

    leaf: int
    start: int
    """Bytes from the leaf's start."""
    offset: int
    """Bytes from the chunk's start."""
    size: int


def pieces(objects: Objects, manifest: Manifest) -> Iterator[tuple[int, int, memoryview]]:
    """All bytes of all leaves, verified: (leaf, offset, bytes), each leaf's in rising order.

    The bytes are good until the next ones are asked for.

    Raises:
        Corrupt: the store's bytes are not what was saved.
        NotFound: they are missing.
        Unavailable: the store did not answer.
    """
    parts, buffers = _parts(manifest), Buffers()
    for number in sorted(parts):
        data = buffers.get("whole", manifest.chunks[number].raw)
        read_chunk(objects, manifest, manifest.chunks[number], data, buffers)
        for part in parts[number]:
            yield part.leaf, part.start, data[part.offset : part.offset + part.size]


def fetch(objects: Objects, manifest: Manifest, local: Local, take: Take) -> None:
    """Give all bytes of all leaves to ``take``, verified, in several threads and in any order.

    Args:
        objects: the store.
        manifest: what is read.
        local: is asked first. What it gives is used only if it is what was saved.
        take: see ``Take``; what it raises comes out of here.

    Raises:
        Corrupt, NotFound, Unavailable: as ``pieces``.
    """
    parts = _parts(manifest)
    order = iter(sorted(parts, key=lambda at: (manifest.chunks[at].pack, manifest.chunks[at].offset)))
    lock, failures = threading.Lock(), list[BaseException]()

    def work() -> None:
        buffers = Buffers()
        try:
            while not failures:
                with lock:
                    number = next(order, None)
                if number is None:
                    return
                data = buffers.get("whole", manifest.chunks[number].raw)
                if not _from_here(manifest, number, parts[number], local, data):
                    read_chunk(objects, manifest, manifest.chunks[number], data, buffers)
                for part in parts[number]:
                    take(part.leaf, part.start, data[part.offset : part.offset + part.size])
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits for all
            failures.append(error)

    count = max(1, min(objects.streams, len(parts)))
    others = [threading.Thread(target=work, name="spotweld fetch", daemon=True) for _ in range(count - 1)]
    for thread in others:
        thread.start()
    work()
    for thread in others:
        thread.join()
    if failures:
        raise failures[0]


def holds(manifest: Manifest, local: Local) -> bool:
    """Whether ``local`` gives every byte of every leaf as it was saved."""
    buffers = Buffers()
    return all(
        _from_here(manifest, number, parts, local, buffers.get("whole", manifest.chunks[number].raw))
        for number, parts in _parts(manifest).items()
    )


def _parts(manifest: Manifest) -> dict[int, list[_Part]]:
    """What each chunk holds."""
    found: dict[int, list[_Part]] = defaultdict(list)
    for leaf, record in enumerate(manifest.leaves):
        at, offset, start = record.chunk, record.offset, 0
        while start < record.size:
            size = min(record.size - start, manifest.chunks[at].raw - offset)
            if size > 0:
                found[at].append(_Part(leaf, start, offset, size))
                start += size
            at, offset = at + 1, max(0, offset - manifest.chunks[at].raw)
    return dict(found)


def _from_here(manifest: Manifest, number: int, parts: Sequence[_Part], local: Local, into: memoryview) -> bool:
    """Fill ``into`` with a chunk from what this machine has; False if that is not what was saved."""
    end = 0
    for part in sorted(parts, key=lambda part: part.offset):
        if part.offset > end:
            into[end : part.offset] = bytes(part.offset - end)
        end = part.offset + part.size
        if not local(part.leaf, part.start, into[part.offset : end]):
            return False
    into[end:] = bytes(into.nbytes - end)
    return checksum(into) == manifest.chunks[number].digest
