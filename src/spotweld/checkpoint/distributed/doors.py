"""What a group needs of the single process's engine beyond its public functions, in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spotweld.checkpoint.publishing import Publisher, _known, _table
from spotweld.checkpoint.reading import Want, _Readers
from spotweld.checkpoint.snapshot import Content, _Live

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from spotweld.checkpoint.distributed.shards import Share, Whole
    from spotweld.checkpoint.format import Manifest
    from spotweld.checkpoint.packing import Stored
    from spotweld.checkpoint.tree import Node
    from spotweld.store.heads import Kept
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
        sizes = tuple(chunk.raw for chunk in whole.chunks)
        content = Content(state, {"list": whole.rng}, whole.leaves, sizes)
        key, new = self._announce(self._read_kept(), step, content, whole.chunks, whole.packs)
        self.newest = self._manifests[key]
        self._sweep()
        return new
