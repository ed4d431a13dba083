"""Spotweld's store behind ``torch.distributed.checkpoint``.

::

    dcp.save(state, checkpoint_id="1000", storage_writer=SpotweldWriter("s3://bucket/runs", "mine"))
    load(state, SpotweldReader("s3://bucket/runs", "mine"))

Nothing is pickled into the store, and nothing in it is ever unpickled: what is no tensor goes through
``checkpoint.tree`` like everything else that Spotweld stores, and what that does not know is refused. The values that a
planner would pickle are taken from it before it does.
"""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint._nested_dict import flatten_state_dict, unflatten_state_dict
from torch.distributed.checkpoint._traverse import set_element
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadItemType, WriteItemType
from torch.distributed.checkpoint.storage import StorageReader, StorageWriter, WriteResult
from torch.futures import Future

import torch
from spotweld.checkpoint.arrays import Kind, leaf_of
from spotweld.checkpoint.distributed.fetching import Transfer, fetch
from spotweld.checkpoint.distributed.planning import Box, Item, Piece
from spotweld.checkpoint.distributed.publishing import Report, Shared, ShareOf, Storer, check_reports
from spotweld.checkpoint.distributed.shards import Share, layout_of, leaves_in, merge, state_node
from spotweld.checkpoint.layout import lay_out
from spotweld.checkpoint.publishing import Publisher
from spotweld.checkpoint.restoring import read_leaves, read_manifest
from spotweld.checkpoint.session import take_run_over
from spotweld.checkpoint.settings import settings
from spotweld.checkpoint.snapshot import Snapshot
from spotweld.checkpoint.staging import Staging
from spotweld.checkpoint.tree import flatten, unflatten
from spotweld.checkpoint.voice import warn
from spotweld.errors import Conflict, Corrupt, NotFound, NoWholeCheckpoint, UnsupportedState, UsageError
from spotweld.store.heads import read_head
from spotweld.store.opening import open_store
from spotweld.values.clocks import SystemClock

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from torch.distributed.checkpoint.planner import (
        LoadPlan,
        LoadPlanner,
        ReadItem,
        SavePlan,
        SavePlanner,
        WriteItem,
    )

    from spotweld.checkpoint.arrays import Leaf
    from spotweld.checkpoint.format import Manifest
    from spotweld.checkpoint.tree import Node
    from spotweld.store.heads import Kept
    from spotweld.store.objects import Objects

_STAGED = 64 * 2**20
"""Bytes of a share that are in memory of ours at a time."""


