"""From a snapshot to a published checkpoint: packs, then the manifest, then the head, each durable before the next.

What is dropped is deleted only after the head that no longer names it is published, and only by these rules
(docs/decisions/0003-retention-within-a-run.md says why they are enough):

- A name carries the epoch of its writer, and no name is written twice.
- A writer deletes names of its own and of earlier epochs only, and none that the head it has just published reaches.
- A later epoch refers only to packs that the head it took over reaches, or that it wrote itself. So a zombie that wakes
  up in the middle of its deletions cannot hit anything that its successor counts on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotweld.checkpoint.format import (
    FORMAT,
    RAW,
    LeafRecord,
    Manifest,
    Pack,
    Segment,
    encode,
    epoch_of,
    manifest_key,
    manifests_prefix,
    pack_key,
    packs_prefix,
)
from spotweld.checkpoint.restoring import read_manifest
from spotweld.checkpoint.retention import retain
from spotweld.checkpoint.voice import warn
from spotweld.errors import Corrupt, NotFound, StoreError
from spotweld.store.blobs import put_blob
from spotweld.store.heads import HeadWriter, Kept
from spotweld.values.digests import digest
from spotweld.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spotweld.checkpoint.snapshot import Snapshot
    from spotweld.store.objects import Objects
    from spotweld.values.clocks import Clock
    from spotweld.values.digests import Digest

SHARED = 2**20
"""Bytes: smaller packs are written again for every checkpoint. It costs little, and one damaged object then cannot harm
several checkpoints at once."""


class Publisher:
    """Publishes under one epoch. For one thread at a time.

    Args:
        objects: the store.
        run: the run's name.
        writer: the right to move its head.
        clock: for the time of creation.
        keep_last: see ``retain``.
        keep_every: see ``retain``.
        whole: the manifest that was restored: its packs have been read and verified, so they may be referred to.
        damaged: keys of manifests that could not be used; the next head leaves them out.
    """

    def __init__(
        self,
        objects: Objects,
        run: str,
        writer: HeadWriter,
        clock: Clock,
        *,
        keep_last: int,
        keep_every: int,
        whole: Manifest | None = None,
        damaged: Iterable[str] = (),
    ) -> None:
        self._objects, self._run, self._writer, self._clock = objects, run, writer, clock
        self._keep_last, self._keep_every = keep_last, keep_every
        self._damaged = set(damaged)
        self._manifests: dict[str, Manifest] = {}
        self._packs: dict[tuple[Digest, int], Pack] = {}
        for pack in whole.packs if whole else ():
            self._remember(pack)
        self._serial = 0
        self._names: set[str] = set()
        """What was ever written or met and may have to go; emptied by ``_sweep``."""
        self._listed = False

    def publish(self, snapshot: Snapshot) -> Kept:
        """Make the snapshot the run's newest checkpoint. Durable when it returns.

        Raises:
            Fenced: a later epoch owns the run.
            StoreError: it could not be stored; nothing that was published is lost, and a later try is safe.
        """
        former = self._read_kept()
        packs, digests = self._put_packs(snapshot)
        manifest = Manifest(
            format=FORMAT,
            spotweld=VERSION,
            run=self._run,
            epoch=self._writer.head.epoch,
            attempt=self._writer.head.attempt,
            step=snapshot.step,
            number=1 + max((self._manifests[kept.key].number for kept in former), default=0),
            created=self._clock.now(),
            state=snapshot.state,
            rng=snapshot.rng,
            leaves=_records(snapshot, digests),
            packs=packs,
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
        places = retain(numbers, keep_last=self._keep_last, keep_every=self._keep_every)
        self._writer.publish(tuple(candidates[at] for at in places))
        self._sweep()
        return new

    def _read_kept(self) -> list[Kept]:
        """What is published now, without what proves to be damaged."""
        whole = []
        for kept in self._writer.head.kept:
            if kept.key in self._damaged:
                continue
            try:
                if kept.key not in self._manifests:
                    self._manifests[kept.key] = read_manifest(self._objects, self._run, kept)
            except (Corrupt, NotFound) as error:
                warn(f"the checkpoint of step {kept.step} is damaged and dropped: {error}")
                self._damaged.add(kept.key)
            else:
                whole.append(kept)
        return whole

    def _put_packs(self, snapshot: Snapshot) -> tuple[tuple[Pack, ...], dict[tuple[int, int, int], Digest]]:
        """Store the packs that are not there yet; also the digests of pieces that are a whole pack each."""
        packs, pieces = [], {}
        for index, (start, end) in enumerate(snapshot.layout.packs):
            data = snapshot.data[start:end]
            name = digest(data)
            pieces[index, 0, end - start] = name
            pack = self._packs.get((name, end - start))
            if pack is None:
                key = pack_key(self._run, self._writer.head.epoch, self._serial, name)
                self._serial += 1
                self._names.add(key)
                put_blob(self._objects, key, data)
                pack = Pack(key, name, end - start)
                self._remember(pack)
            packs.append(pack)
        return tuple(packs), pieces

    def _remember(self, pack: Pack) -> None:
        """Let later checkpoints refer to the pack, which is known to be whole."""
        if pack.size >= SHARED:
            self._packs[pack.digest, pack.size] = pack

    def _sweep(self) -> None:
        """Delete what the published head does not reach. What cannot be deleted now is tried again next time."""
        head = self._writer.head
        reached = {kept.key for kept in head.kept}
        reached |= {pack.key for kept in head.kept for pack in self._manifests[kept.key].packs}
        try:
            if not self._listed:
                for prefix in (manifests_prefix(self._run), packs_prefix(self._run)):
                    self._names |= {meta.key for meta in self._objects.list(prefix)}
                self._listed = True
            for manifest in [key for key in self._manifests if key not in reached]:
                self._names |= {manifest, *(pack.key for pack in self._manifests.pop(manifest).packs)}
            self._packs = {name: pack for name, pack in self._packs.items() if pack.key in reached}
            for name in sorted(self._names - reached):
                epoch = epoch_of(name)
                if epoch is not None and epoch <= head.epoch:
                    self._objects.delete(name)
                self._names.discard(name)
        except StoreError as error:
            warn(f"old checkpoints are not deleted yet: {error}")


def _records(snapshot: Snapshot, known: dict[tuple[int, int, int], Digest]) -> tuple[LeafRecord, ...]:
    records = []
    for leaf, start, slices in zip(snapshot.leaves, snapshot.layout.starts, snapshot.layout.slices, strict=True):
        segments, at = [], start
        for piece in slices:
            name = known.get((piece.pack, piece.offset, piece.size)) or digest(snapshot.data[at : at + piece.size])
            segments.append(Segment(piece.pack, piece.offset, piece.size, piece.size, RAW, name))
            at += piece.size
        records.append(LeafRecord(leaf.kind, leaf.dtype, leaf.shape, tuple(segments)))
    return tuple(records)
