"""The bytes of a published checkpoint: fetched in several streams, checked before use, put where they belong."""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING

import msgspec

from spotweld.checkpoint.codecs import decode
from spotweld.checkpoint.devices import DeviceMemory, Place, finish, pinned, wait_for
from spotweld.checkpoint.format import RAW, Chunk, Manifest
from spotweld.checkpoint.layout import CHUNK
from spotweld.checkpoint.threads import beside, next_of
from spotweld.errors import Corrupt
from spotweld.values.digests import checksum

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from spotweld.store.objects import Objects
    from spotweld.values.digests import Digest

_THREADS = 4
"""Chunks that are fetched at once: each thread waits for one after the other."""
_TODO = "Nothing was read from it. Its disk may be failing; a run falls back to its previous whole checkpoint."


class Want(msgspec.Struct, frozen=True):
    """A piece of a chunk, and where it is wanted."""

    start: int
    """Bytes from the start of the decoded chunk."""
    into: Place


def wants(manifest: Manifest, leaves: Mapping[int, Place]) -> dict[int, list[Want]]:
    """Which pieces of which chunks make up these leaves.

    Args:
        manifest: the checkpoint.
        leaves: by number: where the bytes of each are wanted; all of its size.
    """
    found: dict[int, list[Want]] = defaultdict(list)
    for number, into in leaves.items():
        record = manifest.leaves[number]
        at, start, rest = record.chunk, record.offset, into
        while rest:
            part = rest[: manifest.chunks[at].raw - start]
            if part:
                found[at].append(Want(start, part))
            rest, at, start = rest[part.nbytes :], at + 1, 0
    return dict(found)


def read(objects: Objects, manifest: Manifest, leaves: Mapping[int, Place]) -> None:
    """Fill these leaves. What lies there when an error is raised is undefined.

    Args:
        objects: the store.
        manifest: of the checkpoint, verified.
        leaves: as for ``wants``.

    Raises:
        Corrupt: a chunk is not what was written.
        NotFound: a pack is missing.
        Unavailable: the store did not answer.
    """
    read_wants(objects, manifest, wants(manifest, leaves))


def read_wants(objects: Objects, manifest: Manifest, wanted: Mapping[int, Sequence[Want]]) -> None:
    """Read pieces of chunks, by the number of the chunk; each chunk is verified before it is used.

    Raises:
        Corrupt, NotFound, Unavailable: as ``read``.
    """
    wait_for(want.into.row for wants in wanted.values() for want in wants if isinstance(want.into, DeviceMemory))
    # In the order in which they lie in the store: neighbours are read ahead.
    todo = deque(sorted(wanted, key=lambda at: (manifest.chunks[at].pack, manifest.chunks[at].offset)))

    def work() -> None:
        buffers = Buffers()
        try:
            while (number := next_of(todo)) is not None:
                _serve(objects, manifest, manifest.chunks[number], wanted[number], buffers)
        except BaseException:
            todo.clear()  # the others stop
            raise

    size = sum(manifest.chunks[at].raw for at in todo)
    threads = min(_THREADS, 1 + size // (2 * CHUNK))  # a thread costs more than a small chunk
    with beside(work, threads - 1, "spotweld read"):
        work()


class Buffers:
    """One thread's memory for chunks on their way, made when it is first needed and then used again."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, bool], memoryview] = {}

    def get(self, name: str, size: int, *, to_device: bool = False) -> memoryview:
        """``size`` bytes of the buffer of that name, with undefined content; pinned if they go ``to_device``."""
        key, most = (name, to_device), max(size, CHUNK)
        if key not in self._made or self._made[key].nbytes < size:
            self._made[key] = (pinned(most) if to_device else None) or memoryview(bytearray(most))
        return self._made[key][:size]


def read_chunk(objects: Objects, manifest: Manifest, chunk: Chunk, into: memoryview, buffers: Buffers) -> None:
    """Fetch one chunk, check it, and decode it into ``into``, which has its size.

    Raises:
        Corrupt: it is not what was written.
        NotFound: its pack is missing.
        Unavailable: the store did not answer.
    """
    base = None
    if chunk.base is not None:
        base = buffers.get("base", chunk.base.raw)
        read_chunk(objects, manifest, chunk.base, base, buffers)
    key = manifest.packs[chunk.pack].key
    stored = into if chunk.codec == RAW else buffers.get("stored", chunk.stored)
    found = objects.read_into(key, chunk.offset, stored)
    if found != chunk.stored:
        raise Corrupt(f"{key} is damaged", f"it ends {chunk.stored - found} bytes too early", _TODO)
    if chunk.check is not None:
        _verify(stored, chunk.check, key, chunk)
        decode(stored, chunk.codec, into, base)
    _verify(into, chunk.digest, key, chunk)


def _serve(objects: Objects, manifest: Manifest, chunk: Chunk, wanted: Sequence[Want], buffers: Buffers) -> None:
    """Read a chunk, straight to its place if that is one in this machine's memory."""
    (first, *others) = wanted
    if not others and isinstance(first.into, memoryview) and first.into.nbytes == chunk.raw:
        read_chunk(objects, manifest, chunk, first.into, buffers)
        return
    rows = [want.into.row for want in wanted if isinstance(want.into, DeviceMemory)]
    whole = buffers.get("whole", chunk.raw, to_device=bool(rows))
    read_chunk(objects, manifest, chunk, whole, buffers)
    try:
        for want in wanted:
            want.into[:] = whole[want.start : want.start + want.into.nbytes]
    finally:
        finish(rows)  # nothing reads the buffer any more when it is used again


def _verify(data: memoryview, wanted: Digest, key: str, chunk: Chunk) -> None:
    if (found := checksum(data)) != wanted:
        raise Corrupt(
            f"{key} is damaged", f"the digest of the chunk at {chunk.offset} is {found} instead of {wanted}", _TODO
        )
