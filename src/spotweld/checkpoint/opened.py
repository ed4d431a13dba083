"""A published checkpoint, opened for reading: as much of it as is asked for, and nothing else is fetched."""

from __future__ import annotations

import copy
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

from spotweld.checkpoint.choice import chosen, entries, parts, prune
from spotweld.checkpoint.format import RUN_NAME
from spotweld.checkpoint.generators import with_generators
from spotweld.checkpoint.inventory import fill, inventory_of
from spotweld.checkpoint.restoring import read_manifest, values_of
from spotweld.checkpoint.state import Saved, check_parts, places, put_back, take
from spotweld.checkpoint.tree import unflatten
from spotweld.checkpoint.voice import warn
from spotweld.errors import Corrupt, NotFound, NoWholeCheckpoint, StateMismatch, UsageError
from spotweld.project.words import quoted
from spotweld.store.heads import head_key, read_head
from spotweld.store.opening import open_store

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import torch

    from spotweld.checkpoint.devices import Place
    from spotweld.checkpoint.format import LeafRecord, Manifest
    from spotweld.store.heads import Head, Kept
    from spotweld.store.objects import Objects

BATCH = 64 * 2**20
"""Bytes of leaves that are read at once where they are used up one after another."""
_TRIES = 5
"""Heads in a row whose checkpoints a busy writer may drop while we look."""
_MISSING: Any = object()


