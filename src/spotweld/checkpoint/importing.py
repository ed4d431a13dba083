"""Safetensors files in: what a file holds becomes the only checkpoint of a new run. Nobody needs PyTorch for it."""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from spotweld.checkpoint.arrays import Kind
from spotweld.checkpoint.choice import entries
from spotweld.checkpoint.exchange import FROM_FILE, NOTES, NOTES_FORMAT, Note, Notes, in_file
from spotweld.checkpoint.format import RUN_NAME, LeafRecord, epoch_of, manifests_prefix, packs_prefix
from spotweld.checkpoint.layout import Layout, lay_out
from spotweld.checkpoint.publishing import Publisher
from spotweld.checkpoint.saving import Saver
from spotweld.checkpoint.snapshot import Content, Snapshot
from spotweld.checkpoint.staging import Staging
from spotweld.checkpoint.tensorfile import parse
from spotweld.checkpoint.tree import Node, unflatten
from spotweld.errors import Corrupt, SpotweldError, UsageError
from spotweld.project.words import quoted
from spotweld.store.heads import head_key, read_head, take_over
from spotweld.values.clocks import SystemClock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from spotweld.checkpoint.saving import Outcome
    from spotweld.checkpoint.tensorfile import Contents
    from spotweld.store.heads import Kept
    from spotweld.store.objects import Objects

DEFAULT_PART = "model"
_STAGING = 256 * 2**20
"""Bytes of the state that are on their way at a time."""
_GLANCE = 1.0
_FLUSH = 30.0
"""Seconds that an import which is given up waits for what is on its way."""


class Found(msgspec.Struct, frozen=True):
    """What a file holds."""

    tree: Node
    leaves: tuple[Note, ...]
    """What the tree's leaves are."""
    memory: tuple[memoryview, ...]
    """The bytes of each, in the mapped file."""
    step: int
    noted: bool
    """It was exported from a checkpoint, and its notes were followed."""

    @property
    def size(self) -> int:
        """Bytes of all leaves."""
        return sum(memory.nbytes for memory in self.memory)


def read_file(file: Path, part: str | None = None) -> Found:
    """What a safetensors file holds. Nothing but its header is read yet.

    Args:
        file: the file.
        part: the part whose content the tensors become, by name; None: what the notes of an export say, else ``model``.

    Raises:
        UsageError: it cannot be read, is no safetensors file, or its notes do not fit it.
    """
    data = _mapped(file)
    contents = parse(data, str(file))
    if part is None and NOTES in contents.metadata:
        notes = _notes_of(contents, str(file))
        tree, leaves, step, noted = notes.state, notes.leaves, notes.step, True
    else:
        found = contents.tensors.items()
        leaves = tuple(Note(name, Kind.TORCH, FROM_FILE[one.dtype], one.shape) for name, one in found)
        pairs = [[name, {"leaf": at}] for at, name in enumerate(contents.tensors)]
        tree, step, noted = {"dict": [[part or DEFAULT_PART, {"dict": pairs}]]}, 0, False
    places = [contents.tensors[leaf.tensor].data_offsets for leaf in leaves]
    memory = tuple(data[contents.start + begin : contents.start + end] for begin, end in places)
    return Found(tree, leaves, memory, step, noted)


def publish(objects: Objects, run: str, found: Found, step: int) -> Kept:
    """Make a new run with one checkpoint. Durable when it returns.

    It holds no states of random number generators: a program that starts from it keeps its own seeds.

    Args:
        objects: the store.
        run: its name; no such run may exist.
        found: what a file holds.
        step: steps finished.

    Raises:
        UsageError: there is such a run, or its name or the step makes no sense.
        StoreError: it could not be stored. Nothing is left of the run then, as far as the store can be reached.
    """
    if not RUN_NAME.fullmatch(run):
        raise UsageError(f"{quoted(run, 80)} cannot be a run's name", "letters, digits and ._- only, 128 at most")
    if not 0 <= step < 10**12:
        raise UsageError("A checkpoint is of a step from 0 on", f"not of step {step}")
    if read_head(objects, run) is not None:
        raise _exists(objects, run)
    writer = take_over(objects, run, 0)
    if writer.head.epoch != 1:
        raise _exists(objects, run)
    clock, staging = SystemClock(), Staging(_STAGING)
    every = [entry for entry in entries(found.tree) if entry.leaf is not None]
    owners = {entry.leaf: entry.part for entry in every}
    groups = [(owners[at], leaf.dtype) for at, leaf in enumerate(found.leaves)]
    layout = lay_out([memory.nbytes for memory in found.memory], groups)
    records = tuple(
        LeafRecord(leaf.kind, leaf.dtype, leaf.shape, chunk, offset)
        for leaf, (chunk, offset) in zip(found.leaves, layout.places, strict=True)
    )
    sizes = tuple(plan.size for plan in layout.chunks)
    source = _Mapped(found.memory, layout)
    content = Content(found.tree, {"dict": []}, records, sizes)
    snapshot = Snapshot(content, source, step, staging, clock, clock.monotonic())
    staging.reserve(sizes)
    saver = Saver(Publisher(objects, run, writer, clock, keep_last=1, keep_every=0), clock)
    try:
        saver.start(snapshot, "import")
        while not saver.wait(_GLANCE):
            pass
        return _kept(saver.collect())
    except BaseException:
        try:
            saver.wait(_FLUSH)  # what comes to the store after this would stay there
        finally:
            _remove(objects, run)
        raise


