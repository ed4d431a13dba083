"""What a group needs of the single process's engine beyond its public functions, in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spotweld.checkpoint.format import FORMAT, Manifest, encode, manifest_key
from spotweld.checkpoint.publishing import Publisher, _known, _table
from spotweld.checkpoint.reading import Want, _Readers
from spotweld.checkpoint.retention import retain
from spotweld.checkpoint.snapshot import _Live
from spotweld.store.blobs import put_blob
from spotweld.store.heads import Kept
from spotweld.values.digests import digest
from spotweld.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from spotweld.checkpoint.distributed.shards import Share, Whole
    from spotweld.checkpoint.packing import Stored
    from spotweld.checkpoint.tree import Node
    from spotweld.store.objects import Objects
    from spotweld.values.digests import Digest

__all__ = ["Announcer", "LiveSource", "Want", "chunk_table", "known_chunks", "read_wants"]

chunk_table = _table
LiveSource = _Live


def known_chunks(whole: Manifest | Share) -> dict[tuple[Digest, int], Stored]:
    """The chunks of a whole checkpoint that a later one may refer to."""
    shape: Any = whole  # it asks for the chunks and the packs
    return _known(shape)


def read_wants(objects: Objects, manifest: Manifest, wanted: Mapping[int, Sequence[Want]]) -> None:
    """Read pieces of chunks, by the number of the chunk; each chunk is verified before it is used.

    Raises:
        Corrupt, NotFound, Unavailable: as ``reading.read``.
    """
    order = sorted(wanted, key=lambda at: (manifest.chunks[at].pack, manifest.chunks[at].offset))
    _Readers(objects, manifest, wanted, order).run()


class Announcer(Publisher):
    """Publishes what others have stored."""

    def may_go(self, keys: Iterable[str]) -> None:
        """Delete these with the next checkpoint, unless that refers to them."""
        self._names.update(keys)

    def announce(self, step: int, state: Node, whole: Whole) -> Kept:
        """Make what is stored already the run's newest checkpoint. Durable when it returns.

        Raises:
            as ``publish``.
        """
        former = self._read_kept()
        manifest = Manifest(
            format=FORMAT,
            spotweld=VERSION,
            run=self._run,
            epoch=self._writer.head.epoch,
            attempt=self._writer.head.attempt,
            step=step,
            number=1 + max((self._manifests[kept.key].number for kept in former), default=0),
            created=self._clock.now(),
            state=state,
            rng={"list": whole.rng},
            leaves=whole.leaves,
            chunks=whole.chunks,
            packs=whole.packs,
        )
        data = encode(manifest)
        name = digest(data)
        key = manifest_key(self._run, manifest.epoch, manifest.step, name)
        self._names.add(key)
        put_blob(self._objects, key, data)
        self._manifests[key] = manifest
        new = Kept(manifest.step, key, name, len(data), manifest.created)
        candidates = [new, *former]
        numbers = [self._manifests[kept.key].number for kept in candidates]
        places = set(retain(numbers, keep_last=self._keep_last, keep_every=self._keep_every))
        self._writer.publish(tuple(one for at, one in enumerate(candidates) if at in places or one.key in self.pinned))
        self.newest = manifest
        self._sweep()
        return new
