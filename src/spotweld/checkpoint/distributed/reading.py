"""Spotweld's store behind ``torch.distributed.checkpoint.load``.

Nothing in the store is ever unpickled: values are put where a planner would put what it has unpickled.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import torch
from torch.distributed.checkpoint._nested_dict import flatten_state_dict
from torch.distributed.checkpoint._traverse import set_element
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadItemType
from torch.distributed.checkpoint.state_dict_loader import load as dcp_load
from torch.distributed.checkpoint.storage import StorageReader
from torch.futures import Future

from spotweld.checkpoint.arrays import Kind
from spotweld.checkpoint.distributed.fetching import Transfer, fetch
from spotweld.checkpoint.distributed.planning import Box
from spotweld.checkpoint.distributed.shards import Stored, layout_of, leaves_in
from spotweld.checkpoint.distributed.writing import step_of
from spotweld.checkpoint.format import Manifest
from spotweld.checkpoint.restoring import read_leaves, read_manifest
from spotweld.checkpoint.settings import settings
from spotweld.checkpoint.tree import unflatten
from spotweld.checkpoint.voice import warn
from spotweld.errors import Conflict, Corrupt, NotFound, NoWholeCheckpoint, UnsupportedState
from spotweld.store.heads import Kept, read_head
from spotweld.store.opening import open_store

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, ReadItem

    from spotweld.store.objects import Objects


class _Found(msgspec.Struct, frozen=True):
    """A checkpoint whose manifest is whole."""

    kept: Kept
    manifest: Manifest
    flat: dict[str, Any]
    """Tensors without values, and whole values, by the names that ``torch.distributed.checkpoint`` gives them."""
    paths: dict[str, Any]
    """Where in the nested state each lies."""
    stored: dict[str, Stored]
    """The tensors."""


class SpotweldReader(StorageReader):
    """Where ``dcp.load`` reads from: the newest checkpoint, or that of the ``checkpoint_id`` given last.

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
        self._found: _Found | None = None

    @property
    def step(self) -> int:
        """Of the checkpoint that was found last."""
        return self._last.kept.step

    @property
    def _last(self) -> _Found:
        if self._found is None:
            raise NotFound(f"No checkpoint of the run {self._run} has been looked for")
        return self._found

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Begin another load."""
        self._wanted = step_of(checkpoint_id)

    def pass_over(self, why: str) -> None:
        """The checkpoint that was found last is damaged: do not use it again."""
        self._pass_over(self._last.kept, why)

    def read_metadata(self) -> Metadata:
        """Find the checkpoint, and say what is in it.

        Raises:
            NotFound: the run has none, or none of that step.
            NoWholeCheckpoint: every one is damaged.
        """
        while True:
            kept = self._meant()
            for one in kept:
                if one.key not in self._damaged:
                    try:
                        self._found = _look_into(self._objects, self._run, one)
                    except (Corrupt, NotFound) as error:
                        self._pass_over(one, str(error))
                    else:
                        return _metadata(self._found)
            if self._meant() == kept:
                break  # else a busy run has dropped them while we looked
        raise NoWholeCheckpoint(
            f"All {len(kept)} checkpoints of the run {self._run} are damaged",
            "; ".join(f"step {one.step}: {self._damaged[one.key]}" for one in kept),
        )

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Nothing more is needed."""

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """Say which checkpoint this rank has found."""
        return replace(plan, storage_data=self._last.kept.key)

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
        found = self._last
        transfers, filled = [], []
        for item in plan.items:
            name = item.storage_index.fqn
            if item.type is LoadItemType.BYTE_IO:
                _give(planner, item, found.flat[name])
                continue
            tensor = planner.resolve_tensor(item)
            shard = next(one for one in found.stored[name].shards if one.box.offsets == item.storage_index.offset)
            offsets = tuple(at + by for at, by in zip(shard.box.offsets, item.storage_offsets, strict=True))
            transfers.append(Transfer(shard, Box(offsets, tuple(item.lengths)), tensor.detach()))
            filled.append((item, tensor))
        fetch(self._objects, found.manifest, transfers)
        for item, tensor in filled:
            planner.commit_tensor(item, tensor)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Whether it is a step."""
        return str(checkpoint_id).isdecimal()

    def _meant(self) -> list[Kept]:
        """The checkpoints that may be loaded now, newest first; at least one."""
        head = read_head(self._objects, self._run)
        kept = [one for one in (head.kept if head else ()) if self._wanted in {None, one.step}]
        if not kept:
            what = "no checkpoint" if self._wanted is None else f"no checkpoint of step {self._wanted}"
            raise NotFound(f"The run {self._run} has {what}")
        return kept

    def _pass_over(self, kept: Kept, why: str) -> None:
        self._damaged[kept.key] = why
        head = read_head(self._objects, self._run)
        if head is not None and kept in head.kept:
            warn(f"the checkpoint of step {kept.step} is damaged and passed over: {why}")
        else:
            warn(f"the checkpoint of step {kept.step} is passed over: the run has gone on and dropped it meanwhile")


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
            dcp_load(state_dict, storage_reader=reader, planner=planner, process_group=process_group)
        except CheckpointException as error:
            # Every rank has all ranks' failures, and so decides alike.
            failures = [failure for failure, _ in error.failures.values()]
            if not all(isinstance(failure, (Corrupt, NotFound)) for failure in failures):
                raise
            reader.pass_over(str(failures[0]))
        else:
            return reader.step


def _look_into(objects: Objects, run: str, kept: Kept) -> _Found:
    manifest = read_manifest(objects, run, kept)
    layout = layout_of(manifest)
    numbers = set(leaves_in(layout.parts))
    tensors = {number for number in numbers if manifest.leaves[number].kind is Kind.TORCH}
    values: list[Any] = [None] * len(manifest.leaves)
    for number in tensors:
        stored = layout.leaves[number]
        values[number] = torch.empty(stored.shape, dtype=getattr(torch, stored.dtype), device="meta")
    for number, value in read_leaves(objects, manifest, wanted=sorted(numbers - tensors)).items():
        values[number] = value
    nested: Any = unflatten(layout.parts, values)
    flat, paths = flatten_state_dict(nested)
    known = {id(values[number]): layout.leaves[number] for number in tensors}
    return _Found(kept, manifest, flat, paths, {name: known[id(one)] for name, one in flat.items() if id(one) in known})


def _metadata(found: _Found) -> Metadata:
    entries: dict[str, TensorStorageMetadata | BytesStorageMetadata] = {}
    for name, value in found.flat.items():
        if name in found.stored:
            boxes = [shard.box for shard in found.stored[name].shards]
            chunks = [ChunkStorageMetadata(torch.Size(box.offsets), torch.Size(box.shape)) for box in boxes]
            entries[name] = TensorStorageMetadata(TensorProperties(dtype=value.dtype), value.shape, chunks)
        else:
            entries[name] = BytesStorageMetadata()
    return Metadata(entries, planner_data=found.paths)


def _give(planner: LoadPlanner, item: ReadItem, value: object) -> None:
    """Put a value where the planner would put one that it has unpickled."""
    if not isinstance(planner, DefaultLoadPlanner) or type(planner).load_bytes is not DefaultLoadPlanner.load_bytes:
        why = f"{type(planner).__name__} would unpickle it"
        raise UnsupportedState(f"{item.dest_index.fqn} cannot be loaded", why, "Use DefaultLoadPlanner's load_bytes().")
    if planner.flatten_state_dict:
        set_element(planner.original_state_dict, planner.mappings[item.dest_index.fqn], value)
    else:
        planner.state_dict[item.dest_index.fqn] = value
