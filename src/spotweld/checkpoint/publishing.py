"""From a snapshot to a published checkpoint: packs, then the manifest, then the head, each durable before the next.

What a save leaves that fails before its manifest is begun is deleted at once, if the store is near. All else that is
dropped is deleted only after the head that no longer names it is published, and only by these rules
(docs/decisions/0003-retention-within-a-run.md says why they are enough):

- A name carries the epoch of its writer, and no name is written twice.
- A writer deletes names of its own and of earlier epochs only, and none that the head it has just published reaches.
- A later epoch refers only to packs that the head it took over reaches, or that it wrote itself. So a zombie that wakes
  up in the middle of its deletions cannot hit anything that its successor counts on.
"""

from __future__ import annotations

import itertools
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import msgspec

from spotweld.checkpoint.encoding import is_near
from spotweld.checkpoint.format import (
    FORMAT,
    MANIFEST_LIMIT,
    Chunk,
    Manifest,
    Pack,
    encode,
    epoch_of,
    manifest_key,
    manifests_prefix,
    pack_key,
    packs_prefix,
)
from spotweld.checkpoint.packing import Packer, Stored
from spotweld.checkpoint.restoring import read_manifest
from spotweld.checkpoint.retention import retain
from spotweld.checkpoint.voice import warn
from spotweld.errors import Corrupt, NotFound, StoreError, UnsupportedState
from spotweld.store.blobs import put_blob
from spotweld.store.heads import HeadWriter, Kept
from spotweld.values.digests import digest
from spotweld.values.sizes import format_size
from spotweld.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from spotweld.checkpoint.encoding import Encoder
    from spotweld.checkpoint.snapshot import Content, Snapshot
    from spotweld.store.objects import Objects
    from spotweld.values.clocks import Clock
    from spotweld.values.digests import Digest

SHARED = 2**18
"""Bytes: smaller chunks are written again for every checkpoint. It costs little, and one damaged object then cannot
harm several checkpoints at once."""
_WASTE = 0.25
"""Bytes that nobody needs any more, in the packs of a checkpoint, as a share of those that it needs. Up to there all
packs are referred to again: where a few chunks change each time, what lies beside them is not written each time."""
_SPARSE = 0.5
"""Beyond that, packs of which less than this share is in use are not: what lives in them is written anew, so that no
store fills up with packs of which little is left."""


class Written(msgspec.Struct, frozen=True):
    """What a checkpoint came to in its store."""

    size: int = 0
    """Bytes that had to be written; 0: none, or nobody counted them."""
    delta: bool = False
    """It has differences in it, so it is worth no more than the checkpoint that they were taken against."""


