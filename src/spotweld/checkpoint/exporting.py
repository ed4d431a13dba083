"""Checkpoints out to safetensors files. ``docs/reading.md`` says what becomes of what."""

from __future__ import annotations

import math
import os
import secrets
from collections import deque
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import msgspec

from spotweld.checkpoint.arrays import Kind, allocate
from spotweld.checkpoint.choice import chosen, map_leaves, prune
from spotweld.checkpoint.exchange import NOTES, NOTES_FORMAT, Note, Notes, in_file
from spotweld.checkpoint.opened import batches
from spotweld.checkpoint.tensorfile import METADATA, header, place
from spotweld.checkpoint.tree import unflatten
from spotweld.errors import UsageError
from spotweld.project.words import quoted
from spotweld.store.files import sync_folder
from spotweld.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from spotweld.checkpoint.choice import Entry
    from spotweld.checkpoint.opened import Checkpoint


class Exported(msgspec.Struct, frozen=True):
    """What was written."""

    file: str
    run: str
    step: int
    size: int
    """Bytes of the file."""
    tensors: int
    values: int
    """Plain values in the metadata."""
    as_bytes: tuple[str, ...]
    """Tensors whose dtype the format does not have; they are there as bytes."""
    renamed: tuple[str, ...]
    """Tensors with a number behind their names, because an earlier one has the same."""


def export(
    checkpoint: Checkpoint,
    file: Path,
    *,
    only: Sequence[str] | None = None,
    force: bool = False,
    told: Callable[[int, int], None] | None = None,
) -> Exported:
    """Write a checkpoint, or what is chosen of it, to a safetensors file.

    No more than 64 MiB, or one leaf, is in memory at a time. The file appears under its name when it is whole.

    Args:
        checkpoint: an open one.
        file: where to.
        only: paths as for ``Checkpoint.load``. If that is one part, names begin below it, as a module's own do.
        force: replace the file if it is there.
        told: called with the bytes of tensors written so far, and all that there will be.

    Raises:
        UsageError: the file is there, or cannot be written; or there is nothing of that name.
        Corrupt, NotFound, Unavailable: as ``Checkpoint.load``.
    """
    if not force and os.path.lexists(file):
        raise _exists(file)
    flags = chosen(checkpoint.entries, only)
    kept = [entry for entry, flag in zip(checkpoint.entries, flags, strict=True) if flag]
    names = _names(kept, only)
    leaves = checkpoint.inventory.leaves
    arrays = {entry.leaf: name for entry, name in zip(kept, names, strict=True) if entry.leaf is not None}
    forms = {number: in_file(leaves[number].kind, leaves[number].dtype, leaves[number].shape) for number in arrays}
    tensors = place((name, *forms[number]) for number, name in arrays.items())
    values = {name: _readable(entry.node) for entry, name in zip(kept, names, strict=True) if entry.leaf is None}
    notes = _notes(checkpoint, flags, arrays)
    kinds = {leaves[number].kind for number in arrays}
    metadata = values | {"format": "pt" if Kind.TORCH in kinds or not kinds else "np", NOTES: notes}
    ahead = header(tensors, metadata)
    total = sum(leaves[number].size for number in arrays)
    with _new_file(file, force=force) as handle:
        _write(handle, memoryview(ahead), 0)
        done = 0
        for batch in batches(leaves, arrays):
            memory = {number: allocate(leaves[number].size) for number in batch}
            checkpoint.fetch(memory)
            for number, data in memory.items():
                _write(handle, data, len(ahead) + tensors[arrays[number]].data_offsets[0])
                done += data.nbytes
            if told is not None:
                told(done, total)
    return Exported(
        file=str(file),
        run=checkpoint.manifest.run,
        step=checkpoint.step,
        size=len(ahead) + total,
        tensors=len(arrays),
        values=len(values),
        as_bytes=tuple(name for number, name in arrays.items() if forms[number][1] != leaves[number].shape),
        renamed=tuple(
            name
            for entry, name in zip(kept, names, strict=True)
            if entry.leaf is not None and (entry.namesakes or name == f"{METADATA}#2")
        ),
    )


def _names(kept: Sequence[Entry], only: Sequence[str] | None) -> list[str]:
    """What each entry is called in the file."""
    part = only[0] if only and len(only) == 1 else ""
    if part and all(entry.part == part for entry in kept):
        names = [entry.path[len(part) :].removeprefix(".") or entry.path for entry in kept]
    else:
        names = [entry.path for entry in kept]
    pairs = zip(kept, names, strict=True)
    return [f"{name}#2" if _taken(name, array=entry.leaf is not None) else name for entry, name in pairs]


def _taken(name: str, *, array: bool) -> bool:
    """The format, or we, mean something else by that name: values stand beside it in the metadata."""
    return name == METADATA if array else name in {NOTES, "format"}


def _notes(checkpoint: Checkpoint, flags: Sequence[bool], arrays: dict[int, str]) -> str:
    manifest, inventory = checkpoint.manifest, checkpoint.inventory
    order = {number: at for at, number in enumerate(arrays)}
    tree = map_leaves(prune(inventory.state, flags, None), order.__getitem__)
    records = [(name, inventory.leaves[number]) for number, name in arrays.items()]
    notes = Notes(
        format=NOTES_FORMAT,
        spotweld=VERSION,
        run=manifest.run,
        step=manifest.step,
        created=manifest.created,
        state=tree,
        leaves=tuple(Note(name, leaf.kind, leaf.dtype, leaf.shape) for name, leaf in records),
    )
    return msgspec.json.encode(notes).decode()


def _readable(node: Any) -> str:  # noqa: ANN401
    """A plain value as JSON text, for people and other tools; the notes have every bit of it."""
    return msgspec.json.encode(_sayable(unflatten(node, ()))).decode()


def _sayable(value: Any) -> Any:  # noqa: ANN401
    """A value, or a container of nothing but keys, as far as JSON has words for it."""
    if isinstance(value, (set, frozenset, tuple, deque)):
        return [_sayable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and abs(value) >= 2**63:
        return f"{value:#x}"
    return value


@contextmanager
def _new_file(file: Path, *, force: bool) -> Iterator[int]:
    """A handle to write to; what was written is there under the file's name afterwards, durable, or not at all."""
    new = file.with_name(f".{file.name[:100]}.{secrets.token_hex(6)}.part")
    try:
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            try:
                yield handle
                os.fsync(handle)
            finally:
                os.close(handle)
            if force:
                new.replace(file)
            else:
                os.link(new, file)
            sync_folder(file.parent)
        finally:
            with suppress(OSError):
                new.unlink()
    except FileExistsError:
        raise _exists(file) from None
    except OSError as error:
        raise UsageError(f"{quoted(str(file), 200)} cannot be written", error.strerror or str(error)) from error


def _write(handle: int, data: memoryview, at: int) -> None:
    while data:
        count = os.pwrite(handle, data[: 2**30], at)
        data, at = data[count:], at + count


def _exists(file: Path) -> UsageError:
    return UsageError(
        f"{quoted(str(file), 200)} is there already", "", "Replace it with --force, or give another name."
    )