class SpotweldWriter(StorageWriter):
    """Where ``dcp.save`` and ``dcp.async_save`` write to. Every save is a new checkpoint of the run.

    A save's ``checkpoint_id`` is its step, a number; without one it is one more than the last. The coordinator takes
    the run over when it first saves: a writer made before it cannot publish any more.

    Args:
        store: URL of the store, or an opened one; as for ``Checkpointer``.
        run: the run's name; as for ``Checkpointer``.
        keep_last: how many of the newest checkpoints are kept; 3.
        keep_every: of the older ones every so manieth is kept too; 0: none.
    """

    def __init__(
        self,
        store: str | Objects | None = None,
        run: str | None = None,
        *,
        keep_last: int | None = None,
        keep_every: int | None = None,
    ) -> None:
        url = store if isinstance(store, str) else None
        self._settings = settings(os.environ, store=url, run=run, keep_last=keep_last, keep_every=keep_every)
        self._objects = store if store is not None and not isinstance(store, str) else None
        self._step: int | None = None
        self._publisher: Publisher | None = None
        self._epoch = 0
        self._storer: Storer | None = None
        self._names: dict[str, int] = {}
        self._items: list[Item] = []
        self._last = -1
        self._saves, self._published = 0, 0
        self._written: tuple[int, Share] | None = None

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Begin another save."""
        self._step = _step(checkpoint_id)

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401, ARG002
        """Nothing is written yet."""
        if not kwargs.get("use_collectives", True):
            raise UsageError("A checkpoint of many ranks is published by one of them", "use_collectives is False")

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Nothing to add."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Take the run over, and number the arrays. On the coordinator."""
        if self._publisher is None:
            policy, run = self._settings.policy, self._settings.run
            writer = take_run_over(self._store, run, self._settings.attempt)
            self._epoch = writer.head.epoch
            self._last = max((kept.step for kept in writer.head.kept), default=-1)
            self._publisher = Publisher(
                self._store,
                run,
                writer,
                SystemClock(),
                keep_last=policy.keep_last,
                keep_every=policy.keep_every,
            )
        self._last = self._last + 1 if self._step is None else self._step
        self._names, self._items = {}, []
        for plan in plans:
            for item in plan.items:
                if item.tensor_data is not None and item.index.fqn not in self._names:
                    self._names[item.index.fqn] = len(self._items)
                    self._items.append(_item(item))
        self._saves += 1
        told = {"epoch": self._epoch, "step": self._last, "names": self._names}
        told |= {"save": self._saves, "published": self._published}
        return [replace(plan, storage_data={**told, "rank": rank}) for rank, plan in enumerate(plans)]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Store this rank's share."""
        told = plan.storage_data
        if self._storer is None:
            self._storer = Storer(self._store, self._settings.run, told["epoch"], told["rank"], None)
        if self._written is not None and self._written[0] == told["published"]:
            self._storer.published(self._written[1])
        snapshot = Snapshot(_share(plan, planner, told["names"]), told["step"], Staging(_STAGED), SystemClock(), 0.0)
        snapshot.staging.reserve(len(snapshot.state.layout.chunks))
        copying = threading.Thread(target=snapshot.copy, name="spotweld copy", daemon=True)
        copying.start()
        report = self._storer.store(snapshot)
        snapshot.discard()
        copying.join()
        self._written = (told["save"], report.share) if report.share is not None else None
        done: Future[list[WriteResult]] = Future()
        done.set_result([WriteResult(MetadataIndex("share"), report.size, msgspec.json.encode(report))])
        return done

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Publish what all ranks have stored. On the coordinator."""
        assert self._publisher is not None
        reports = [msgspec.json.decode(one.storage_data, type=Report) for (one,) in results]
        check_reports(self._publisher, reports)
        whole = merge(self._items, [report.share for report in reports if report.share is not None])
        flat = {name: _Ready({"leaf": number}) for name, number in self._names.items()}
        for node in whole.own:
            flat |= {name: _Ready(value) for name, value in node["dict"]}
        nested = unflatten_state_dict(flat, metadata.planner_data) if metadata.planner_data else flat
        nothing = [{"dict": []} for _ in reports]
        tree = state_node(_encode(nested), whole.sharded, nothing)
        rng = {"list": [None] * len(reports)}
        self._publisher.announce(self._last, tree, rng, whole.leaves, whole.chunks, whole.packs)
        self._published = self._saves

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Whether it is a step."""
        return str(checkpoint_id).isdecimal()

    @property
    def _store(self) -> Objects:
        if self._objects is None:
            self._objects = open_store(self._settings.store)
        return self._objects