class Publishing(Protocol):
    """What makes a snapshot the newest checkpoint: a ``Publisher``, or one of a group's ranks together with the others.

    For one thread at a time. Attributes and methods mean what they do for a ``Publisher``.
    """

    pinned: frozenset[str]

    @property
    def unchanged(self) -> dict[int, Digest]: ...

    @property
    def newest(self) -> Manifest | None: ...

    @property
    def written(self) -> Written: ...

    def publish(self, snapshot: Snapshot) -> Kept: ...

    def stand_alone(self) -> None: ...


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
        encoder: makes chunks smaller; None: they are stored as they are.
        rank: which stands in the names of packs, where several write under one epoch.
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
        encoder: Encoder | None = None,
        rank: int = 0,
    ) -> None:
        self._objects, self._run, self._writer, self._clock = objects, run, writer, clock
        self._keep_last, self._keep_every = keep_last, keep_every
        self._damaged = set(damaged)
        self._encoder, self._rank = encoder, rank
        self._manifests: dict[str, Manifest] = {}
        self._known = known_chunks(whole.chunks, whole.packs) if whole else {}
        """Chunks that the newest checkpoint has, and that the next may refer to."""
        self._digests: dict[int, Digest] = {}
        """Of the newest snapshot's chunks, by number."""
        self.unchanged: dict[int, Digest] = {}
        """Of chunks that were the same in the two newest snapshots."""
        self._sizes = {pack.key: pack.size for pack in whole.packs} if whole else {}
        """Of packs, by key."""
        self.newest = whole
        """The manifest of what was published, or restored, last."""
        self.written = Written()
        """By the newest checkpoint that was published here."""
        self.pinned: frozenset[str] = frozenset()
        """Keys of manifests that are kept whatever the retention says, because somebody reads them."""
        self._base_key = ""
        """Of the manifest that differences are taken against, in this store; empty: there is none."""
        self._base_sizes: dict[str, int] = {}
        """Of its packs."""
        self._serial = itertools.count()
        self._names: set[str] = set()
        """What was ever written or met and may have to go; emptied by ``_sweep``."""
        self._listed = False

    @property
    def base(self) -> Manifest | None:
        """Of the copy that differences are taken against, where that is read; None: there are none."""
        base = self._encoder.base if self._encoder is not None else None
        return base.manifest if base is not None else None

    def publish(self, snapshot: Snapshot, near: tuple[Objects, Manifest] | None = None) -> Kept:
        """Make the snapshot the run's newest checkpoint. Durable when it returns.

        Args:
            snapshot: the state.
            near: where the same bytes can be read again, as long as this is the ``base``; None: nowhere but in the
                store, and there only if that is near itself.

        Raises:
            Fenced: a later epoch owns the run.
            StoreError: it could not be stored; nothing that was published is lost, and a later try is safe.
            UnsupportedState: its manifest would be too long to be read again.
        """
        try:
            return self._publish(snapshot, near)
        except BaseException:
            snapshot.discard()
            raise

    def _publish(self, snapshot: Snapshot, near: tuple[Objects, Manifest] | None) -> Kept:
        former = self._read_kept()
        if self._encoder is not None:
            self._encoder.begin(snapshot.content)
        packer, before = Packer(self._objects, self._new_pack, self._known, self._encoder), set(self._names)
        try:
            packer.store(snapshot)
        except Exception:
            self.take_back(self._names - before)
            raise
        self._sizes |= packer.sizes | self._base_sizes
        chunks, packs = chunk_table(packer, self._sizes)
        key, new = self._announce(former, snapshot.step, snapshot.content, chunks, packs)
        manifest = self._manifests[key]
        if self._encoder is not None:
            again = near or ((self._objects, manifest) if is_near(self._objects) else None)
            self._encoder.published(tuple(packer.chunks[at] for at in range(len(chunks))), again)
            self._note_base(key, manifest)
        self.written = Written(sum(packer.sizes.values()), any(chunk.base is not None for chunk in chunks))
        self._remember(manifest)
        self._sweep()
        return new

    def announce(self, step: int, content: Content, chunks: tuple[Chunk, ...], packs: tuple[Pack, ...]) -> Kept:
        """Make what others have stored under this epoch the run's newest checkpoint. Durable when it returns.

        Args:
            step: steps finished.
            content: what the chunks hold; none of them is a difference.
            chunks: in the order of the layout.
            packs: that they lie in.

        Raises:
            as ``publish``.
        """
        self.stand_alone()  # whatever was carried here before
        key, new = self._announce(self._read_kept(), step, content, chunks, packs)
        self.newest = self._manifests[key]
        self._note_base(key, self.newest)
        self._sweep()
        return new

    def may_go(self, keys: Iterable[str]) -> None:
        """Delete these with the next checkpoint, unless that refers to them."""
        self._names.update(keys)

    def _announce(
        self, former: list[Kept], step: int, content: Content, chunks: tuple[Chunk, ...], packs: tuple[Pack, ...]
    ) -> tuple[str, Kept]:
        """Write the manifest of what is stored already, and move the head to it; its key, and what the head says."""
        manifest = Manifest(
            format=FORMAT,
            spotweld=VERSION,
            run=self._run,
            epoch=self._writer.head.epoch,
            attempt=self._writer.head.attempt,
            step=step,
            number=1 + max((self._manifests[kept.key].number for kept in former), default=0),
            created=self._clock.now(),
            state=content.tree,
            rng=content.rng,
            leaves=content.leaves,
            chunks=chunks,
            packs=packs,
        )
        data = encode(manifest)
        if len(data) > MANIFEST_LIMIT:
            limit = format_size(MANIFEST_LIMIT)
            raise UnsupportedState(
                f"The state of step {step} cannot be saved",
                f"without its arrays it takes {format_size(len(data))}, and a manifest has {limit} at most",
                "Keep long lists of numbers as arrays.",
            )
        name = digest(data)
        key = manifest_key(self._run, manifest.epoch, manifest.step, name)
        self._names.add(key)
        put_blob(self._objects, key, data)
        self._manifests[key] = manifest
        new = Kept(manifest.step, key, name, len(data), manifest.created)
        candidates = [new, *former]
        numbers = [self._manifests[kept.key].number for kept in candidates]
        places = set(retain(numbers, keep_last=self._keep_last, keep_every=self._keep_every))
        self._writer.publish(
            tuple(
                one
                for at, one in enumerate(candidates)
                if at in places or one.key in self.pinned or one.key == self._base_key
            )
        )
        return key, new

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

    def has(self, name: Digest, raw: int) -> bool:
        """A chunk of that digest and size need not be stored again."""
        return (name, raw) in self._known

    def stand_alone(self) -> None:
        """Let the next checkpoint depend on no other: everything that is a difference is stored anew."""
        if self._encoder is not None:
            self._encoder.base = None
        self._forget_differences()

    def _forget_differences(self) -> None:
        self._known = {name: stored for name, stored in self._known.items() if stored.base is None}
        manifest = self.newest
        self.unchanged = {
            number: name
            for number, name in self.unchanged.items()
            if manifest is not None and (name, manifest.chunks[number].raw) in self._known
        }

    def _note_base(self, key: str, manifest: Manifest) -> None:
        """Keep the checkpoint that differences are taken against, as long as it is that."""
        base = self._encoder.base if self._encoder is not None else None
        if base is None:
            self._base_key, self._base_sizes = "", {}
        elif base.manifest.step == manifest.step:
            self._base_key, self._base_sizes = key, {pack.key: pack.size for pack in manifest.packs}

    def _new_pack(self) -> str:
        key = pack_key(self._run, self._writer.head.epoch, self._rank, next(self._serial))
        self._names.add(key)
        return key

    def _remember(self, manifest: Manifest) -> None:
        """Let the next checkpoint refer to this one's chunks."""
        self.newest = manifest
        self._known = known_chunks(manifest.chunks, manifest.packs)
        self._sizes = {pack.key: pack.size for pack in manifest.packs}
        digests = {number: chunk.digest for number, chunk in enumerate(manifest.chunks)}
        self.unchanged = {
            number: name
            for number, name in digests.items()
            if self._digests.get(number) == name and (name, manifest.chunks[number].raw) in self._known
        }
        self._digests = digests
        if self._encoder is not None and self._encoder.base is None:
            self._forget_differences()  # the next one is to stand alone, as a base has to

    def take_back(self, packs: Collection[str]) -> None:
        """Delete packs of a save that has failed, which no manifest will ever name: they may be what fills the disk.

        Their names stay: what the store takes only now goes with the next ``_sweep``, and so does all where it is far.
        """
        if is_near(self._objects):
            with suppress(StoreError):
                for name in sorted(packs):
                    self._objects.delete(name)

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
            for name in sorted(self._names - reached):
                epoch = epoch_of(name)
                if epoch is not None and epoch <= head.epoch:
                    self._objects.delete(name)
                self._names.discard(name)
        except StoreError as error:
            warn(f"old checkpoints are not deleted yet: {error}")


