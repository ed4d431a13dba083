"""From the ranks' snapshots to one published checkpoint: every share durable first, then the manifest, then the head.

Each rank calls the same; rank 0 alone has the right to move the head, and tells the others how it went.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import msgspec

from spotweld.checkpoint.distributed.group import Trouble, by_first, error_of, trouble_of
from spotweld.checkpoint.distributed.planning import Item, Piece
from spotweld.checkpoint.distributed.shards import Share, Whole, merge, renumbered, state_node
from spotweld.checkpoint.encoding import encoder_for
from spotweld.checkpoint.format import LeafRecord, pack_key
from spotweld.checkpoint.packing import Packer
from spotweld.checkpoint.publishing import Written, chunk_table, known_chunks
from spotweld.checkpoint.snapshot import Content, LiveSource, Snapshot
from spotweld.store.heads import Kept

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotweld.checkpoint.distributed.group import Group
    from spotweld.checkpoint.format import Manifest
    from spotweld.checkpoint.publishing import Publisher
    from spotweld.checkpoint.snapshot import State
    from spotweld.checkpoint.staging import Staging
    from spotweld.checkpoint.tree import Node
    from spotweld.project.nouns import Compress
    from spotweld.store.objects import Objects
    from spotweld.values.clocks import Clock
    from spotweld.values.digests import Digest


class Shared(msgspec.Struct, frozen=True):
    """What rank 0 needs besides the shares."""

    parts: Any
    """The tree of the state that the ranks share."""
    items: tuple[Item, ...]


class ShareSnapshot(Snapshot):
    """A snapshot of what one rank stores; its tree is what the rank has for itself.

    Args:
        state: the rank's leaves, and what it has for itself.
        pieces: the first of the leaves.
        shared: what they are pieces of.
        step: steps finished.
        staging: where chunks are copied to.
        clock: for the stall.
        began: when that began which holds up the training, by the monotonic clock.
    """

    def __init__(
        self,
        state: State,
        pieces: tuple[Piece, ...],
        shared: Shared,
        step: int,
        staging: Staging,
        clock: Clock,
        began: float,
    ) -> None:
        leaves = tuple(
            LeafRecord(leaf.kind, leaf.dtype, leaf.shape, chunk, offset)
            for leaf, (chunk, offset) in zip(state.leaves, state.layout.places, strict=True)
        )
        sizes = tuple(plan.size for plan in state.layout.chunks)
        content = Content(state.tree, state.rng, leaves, sizes)
        source = LiveSource(state, staging, clock)
        super().__init__(content, source, step, staging, clock, began + source.waited)
        self.pieces, self.shared = pieces, shared

    def named(self) -> Content:
        """The same content with a tree that names the pieces, for what wants to know what kind of numbers they are."""
        numbers = [-1] * len(self.shared.items)
        for number, piece in enumerate(self.pieces):
            numbers[piece.item] = number
        return msgspec.structs.replace(self.content, tree=renumbered(self.shared.parts, numbers))


class Report(msgspec.Struct, frozen=True):
    """What a rank tells rank 0 after its part of a save."""

    packs: tuple[str, ...]
    """Keys of those that it has begun to write."""
    size: int
    """Bytes of its leaves."""
    share: Share | None = None
    trouble: Trouble | None = None


class Storer:
    """Stores one rank's shares, for one save after another.

    Args:
        objects: the store.
        run: the run's name.
        epoch: under which the group has taken it over.
        rank: this one's; it writes packs under its own number.
        whole: the manifest that was restored: its chunks have been read and verified, so they may be referred to.
        compress: whether to make chunks smaller.
    """

    def __init__(
        self, objects: Objects, run: str, epoch: int, rank: int, whole: Manifest | None, compress: Compress
    ) -> None:
        self._objects, self._run, self._epoch, self._rank = objects, run, epoch, rank
        self._encoder = encoder_for(compress, objects)
        known = known_chunks(whole.chunks, whole.packs) if whole else {}
        self._known = {name: stored for name, stored in known.items() if stored.base is None}
        self._sizes = {pack.key: pack.size for pack in whole.packs} if whole else {}
        self._serial = itertools.count()
        self._digests: dict[int, Digest] = {}
        self.unchanged: dict[int, Digest] = {}
        """Of chunks that were the same in the two newest snapshots, by their number."""

    def store(self, snapshot: ShareSnapshot) -> Report:
        """Store a snapshot. Durable when it returns; what fails is in the report."""
        keys: list[str] = []

        def new_pack() -> str:
            keys.append(pack_key(self._run, self._epoch, self._rank, next(self._serial)))
            return keys[-1]

        packer = Packer(self._objects, new_pack, self._known, self._encoder)
        try:
            if self._encoder is not None:
                self._encoder.begin(snapshot.named())
            packer.store(snapshot)
        except Exception as error:  # noqa: BLE001 - whatever it is, rank 0 has to hear of it
            snapshot.discard()
            return Report(tuple(keys), snapshot.size, trouble=trouble_of(error))
        sizes = self._sizes | packer.sizes
        chunks, packs = chunk_table(packer, sizes)
        content = snapshot.content
        share = Share(snapshot.pieces, content.tree, content.rng, content.leaves, chunks, packs)
        return Report(tuple(keys), snapshot.size, share)

    def published(self, share: Share) -> None:
        """The share is part of the newest checkpoint, so the next one may refer to its chunks."""
        self._known = known_chunks(share.chunks, share.packs)
        self._sizes = {pack.key: pack.size for pack in share.packs}
        digests = {number: chunk.digest for number, chunk in enumerate(share.chunks)}
        self.unchanged = {
            number: name
            for number, name in digests.items()
            if self._digests.get(number) == name and (name, share.chunks[number].raw) in self._known
        }
        self._digests = digests


class GroupPublisher:
    """Publishes together with the other ranks, for one thread of each.

    Args:
        group: of these threads.
        storer: of this rank.
        publisher: on rank 0, the one that may move the head.
    """

    def __init__(self, group: Group, storer: Storer, publisher: Publisher | None) -> None:
        self._group, self._storer, self._publisher = group, storer, publisher
        self.written = Written()
        """Not counted."""

    @property
    def newest(self) -> Manifest | None:
        """As of a ``Publisher``, on rank 0, which carries the group's checkpoints on; None on the others."""
        return self._publisher.newest if self._publisher is not None else None

    @property
    def pinned(self) -> frozenset[str]:
        """As of a ``Publisher``, on rank 0."""
        return self._publisher.pinned if self._publisher is not None else frozenset()

    @pinned.setter
    def pinned(self, keys: frozenset[str]) -> None:
        if self._publisher is not None:
            self._publisher.pinned = keys

    def stand_alone(self) -> None:
        """As of a ``Publisher``. Nothing is to be done: a share has no differences in it."""

    @property
    def unchanged(self) -> dict[int, Digest]:
        """See ``Storer``."""
        return self._storer.unchanged

    def publish(self, snapshot: Snapshot) -> Kept:
        """Make the ranks' snapshots the run's newest checkpoint. Durable when it returns; the same on every rank.

        Raises:
            Fenced: a later epoch owns the run.
            SpotweldError: a rank could not store its share, or rank 0 could not publish.
            PeerLost: a rank is gone.
        """
        assert isinstance(snapshot, ShareSnapshot)  # noqa: S101 - a crew takes no others
        report = self._storer.store(snapshot)
        reports = [msgspec.json.decode(data, type=Report) for data in self._group.collect(msgspec.json.encode(report))]
        if self._publisher is None:
            told = by_first(self._group, bytes)
        else:
            publisher, shared = self._publisher, snapshot.shared
            told = by_first(
                self._group, lambda: msgspec.json.encode(announce(publisher, snapshot.step, shared, reports))
            )
            snapshot.size = sum(one.size for one in reports)
        if report.share is not None:
            self._storer.published(report.share)
        return msgspec.json.decode(told, type=Kept)


def announce(publisher: Publisher, step: int, shared: Shared, reports: Sequence[Report]) -> Kept:
    """Publish what the ranks have stored.

    Raises:
        SpotweldError: one of them failed, or the head could not be moved.
    """
    check_reports(publisher, reports)
    whole = merge(shared.items, [report.share for report in reports if report.share is not None])
    tree = state_node(shared.parts, whole.sharded, whole.own)
    return publisher.announce(step, content_of(tree, whole), whole.chunks, whole.packs)


def content_of(tree: Node, whole: Whole) -> Content:
    """What lies in a checkpoint of all shares."""
    return Content(tree, {"list": whole.rng}, whole.leaves, tuple(chunk.raw for chunk in whole.chunks))


def check_reports(publisher: Publisher, reports: Sequence[Report]) -> None:
    """See that every rank has stored its share; what was stored in vain is taken back.

    Raises:
        SpotweldError: one has not.
    """
    packs = [key for report in reports for key in report.packs]
    publisher.may_go(packs)
    for rank, report in enumerate(reports):
        if report.trouble is not None:
            publisher.take_back(packs)
            raise error_of(msgspec.structs.replace(report.trouble, what=f"Rank {rank}: {report.trouble.what}"))
