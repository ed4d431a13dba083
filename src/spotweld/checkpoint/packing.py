"""From chunks to packs: check, encode and write, in several threads that each fill a pack of their own."""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Protocol

import msgspec

from spotweld.checkpoint.format import PACK_LIMIT, RAW
from spotweld.checkpoint.layout import CHUNK
from spotweld.checkpoint.threads import beside
from spotweld.store.blobs import put_blob
from spotweld.store.pieces import size_of
from spotweld.values.digests import Data, Digest, checksum

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from spotweld.checkpoint.snapshot import Filled, Snapshot
    from spotweld.store.objects import Objects


class Stored(msgspec.Struct, frozen=True, gc=False):
    """A chunk in the store. Like ``format.Chunk``, but it names its pack by key."""

    key: str
    offset: int
    stored: int
    raw: int
    digest: Digest
    codec: str = RAW
    check: Digest | None = None
    base: Stored | None = None


class Coded(msgspec.Struct, frozen=True):
    """A chunk's bytes as they are to be stored."""

    data: bytes
    codec: str
    check: Digest
    base: Stored | None


class Coder(Protocol):
    """Makes chunks smaller. May be called from several threads at once."""

    def encode(self, number: int, data: memoryview) -> Coded | None:
        """The chunk of that number; None: it is stored as it is."""
        ...

    def sent(self, size: int, seconds: float, at_once: int) -> None:
        """So many bytes took so long to the store, while as many transfers as that ran."""
        ...


class Packer:
    """Stores the chunks of one snapshot. For one use.

    Args:
        objects: the store.
        new_key: gives the key of a new pack; may be called from any thread.
        known: chunks that are stored already, by digest and size.
        coder: what makes chunks smaller; None: they are stored as they are.
    """

    def __init__(
        self,
        objects: Objects,
        new_key: Callable[[], str],
        known: Mapping[tuple[Digest, int], Stored],
        coder: Coder | None = None,
    ) -> None:
        self._objects, self._new_key, self._coder = objects, new_key, coder
        self._known = dict(known)
        self._failed = False
        """One thread has: the others stop."""
        self._threads = 1
        self._most = min(PACK_LIMIT, objects.portion) - CHUNK
        """Bytes in a pack after which another chunk might be too much."""
        self.chunks: dict[int, Stored] = {}
        """By their number in the layout."""
        self.sizes: dict[str, int] = {}
        """Of the packs that were written, in bytes, by key."""

    def store(self, snapshot: Snapshot) -> None:
        """Store all chunks; durable when it returns.

        Raises:
            StoreError: the store did not take one.
            Exception: the copy of the state failed.
        """
        portion = min(PACK_LIMIT, self._objects.portion)
        packs = -(-sum(snapshot.content.sizes) // portion)
        # All open packs together must leave a buffer for the copy that is going on.
        most = snapshot.staging.at_once or sys.maxsize
        self._threads = threads = max(1, min(self._objects.streams, packs, most - 1))
        limit = max(1, (most - 1) // threads)
        work = partial(self._work, snapshot, limit)
        with beside(work, threads - 1, "spotweld pack"):
            work()

    def _work(self, snapshot: Snapshot, limit: int) -> None:
        """Fill one pack after another, as long as there are chunks."""
        held: list[Filled] = []
        try:
            key, pieces, size = "", list[Data](), 0
            for chunk in snapshot.chunks():
                held.append(chunk)
                if self._failed:
                    return
                raw = snapshot.content.sizes[chunk.number]
                digest = chunk.digest or checksum(chunk.data or b"")
                stored = self._known.get((digest, raw))
                if stored is None:
                    key = key or self._new_key()
                    piece, stored = self._place(chunk, digest, key, size)
                    self._known[digest, raw] = stored
                    pieces.append(piece)
                    size += stored.stored
                if not pieces or pieces[-1] is not chunk.data:
                    snapshot.release(held.pop())
                self.chunks[chunk.number] = stored
                if len(held) == limit or size > self._most:
                    self._write(key, pieces, held, snapshot)
                    key, pieces, size = "", [], 0
            self._write(key, pieces, held, snapshot)
        except BaseException:
            self._failed = True
            raise
        finally:
            for chunk in held:
                snapshot.release(chunk)

    def _place(self, chunk: Filled, digest: Digest, key: str, offset: int) -> tuple[Data, Stored]:
        """The bytes of a new chunk as they are to be stored there."""
        if chunk.data is None:
            msg = f"chunk {chunk.number} is taken to be stored, and is not"
            raise AssertionError(msg)
        raw = chunk.data.nbytes
        coded = self._coder.encode(chunk.number, chunk.data) if self._coder is not None else None
        if coded is None:
            return chunk.data, Stored(key, offset, raw, raw, digest)
        return coded.data, Stored(key, offset, len(coded.data), raw, digest, coded.codec, coded.check, coded.base)

    def _write(self, key: str, pieces: list[Data], held: list[Filled], snapshot: Snapshot) -> None:
        if pieces:
            began = time.monotonic()
            put_blob(self._objects, key, pieces)
            self.sizes[key] = size_of(pieces)
            if self._coder is not None:
                self._coder.sent(self.sizes[key], time.monotonic() - began, self._threads)
        while held:
            snapshot.release(held.pop())