def known_chunks(chunks: Sequence[Chunk], packs: Sequence[Pack]) -> dict[tuple[Digest, int], Stored]:
    """The chunks of a whole checkpoint that may be referred to.

    Not the small ones, and none in packs that have little else left.
    """
    live = dict.fromkeys(range(len(packs)), 0)
    for spot in {(chunk.pack, chunk.offset, chunk.stored) for chunk in chunks}:
        live[spot[0]] += spot[2]
    least = _SPARSE if sum(pack.size for pack in packs) > (1 + _WASTE) * sum(live.values()) else 0.0
    full = {at for at, pack in enumerate(packs) if live[at] >= least * pack.size}

    def stored(chunk: Chunk) -> Stored:
        base = stored(chunk.base) if chunk.base else None
        key = packs[chunk.pack].key
        return Stored(key, chunk.offset, chunk.stored, chunk.raw, chunk.digest, chunk.codec, chunk.check, base)

    return {(chunk.digest, chunk.raw): stored(chunk) for chunk in chunks if chunk.pack in full and chunk.raw >= SHARED}


def chunk_table(packer: Packer, sizes: Mapping[str, int]) -> tuple[tuple[Chunk, ...], tuple[Pack, ...]]:
    """The chunks in the order of the layout, and the packs that they lie in."""
    places: dict[str, int] = {}

    def chunk(stored: Stored) -> Chunk:
        base = chunk(stored.base) if stored.base else None
        at = places.setdefault(stored.key, len(places))
        return Chunk(at, stored.offset, stored.stored, stored.raw, stored.digest, stored.codec, stored.check, base)

    chunks = tuple(chunk(packer.chunks[number]) for number in range(len(packer.chunks)))
    return chunks, tuple(Pack(key, sizes[key]) for key in places)