class Checkpoint:
    """One checkpoint of a run; made by ``open_checkpoint``. Bytes are fetched, and verified, when they are asked for.

    Reading never takes the run over: a program that writes to it meanwhile does not notice. It may drop this
    checkpoint, though, as its retention says; reading it fails with ``NotFound`` then.
    """

    def __init__(self, objects: Objects, kept: Kept, manifest: Manifest) -> None:
        self.inventory = inventory_of(manifest)
        """What is in it."""
        self.objects = objects
        self.kept = kept
        self.manifest = manifest
        """What ``docs/format.md`` describes."""
        self.entries = entries(self.inventory.state)
        """Everything in the state, by path."""

    def __repr__(self) -> str:
        return f"<checkpoint of step {self.step} of {self.manifest.run} in {self.objects.url}>"

    @property
    def step(self) -> int:
        """Steps finished."""
        return self.manifest.step

    @property
    def created(self) -> float:
        """When it was made, by its writer's clock: seconds since 1970 UTC."""
        return self.manifest.created

    @property
    def size(self) -> int:
        """Bytes of all its arrays, decoded; the states of the random number generators not counted."""
        return sum(self.inventory.leaves[entry.leaf].size for entry in self.entries if entry.leaf is not None)

    def names(self) -> list[str]:
        """The paths of all arrays in it, such as ``model.weight`` and ``optimizer.state[0].exp_avg``, in order."""
        return [entry.path for entry in self.entries if entry.leaf is not None]

    def load(
        self,
        only: str | Iterable[str] | None = None,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
    ) -> dict[str, Any]:
        """The state, or what was chosen of it, as it was given to ``Checkpointer``: a dict of parts.

        Args:
            only: paths such as ``"model"`` or ``["model.layer1", "optimizer.param_groups"]``; None: everything. What
                was not chosen is missing in dicts, and None in lists and tuples, where the rest keeps its place. Only
                chunks that hold something chosen are fetched.
            device: where tensors are put; None: into this machine's memory.
            dtype: what tensors of floating-point numbers become, such as ``torch.bfloat16`` or ``"bfloat16"``;
                integers, booleans and complex numbers stay as they are. None: as they were saved.

        Returns:
            Tensors, arrays and plain values in the containers in which they were. They are the caller's own.

        Raises:
            UsageError: it has nothing of that name, or there is no such dtype.
            Corrupt: what is stored is not what was written.
            NotFound: the run has dropped this checkpoint meanwhile, or an object of it is lost.
            Unavailable: the store did not answer.
        """
        wanted = None if dtype is None else _dtype(dtype)
        flags = chosen(self.entries, only)
        values: list[object] = [None] * (len(self.inventory.leaves) + 1)
        numbers = self._numbers(flags)
        plain = device is None and wanted is None
        for batch in [numbers] if plain else batches(self.inventory.leaves, numbers):
            for number, value in self.read(batch).items():
                values[number] = value if plain else _converted(value, device, wanted)
        found: dict[str, Any] = self._tree(flags, values)
        return found

    def load_into(self, state: Mapping[str, object], only: str | Iterable[str] | None = None) -> None:
        """Put parts of this checkpoint into live objects, in place, as a resume would.

        Args:
            state: the live parts, as for ``Checkpointer``: modules, optimizers, tensors, dicts, ... Parts that only the
                checkpoint has are left out.
            only: paths as for ``load``: nothing else of the live parts is changed. None: all of every part in
                ``state``.

        Raises:
            UsageError: the checkpoint or ``state`` has nothing of that name, or a part cannot be changed in place.
            StateMismatch: a name, shape or dtype differs. What can be compared is compared before anything is changed.
            Corrupt, NotFound, Unavailable: as ``load``. Memory of the live parts may be overwritten in part then, just
                as after a resume that failed: do not train on.
        """
        state = with_generators(state)
        check_parts(state)
        flags = self._flags_of(state) if only is None else chosen(self.entries, only)
        meant = parts(entry for entry, flag in zip(self.entries, flags, strict=True) if flag)
        if strange := [name for name in meant if name not in state]:
            raise UsageError(f"There is no part {quoted(strange[0])} in the program", f"it has {sorted(state)}")
        live = {name: state[name] for name in meant}
        partial = {entry.part for entry, flag in zip(self.entries, flags, strict=True) if not flag}

        def fitted(values: Sequence[object]) -> dict[str, Any]:
            """What the live parts are to become, once these are the values of the leaves."""
            saved = self._tree(flags, [*values, _MISSING])
            whole: Any = unflatten(self.inventory.state, values)
            now = take({name: part for name, part in live.items() if name in partial})
            return {
                name: _laid_over(now[name], saved[name], whole[name], name) if name in now else saved[name]
                for name in meant
            }

        leaves = self.inventory.leaves
        expected = fitted([Saved(at, leaf.kind, leaf.dtype, leaf.shape) for at, leaf in enumerate(leaves)])
        found = self.read(self._numbers(flags), places(live, expected))
        put_back(live, fitted([found.get(number) for number in range(len(leaves))]))

    def read(self, numbers: Sequence[int], into: Mapping[int, Any] | None = None) -> dict[int, object]:
        """The values of arrays by number; those in ``into`` are filled in place."""
        return values_of(self.inventory.leaves, self.fetch, into, numbers)

    def fetch(self, memory: Mapping[int, Place]) -> None:
        """Fill memory with the bytes of arrays, by number."""
        try:
            fill(self.objects, self.manifest, self.inventory, memory)
        except NotFound as error:
            raise self._missing(error) from error

    def _missing(self, error: NotFound) -> NotFound:
        """The error to raise where an object of this checkpoint is not there."""
        head = read_head(self.objects, self.manifest.run)
        if head is None or self.kept.key not in {kept.key for kept in head.kept}:
            return NotFound(
                f"The checkpoint of step {self.step} of {self.manifest.run} was dropped while it was read",
                "the run has gone on, and keeps only some of its checkpoints",
                "Open a newer one.",
            )
        return error

    def _numbers(self, flags: Iterable[bool]) -> list[int]:
        pairs = zip(self.entries, flags, strict=True)
        return sorted({entry.leaf for entry, flag in pairs if flag and entry.leaf is not None})

    def _tree(self, flags: Iterable[bool], values: Sequence[object]) -> Any:  # noqa: ANN401
        missing = {"leaf": len(values) - 1}
        return unflatten(prune(self.inventory.state, flags, missing), values)

    def _flags_of(self, state: Iterable[str]) -> list[bool]:
        """All of these parts, whatever their names look like."""
        wanted = set(state)
        if missing := wanted - set(parts(self.entries)):
            chosen(self.entries, missing)
        return [entry.part in wanted for entry in self.entries]


def open_checkpoint(store: str | Objects, run: str = "default", step: int | None = None) -> Checkpoint:
    """Open a checkpoint of a run for reading. Nothing of the run is taken over or changed.

    Args:
        store: the store's URL (``file:.spotweld/store``, ``s3://bucket/prefix``, ...) or the store itself.
        run: the run's name.
        step: steps finished; None: the newest checkpoint. One whose manifest is damaged is passed over, with a warning;
            damage of its data is found when that is loaded.

    Raises:
        UsageError: there is no such store, run or step.
        Corrupt: the run's head, or the manifest of that step, is damaged.
        NoWholeCheckpoint: the manifests of all checkpoints are damaged.
        UnknownFormat: a newer Spotweld wrote it.
        Unavailable: the store did not answer.
    """
    objects = open_store(store, verify=False) if isinstance(store, str) else store
    dropped: NotFound | None = None
    for _ in range(_TRIES):
        head = published(objects, run)
        try:
            return _open(objects, run, head, step)
        except NotFound as error:
            # A busy run may have dropped it between our two looks; a head that still names it says that it is lost.
            dropped = error
            if published(objects, run) == head:
                break
    raise dropped or Corrupt(f"The run {run} cannot be read")


