"""What every rank does alike: look at the state and agree about it, snapshot its share, restore the run's newest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from spotweld.checkpoint import state as states
from spotweld.checkpoint.arrays import Kind
from spotweld.checkpoint.distributed.fetching import fetch
from spotweld.checkpoint.distributed.group import by_first, together
from spotweld.checkpoint.distributed.planning import Item, Piece, View, assign
from spotweld.checkpoint.distributed.publishing import Shared, ShareSnapshot
from spotweld.checkpoint.distributed.restoring import fit
from spotweld.checkpoint.distributed.rng import restore_or_derive
from spotweld.checkpoint.distributed.shards import layout_of, leaves_in
from spotweld.checkpoint.distributed.views import Seen, look, paths
from spotweld.checkpoint.format import decode, encode
from spotweld.checkpoint.layout import lay_out
from spotweld.checkpoint.restoring import Restored, all_damaged, check_owner, read_leaves, read_manifest
from spotweld.checkpoint.rng import capture_rng
from spotweld.checkpoint.session import patiently
from spotweld.checkpoint.snapshot import State
from spotweld.checkpoint.tree import Node, flatten, unflatten
from spotweld.checkpoint.voice import warn
from spotweld.errors import Corrupt, NotFound, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from spotweld.checkpoint.arrays import Leaf
    from spotweld.checkpoint.distributed.group import Group
    from spotweld.checkpoint.format import Manifest
    from spotweld.checkpoint.staging import Staging
    from spotweld.checkpoint.tiers import Candidate
    from spotweld.store.heads import Kept
    from spotweld.store.objects import Objects
    from spotweld.values.clocks import Clock

T = TypeVar("T")


class Crew:
    """For the training thread.

    Args:
        state: the parts that all ranks share.
        own: the parts that each has for itself.
        group: the ranks.
    """

    def __init__(self, state: Mapping[str, object], own: Mapping[str, object], group: Group) -> None:
        self._state, self._own, self.group = state, own, group
        self._planned: tuple[Item, ...] | None = None
        self._mine: tuple[Piece, ...] = ()

    def snapshot(self, step: int, staging: Staging, clock: Clock) -> ShareSnapshot:
        """Begin a snapshot of this rank's share: look at the state, and agree with the others about who saves what.

        Raises:
            UnsupportedState: it holds something that cannot be stored.
            StateMismatch: the ranks do not agree in what they share.
        """
        began = clock.monotonic()
        live, seen = together(self.group, self._look)
        self._agree(seen, live)
        leaves = [seen.leaves[piece.item] for piece in self._mine]
        groups = [("shared", leaf.dtype) for leaf in leaves]
        own, rng = together(self.group, lambda: self._flatten_own(leaves))
        groups += [("own", "")] * (len(leaves) - len(groups))
        state = State(own, rng, tuple(leaves), lay_out([leaf.size for leaf in leaves], groups))
        return ShareSnapshot(state, self._mine, Shared(seen.node, seen.view.items), step, staging, clock, began)

    def prepare(self, staging: Staging, clock: Clock) -> None:
        """Make staging memory for this rank's share. The same errors as ``snapshot``."""
        staging.grow(self.snapshot(0, staging, clock).content.sizes)

    def restore(
        self, candidates: Sequence[Candidate], objects: Objects, run: str, epoch: int, clock: Clock
    ) -> Restored | None:
        """Restore the first checkpoint that is whole for every rank; None if the run has none at all.

        Args:
            candidates: best first; the same on every rank.
            objects: the store.
            run: the run's name.
            epoch: under which the group has taken the run over.
            clock: to wait for a store that does not answer.

        Raises:
            Fenced: checkpoints are missing because a later attempt has taken over and dropped them.
            NoWholeCheckpoint: there are some, and every one is damaged.
            StateMismatch: it does not fit the program.
            UnknownFormat: a newer Spotweld wrote it.
            Unavailable: the store does not answer.
        """
        damaged: list[tuple[Kept, str]] = []
        for one in candidates:
            try:
                manifest = self._restore(one, clock)
            except (Corrupt, NotFound, Unavailable) as error:
                if isinstance(error, Unavailable) and not one.tier:
                    raise
                by_first(self.group, lambda: patiently(lambda: _owned(objects, run, epoch), clock))
                why = f"{error} (in {one.tier})" if one.tier else str(error)
                damaged.append((one.kept, why))
                if self.group.rank == 0:
                    warn(f"the checkpoint of step {one.kept.step} is damaged and passed over by all ranks: {why}")
            else:
                return Restored(one.kept, manifest, tuple(damaged), one.tier)
        if damaged:
            raise all_damaged(run, damaged)
        return None

    def _look(self) -> tuple[dict[str, object], Seen]:
        live = states.take(self._state)
        return live, look(live)

    def _agree(self, seen: Seen, live: Mapping[str, object]) -> None:
        """See that the ranks share what they should, and plan anew if an array has changed on any of them."""
        name = float(int(seen.view.values.rpartition(":")[2][:12], 16))  # 48 bits are exact in a float
        changed = float(seen.view.items != self._planned)
        high, low, changed = self.group.largest([name, -name, changed])
        if not changed and high == -low:
            return
        views = [msgspec.json.decode(one, type=View) for one in self.group.gather(msgspec.json.encode(seen.view))]
        self._planned = None
        self._mine = tuple(assign(views, [*paths(dict(live))])[self.group.rank])
        self._planned = seen.view.items

    def _flatten_own(self, leaves: list[Leaf]) -> tuple[Node, Node]:
        return flatten(states.take(self._own), "per_rank", leaves), flatten(capture_rng(), "rng", leaves)

    def _restore(self, one: Candidate, clock: Clock) -> Manifest:
        def ask(call: Callable[[], T]) -> T:
            # There may be another copy of what is in a fast tier: that is not waited for.
            return call() if one.tier else patiently(call, clock)

        # Rank 0 reads the manifest for all.
        data = by_first(self.group, lambda: encode(ask(lambda: read_manifest(one.objects, one.run, one.kept))))
        manifest = decode(data, one.run)
        found = together(self.group, lambda: ask(lambda: self._read(one.objects, manifest)))
        together(self.group, lambda: self._put_back(*found, manifest))
        return manifest

    def _read(self, objects: Objects, manifest: Manifest) -> tuple[dict[str, Any], Any, Any]:
        """This rank's parts of the state, its own parts, and the trees of its generators."""
        layout = layout_of(manifest)
        rank = self.group.rank
        own = layout.own[rank] if rank < len(layout.own) else None
        rng = layout.rng[min(rank, len(layout.rng) - 1)]
        plain = {at for at in leaves_in(layout.parts) if manifest.leaves[at].kind is not Kind.TORCH}
        ready = read_leaves(objects, manifest, wanted=sorted(plain | {*leaves_in([own, rng])}))
        values = [ready.get(number) for number in range(len(manifest.leaves))]
        saved = unflatten(layout.parts, layout.leaves)
        fitted, transfers = fit(self._state, states.take(self._state), saved, ready)
        fetch(objects, manifest, transfers)
        return fitted, unflatten(own, values), unflatten(rng, values)

    def _put_back(self, fitted: dict[str, Any], own: Any, rng: Any, manifest: Manifest) -> None:  # noqa: ANN401
        states.fill(self._state, fitted)
        if own is not None and rng is not None:  # `torch.distributed.checkpoint` saves neither
            states.put_back(self._own, own)
        ranks, size = len(manifest.rng["list"]), self.group.size
        if self.group.rank == 0 and ranks != size:
            warn(f"the checkpoint was saved by {ranks} ranks and is restored by {size}")
            if size > ranks:
                warn(
                    f"ranks from {ranks} on are new: what each has for itself (`per_rank`) starts as the program "
                    "made it, and its random numbers with a seed derived from the checkpoint"
                )
        if rng is not None:
            restore_or_derive(rng, self.group.rank, ranks, manifest.step)


def _owned(objects: Objects, run: str, epoch: int) -> bytes:
    check_owner(objects, run, epoch)
    return b""
