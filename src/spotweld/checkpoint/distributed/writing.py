"""Spotweld's store behind ``torch.distributed.checkpoint.save``.

Nothing is pickled into the store: what is no tensor goes through ``checkpoint.tree`` like everything else that Spotweld
stores, and what that does not know is refused. The values that a planner would pickle are taken from it before it does.
"""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import torch
from torch.distributed.checkpoint._nested_dict import unflatten_state_dict
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.metadata import MetadataIndex
from torch.distributed.checkpoint.planner import WriteItemType
from torch.distributed.checkpoint.storage import StorageWriter, WriteResult
from torch.futures import Future

from spotweld.checkpoint.arrays import Kind
from spotweld.checkpoint.distributed.planning import Box, Item, Piece
from spotweld.checkpoint.distributed.publishing import Report, Shared, ShareSnapshot, Storer, check_reports, content_of
from spotweld.checkpoint.distributed.shards import Share, merge, state_node
from spotweld.checkpoint.layout import lay_out
from spotweld.checkpoint.publishing import Publisher
from spotweld.checkpoint.session import take_over_mending
from spotweld.checkpoint.settings import settings
from spotweld.checkpoint.snapshot import State
from spotweld.checkpoint.staging import Staging
from spotweld.checkpoint.tree import flatten
from spotweld.errors import UnsupportedState, UsageError
from spotweld.store.opening import open_store
from spotweld.values.clocks import SystemClock

if TYPE_CHECKING:
    from torch.distributed.checkpoint.metadata import Metadata
    from torch.distributed.checkpoint.planner import SavePlan, SavePlanner

    from spotweld.checkpoint.arrays import Leaf
    from spotweld.checkpoint.tree import Node
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

    Raises:
        UsageError: an argument makes no sense, or the environment asks for tiers.
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
        if tiers := self._settings.policy.tiers:
            raise UsageError(
                "A writer for torch.distributed.checkpoint has no tiers",
                f"its saves go straight to the store, and {', '.join(tier.store for tier in tiers)} was asked for",
                "Remove tiers and store_every from the job's checkpoint, or use DistributedCheckpointer.",
            )
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
        self._step = step_of(checkpoint_id)

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401, ARG002
        """Nothing is written yet."""
        if not kwargs.get("use_collectives", True):
            raise UsageError("A checkpoint of many ranks is published by one of them", "use_collectives is False")

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Nothing to add."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Take the run over, and number the arrays. On the coordinator."""
        self._claimed()
        self._last = self._last + 1 if self._step is None else self._step
        self._step = None  # a save without a checkpoint_id does not reset
        self._names, self._items = {}, []
        for plan in plans:
            for item in plan.items:
                data = item.tensor_data
                if data is not None and item.index.fqn not in self._names:
                    self._names[item.index.fqn] = len(self._items)
                    dtype, shape = str(data.properties.dtype).removeprefix("torch."), tuple(data.size)
                    self._items.append(Item(Kind.TORCH, dtype, shape, item.type is WriteItemType.SHARD, None))
        self._saves += 1
        told = {"epoch": self._epoch, "step": self._last, "names": self._names}
        told |= {"save": self._saves, "published": self._published}
        return [replace(plan, storage_data={**told, "rank": rank}) for rank, plan in enumerate(plans)]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Store this rank's share.

        Raises:
            UnsupportedState: the planner keeps plans from one save to the next.
        """
        if getattr(planner, "_enable_plan_caching", False):  # PyTorch has no other word for it
            raise UnsupportedState(
                "A planner that caches its plans cannot be used here",
                "its plans say where and under which numbers an earlier save has stored the arrays",
                "Leave out enable_plan_caching.",
            )
        told = plan.storage_data
        if self._storer is None:
            run, compress = self._settings.run, self._settings.policy.compress
            self._storer = Storer(self._store, run, told["epoch"], told["rank"], None, compress)
        if self._written is not None and self._written[0] == told["published"]:
            self._storer.published(self._written[1])
        state, pieces = _share(plan, planner, told["names"])
        staging = Staging(min(_STAGED, self._settings.policy.staging_memory or _STAGED))
        snapshot = ShareSnapshot(state, pieces, Shared(None, ()), told["step"], staging, SystemClock(), 0.0)
        staging.reserve(snapshot.content.sizes)
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
        publisher = self._claimed()
        reports = [msgspec.json.decode(one.storage_data, type=Report) for (one,) in results]
        check_reports(publisher, reports)
        whole = merge(self._items, [report.share for report in reports if report.share is not None])
        flat = {name: _Ready({"leaf": number}) for name, number in self._names.items()}
        for node in whole.own:
            flat |= {name: _Ready(value) for name, value in node["dict"]}
        nested = unflatten_state_dict(flat, metadata.planner_data) if metadata.planner_data else flat
        tree = state_node(_encode(_numbered(nested)), whole.sharded, [{"dict": []} for _ in reports])
        publisher.announce(self._last, content_of(tree, whole), whole.chunks, whole.packs)
        self._published = self._saves

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Whether it is a step."""
        return str(checkpoint_id).isdecimal()

    def _claimed(self) -> Publisher:
        """The right to publish; takes the run over when it is first needed."""
        if self._publisher is None:
            policy, run = self._settings.policy, self._settings.run
            writer = take_over_mending(self._store, run, self._settings.attempt)
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
        return self._publisher

    @property
    def _store(self) -> Objects:
        if self._objects is None:
            self._objects = open_store(self._settings.store)
        return self._objects


def step_of(checkpoint_id: str | os.PathLike[str] | None) -> int | None:
    """The step that a ``checkpoint_id`` means; None: it was left out.

    Raises:
        UsageError: it is no number.
    """
    if checkpoint_id is None:
        return None
    text = str(checkpoint_id)
    if not text.isascii() or not text.isdecimal():
        raise UsageError(f"checkpoint_id={text[:80]!r} is no step", "checkpoints of a run are told apart by their step")
    return int(text)


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


def _numbered(value: Any) -> Any:  # noqa: ANN401
    """The same as optimizers have it: PyTorch makes texts of the numbers in ``state``, and leaves out an empty one."""
    if isinstance(value, list):
        return [_numbered(one) for one in value]
    if not isinstance(value, dict):
        return value
    found = {key: _numbered(one) for key, one in value.items()}
    groups, state = found.get("param_groups"), found.get("state", {})
    if isinstance(groups, list) and isinstance(state, dict):
        numbers: dict[str, int] = {}
        for group in groups:
            match group:
                case {"params": _Ready(node={"list": [*params]})}:
                    numbers |= {str(number): number for number in params if type(number) is int}
        found["state"] = {numbers.get(key, key): one for key, one in state.items()}
    return found


def _share(plan: SavePlan, planner: SavePlanner, names: dict[str, int]) -> tuple[State, tuple[Piece, ...]]:
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
        flatten(torch.as_tensor(planner.resolve_data(item)).detach(), name, leaves)
        chunk = item.tensor_data.chunk
        pieces.append(Piece(names[name], Box(tuple(chunk.offsets), tuple(chunk.sizes))))
    groups = [leaf.dtype for leaf in leaves]
    own = {"dict": [[name, flatten(value, name, leaves)] for name, value in plain.items()]}
    groups += ["own"] * (len(leaves) - len(groups))
    layout = lay_out([leaf.size for leaf in leaves], groups)
    return State(own, None, tuple(leaves), layout), tuple(pieces)