class SpotweldReader(StorageReader):
    """Where ``dcp.load`` reads from: the run's newest checkpoint, or the one of the step in ``checkpoint_id``.

    Every byte is verified before it is used. ``load`` also falls back to an older checkpoint from a damaged one.

    Args:
        store: URL of the store, or an opened one; as for ``Checkpointer``.
        run: the run's name; as for ``Checkpointer``.
    """

    def __init__(self, store: str | Objects | None = None, run: str | None = None) -> None:
        found = settings(os.environ, store=store if isinstance(store, str) else None, run=run)
        self._run = found.run
        self._objects = open_store(found.store) if store is None or isinstance(store, str) else store
        self._wanted: int | None = None
        self._damaged: dict[str, str] = {}
        self._kept: Kept | None = None
        self._manifest: Manifest | None = None
        self._flat: dict[str, Any] = {}
        self._stored: dict[str, Any] = {}

    @property
    def step(self) -> int | None:
        """Of the checkpoint that was read last."""
        return None if self._kept is None else self._kept.step

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Begin another load."""
        self._wanted = _step(checkpoint_id)

    def pass_over(self, why: str) -> None:
        """The checkpoint that was read last is damaged: do not use it again."""
        if self._kept is not None:
            self._damaged[self._kept.key] = why
            warn(f"the checkpoint of step {self._kept.step} is damaged and passed over: {why}")

    def read_metadata(self) -> Metadata:
        """Find the checkpoint, and say what is in it.

        Raises:
            NotFound: the run has none, or none of that step.
            NoWholeCheckpoint: every one is damaged.
        """
        head = read_head(self._objects, self._run)
        kept = [one for one in (head.kept if head else ()) if self._wanted in {None, one.step}]
        if not kept:
            what = "no checkpoint" if self._wanted is None else f"no checkpoint of step {self._wanted}"
            raise NotFound(f"The run {self._run} has {what}")
        for one in kept:
            if one.key not in self._damaged:
                self._kept = one
                try:
                    return self._describe(read_manifest(self._objects, self._run, one))
                except (Corrupt, NotFound) as error:
                    self.pass_over(str(error))
        why = "; ".join(f"{key.rpartition('/')[2][:21]}: {why}" for key, why in self._damaged.items())
        raise NoWholeCheckpoint(f"All {len(kept)} checkpoints of the run {self._run} are damaged", why)

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Nothing more is needed."""

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """Say which checkpoint this rank has found."""
        return replace(plan, storage_data=self._kept and self._kept.key)

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """See that all ranks have found the same one.

        Raises:
            Conflict: they have not.
        """
        if len({plan.storage_data for plan in plans}) > 1:
            why, todo = "one was published meanwhile", "Load again."
            raise Conflict("The ranks have found different checkpoints", why, todo)
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Read what this rank needs, and nothing else."""
        assert self._manifest is not None
        transfers, filled = [], []
        for item in plan.items:
            name = item.storage_index.fqn
            if item.type is LoadItemType.BYTE_IO:
                _give(planner, item, self._flat[name])
                continue
            tensor = planner.resolve_tensor(item)
            shard = next(one for one in self._stored[name].shards if one.box.offsets == item.storage_index.offset)
            offsets = tuple(at + by for at, by in zip(shard.box.offsets, item.storage_offsets, strict=True))
            transfers.append(Transfer(shard, Box(offsets, tuple(item.lengths)), tensor.detach()))
            filled.append((item, tensor))
        fetch(self._objects, self._manifest, transfers)
        for item, tensor in filled:
            planner.commit_tensor(item, tensor)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Whether it is a step."""
        return str(checkpoint_id).isdecimal()

    def _describe(self, manifest: Manifest) -> Metadata:
        layout = layout_of(manifest)
        numbers = sorted(set(leaves_in(layout.parts)))
        plain = [number for number in numbers if manifest.leaves[number].kind is not Kind.TORCH]
        values: list[Any] = [None] * len(manifest.leaves)
        for number in numbers:
            stored = layout.leaves[number]
            if number not in plain:
                values[number] = torch.empty(stored.shape, dtype=getattr(torch, stored.dtype), device="meta")
        of = {id(values[number]): layout.leaves[number] for number in numbers if number not in plain}
        for number, value in read_leaves(self._objects, manifest, wanted=plain).items():
            values[number] = value
        self._flat, paths = flatten_state_dict(unflatten(layout.parts, values))
        self._stored = {name: of[id(value)] for name, value in self._flat.items() if id(value) in of}
        self._manifest = manifest
        return Metadata({name: self._described(name, value) for name, value in self._flat.items()}, planner_data=paths)

    def _described(self, name: str, value: Any) -> TensorStorageMetadata | BytesStorageMetadata:  # noqa: ANN401
        if name not in self._stored:
            return BytesStorageMetadata()
        boxes = [shard.box for shard in self._stored[name].shards]
        chunks = [ChunkStorageMetadata(torch.Size(box.offsets), torch.Size(box.shape)) for box in boxes]
        return TensorStorageMetadata(TensorProperties(dtype=value.dtype), value.shape, chunks)