class _Mapped:
    """The chunks of a mapped file's tensors."""

    def __init__(self, memory: Sequence[memoryview], layout: Layout) -> None:
        self._memory, self._chunks = memory, layout.chunks

    def digest(self, number: int) -> None:
        """Not known: nothing was ever stored before."""

    def is_plain(self, _number: int) -> bool:
        return False

    def copy(self, number: int, into: memoryview) -> None:
        into[:] = bytes(into.nbytes)
        for part in self._chunks[number].parts:
            into[part.offset : part.offset + part.size] = self._memory[part.leaf][part.start : part.start + part.size]


def _kept(outcome: Outcome | None) -> Kept:
    if outcome is None or outcome.kept is None:
        raise (outcome and outcome.error) or UsageError("The import was given up")
    return outcome.kept


def _remove(objects: Objects, run: str) -> None:
    """Take back what was written of a run, unless somebody has gone on with it."""
    with suppress(SpotweldError):
        head = read_head(objects, run)
        if head is None or head.epoch != 1:
            return
        for prefix in (manifests_prefix(run), packs_prefix(run)):
            for meta in list(objects.list(prefix)):
                if epoch_of(meta.key) == 1:
                    objects.delete(meta.key)
        objects.delete(head_key(run))


def _mapped(file: Path) -> memoryview:
    try:
        handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if not os.fstat(handle).st_size:
                return memoryview(b"")
            return memoryview(mmap.mmap(handle, 0, access=mmap.ACCESS_READ))
        finally:
            os.close(handle)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{quoted(str(file), 200)} cannot be read", why) from error


def _notes_of(contents: Contents, file: str) -> Notes:
    """The notes of an export, once they are seen to describe just what the file has."""
    try:
        notes = msgspec.json.decode(contents.metadata[NOTES], type=Notes)
        if notes.format == NOTES_FORMAT:
            _check(notes, contents)
    except (msgspec.MsgspecError, Corrupt, RecursionError, ValueError) as error:
        raise UsageError(
            f"The notes in {quoted(file, 200)} do not fit it",
            quoted(str(error), 300)[1:-1],
            "Another program has changed the file. Take its tensors as they are with --part.",
        ) from None
    if notes.format != NOTES_FORMAT:
        raise UsageError(
            f"The notes in {quoted(file, 200)} have format {notes.format}",
            f"this Spotweld knows format {NOTES_FORMAT}",
            "Upgrade, or take its tensors as they are with --part.",
        )
    return notes


def _check(notes: Notes, contents: Contents) -> None:
    names = [note.tensor for note in notes.leaves]
    strange = contents.tensors.keys() ^ set(names)
    _require(not strange, f"only one of the two has {min(strange, default='')!r}")
    _require(len(names) == len(set(names)), "a tensor is named twice")
    for note in notes.leaves:
        tensor = contents.tensors[note.tensor]
        fits = all(length >= 0 for length in note.shape) and in_file(note.kind, note.dtype, note.shape)
        _require(fits == (tensor.dtype, tensor.shape), f"{note.tensor!r} is {tensor.dtype} {list(tensor.shape)} now")
    state = unflatten(notes.state, notes.leaves)
    named = isinstance(state, dict) and "dict" in notes.state and all(isinstance(name, str) and name for name in state)
    _require(named, "they describe no parts")
    used = {entry.leaf for entry in entries(notes.state) if entry.leaf is not None}
    _require(used == set(range(len(names))), "a tensor has no place in the state")


def _require(fine: bool, wrong: str) -> None:
    if not fine:
        raise ValueError(wrong)


def _exists(objects: Objects, run: str) -> UsageError:
    return UsageError(
        f"There is a run {quoted(run)} in {objects.url} already", "an import never touches one", "Give another name."
    )
