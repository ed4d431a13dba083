"""From chunks to packs: check, encode and write, in several threads that each fill a pack of their own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec

from spotweld.checkpoint.format import PACK_LIMIT, RAW
from spotweld.checkpoint.layout import CHUNK
from spotweld.store.blobs import put_blob
from spotweld.values.digests import Digest, checksum

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from spotweld.checkpoint.snapshot import Filled, Snapshot
    from spotweld.store.objects import Objects


class Stored(msgspec.Struct, frozen=True):
    """A chunk in the store. Like ``format.Chunk``, but it names its pack by key."""

    key: str
    offset: int
    stored: int
    raw: int
    digest: Digest
    codec: str = RAW
    check: Digest | None = None
    base: Stored | None = None


class Packer:
    """Stores the chunks of one snapshot. For one use.

    Args:
        objects: the store.
        new_key: gives the key of a new pack; may be called from any thread.
        known: chunks that are stored already, by digest and size.
    """

    def __init__(
        self, objects: Objects, new_key: Callable[[], str], known: Mapping[tuple[Digest, int], Stored]
    ) -> None:
        self._objects, self._new_key = objects, new_key
        self._known = dict(known)
        self._failure: BaseException | None = None
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
        buffers = snapshot.staging.buffers
        packs = -(-sum(snapshot.content.sizes) // PACK_LIMIT)
        threads = max(1, min(self._objects.streams, packs, buffers - 1))
        # All open packs together must leave a buffer for the copy that is going on.
        limit = max(1, min(PACK_LIMIT // CHUNK, (buffers - 1) // threads))
        others = [
            threading.Thread(target=self._work, args=(snapshot, limit), name="spotweld pack", daemon=True)
            for _ in range(threads - 1)
        ]
        for thread in others:
            thread.start()
        self._work(snapshot, limit)
        for thread in others:
            thread.join()
        if self._failure is not None:
            raise self._failure

    def _work(self, snapshot: Snapshot, limit: int) -> None:
        """Fill one pack after another, as long as there are chunks."""
        held: list[Filled] = []
        try:
            key, size = "", 0
            for chunk in snapshot.chunks():
                held.append(chunk)
                if self._failure is not None:
                    return
                raw = snapshot.content.sizes[chunk.number]
                digest = chunk.digest or checksum(chunk.data or b"")
                stored = self._known.get((digest, raw))
                if stored is None:
                    key = key or self._new_key()
                    stored = self._known[digest, raw] = Stored(key, size, raw, raw, digest)
                    size += raw
                else:
                    snapshot.release(held.pop())
                self.chunks[chunk.number] = stored
                if len(held) == limit:
                    self._write(key, held, snapshot)
                    key, size = "", 0
            self._write(key, held, snapshot)
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits for all
            self._failure = self._failure or error
        finally:
            for chunk in held:
                snapshot.release(chunk)

    def _write(self, key: str, held: list[Filled], snapshot: Snapshot) -> None:
        if not held:
            return
        pieces = [chunk.data for chunk in held if chunk.data is not None]
        put_blob(self._objects, key, pieces)
        self.sizes[key] = sum(piece.nbytes for piece in pieces)
        while held:
            snapshot.release(held.pop())