def published(objects: Objects, run: str) -> Head:
    """The head of a run that has at least one checkpoint.

    Raises:
        UsageError: there is no such run, or nothing in it.
        Corrupt, UnknownFormat, Unavailable: as ``read_head``.
    """
    if not RUN_NAME.fullmatch(run):
        raise UsageError(f"{quoted(run, 80)} cannot be a run's name", "letters, digits and ._- only, 128 at most")
    head = read_head(objects, run)
    if head is None:
        raise UsageError(f"There is no run {quoted(run)} in {objects.url}", f"it has no {head_key(run)}")
    if not head.kept:
        raise UsageError(f"The run {run} has no checkpoint yet", "a program has taken it over and saved nothing so far")
    return head


def batches(leaves: Sequence[LeafRecord], numbers: Iterable[int], most: int = BATCH) -> Iterator[list[int]]:
    """Leaves in the order in which they lie in the store, as many at a time as have ``most`` bytes; at least one."""
    batch: list[int] = []
    size = 0
    for number in sorted(numbers, key=lambda at: (leaves[at].chunk, leaves[at].offset)):
        more = leaves[number].size
        if batch and size + more > most:
            yield batch
            batch, size = [], 0
        batch.append(number)
        size += more
    if batch:
        yield batch


def _open(objects: Objects, run: str, head: Head, step: int | None) -> Checkpoint:
    if step is not None:
        found = [kept for kept in head.kept if kept.step == step]
        if not found:
            kept = ", ".join(str(kept.step) for kept in head.kept)
            raise UsageError(f"The run {run} has no checkpoint of step {step}", f"it has {kept}")
        return Checkpoint(objects, found[0], read_manifest(objects, run, found[0]))
    damaged = []
    for one in head.kept:
        try:
            checkpoint = Checkpoint(objects, one, read_manifest(objects, run, one))
        except Corrupt as error:
            damaged.append(f"step {one.step}: {error}")
        else:
            for why in damaged:
                warn(f"a newer checkpoint is damaged and passed over: {why}")
            return checkpoint
    raise NoWholeCheckpoint(f"All {len(damaged)} checkpoints of the run {run} are damaged", "; ".join(damaged))


def _dtype(dtype: str | torch.dtype) -> torch.dtype:
    import torch  # noqa: PLC0415 - whoever names a dtype of it has it

    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise UsageError(f"{quoted(str(dtype))} is no floating-point dtype", "", "Give one such as 'bfloat16'.")
    return found


def _converted(value: object, device: str | torch.device | None, dtype: torch.dtype | None) -> object:
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.Tensor):
        return value
    return value.to(device=device, dtype=dtype if value.is_floating_point() else None)


def _laid_over(now: Any, saved: Any, whole: Any, path: str) -> Any:  # noqa: ANN401
    """``now`` with what ``saved`` has instead, which was chosen of ``whole``; none of them is changed."""
    if saved is _MISSING:
        if now is _MISSING:
            raise StateMismatch(f"{path} does not fit", "the program has nothing where the checkpoint was not asked")
        return now
    if isinstance(saved, dict):
        merged = copy.copy(now) if isinstance(now, dict) else copy.copy(saved)
        for key, value in saved.items():
            inside = f"{path}.{key}" if path else str(key)
            ours = now.get(key, _MISSING) if isinstance(now, dict) else _MISSING
            merged[key] = _laid_over(ours, value, whole[key], inside)
        return merged
    if isinstance(saved, (list, tuple, deque)) and not _has_all(saved, whole):
        same = isinstance(now, (list, tuple, deque)) and len(now) == len(saved)
        if not same:
            raise StateMismatch(f"{path} does not fit", f"it had {len(saved)} items, and only some were asked for")
        pairs = zip(now, saved, whole, strict=True)
        items = [_laid_over(*three, f"{path}[{at}]") for at, three in enumerate(pairs)]
        return deque(items, saved.maxlen) if isinstance(saved, deque) else type(saved)(items)
    return saved


def _has_all(saved: Any, whole: Any) -> bool:  # noqa: ANN401
    """Everything in it was chosen."""
    if isinstance(saved, dict):
        return saved.keys() == whole.keys() and all(_has_all(value, whole[key]) for key, value in saved.items())
    if isinstance(saved, (list, tuple, deque)):
        return all(_has_all(*pair) for pair in zip(saved, whole, strict=True))
    return saved is not _MISSING