def load(
    state_dict: dict[str, Any],
    reader: SpotweldReader,
    *,
    planner: LoadPlanner | None = None,
    process_group: ProcessGroup | None = None,
) -> int:
    """``dcp.load`` from the newest checkpoint that is whole for every rank. Every rank calls this.

    Args:
        state_dict: as for ``dcp.load``.
        reader: where from.
        planner: as for ``dcp.load``.
        process_group: as for ``dcp.load``.

    Returns:
        Its step.

    Raises:
        NotFound: the run has no checkpoint.
        NoWholeCheckpoint: there are some, and every one is damaged.
        CheckpointException: as ``dcp.load``.
    """
    while True:
        reader.read_metadata()
        try:
            dcp.load(state_dict, storage_reader=reader, planner=planner, process_group=process_group)
        except CheckpointException as error:
            # Every rank has all ranks' failures, and so decides alike.
            failures = [failure for failure, _ in error.failures.values()]
            if not all(isinstance(failure, (Corrupt, NotFound)) for failure in failures):
                raise
            reader.pass_over(str(failures[0]))
        else:
            assert reader.step is not None
            return reader.step


class _Ready:
    """A node of the tree, in a place where ``torch.distributed.checkpoint`` expects a value."""

    def __init__(self, node: Node) -> None:
        self.node = node


def _encode(value: Any) -> Node:  # noqa: ANN401
    if isinstance(value, _Ready):
        return value.node
    if isinstance(value, dict):
        return {"dict": [[key, _encode(one)] for key, one in value.items()]}
    return {"list": [_encode(one) for one in value]}


def _item(item: WriteItem) -> Item:
    data = item.tensor_data
    assert data is not None
    dtype = str(data.properties.dtype).removeprefix("torch.")
    return Item(Kind.TORCH, dtype, tuple(data.size), item.type is WriteItemType.SHARD, None)


def _share(plan: SavePlan, planner: SavePlanner, names: dict[str, int]) -> ShareOf:
    leaves: list[Leaf] = []
    pieces: list[Piece] = []
    plain: dict[str, Any] = {}
    for item in plan.items:
        name = item.index.fqn
        if item.tensor_data is None:
            if not isinstance(planner, DefaultSavePlanner):
                why = f"{type(planner).__name__} would pickle it"
                raise UnsupportedState(f"{name} cannot be saved", why, "Use a planner made from DefaultSavePlanner.")
            plain[name] = planner.lookup_object(item.index)
            continue
        leaf = leaf_of(torch.as_tensor(planner.resolve_data(item)).detach(), name)
        assert leaf is not None
        leaves.append(leaf)
        chunk = item.tensor_data.chunk
        pieces.append(Piece(names[name], Box(tuple(chunk.offsets), tuple(chunk.sizes))))
    groups = [leaf.dtype for leaf in leaves]
    own = {"dict": [[name, flatten(value, name, leaves)] for name, value in plain.items()]}
    groups += ["own"] * (len(leaves) - len(groups))
    layout = lay_out([leaf.size for leaf in leaves], groups)
    return ShareOf(own, None, tuple(leaves), layout, tuple(pieces), Shared(None, ()))


def _give(planner: LoadPlanner, item: ReadItem, value: object) -> None:
    """Put a value where the planner would put one that it has unpickled."""
    if not isinstance(planner, DefaultLoadPlanner) or type(planner).load_bytes is not DefaultLoadPlanner.load_bytes:
        why = f"{type(planner).__name__} would unpickle it"
        raise UnsupportedState(f"{item.dest_index.fqn} cannot be loaded", why, "Use DefaultLoadPlanner's load_bytes().")
    if planner.flatten_state_dict:
        set_element(planner.original_state_dict, planner.mappings[item.dest_index.fqn], value)
    else:
        planner.state_dict[item.dest_index.fqn] = value


def _step(checkpoint_id: str | os.PathLike[str] | None) -> int | None:
    if checkpoint_id is None:
        return None
    text = str(checkpoint_id)
    if not text.isascii() or not text.isdecimal():
        raise UsageError(f"checkpoint_id={text[:80]!r} is no step", "checkpoints of a run are told apart by their step")
    return int(text)
