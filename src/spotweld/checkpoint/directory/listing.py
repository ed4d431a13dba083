"""What a manifest says of a directory: every name, kind and size, and which leaf holds a file's bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from spotweld.checkpoint.arrays import Kind
from spotweld.checkpoint.directory.names import stays_inside, to_bytes, to_path, to_text
from spotweld.checkpoint.directory.scanning import MOST
from spotweld.checkpoint.tree import unflatten
from spotweld.errors import Corrupt, StateMismatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spotweld.checkpoint.directory.scanning import Scan
    from spotweld.checkpoint.format import Manifest
    from spotweld.checkpoint.tree import Node

_SHORT = 2**53
_LONGEST = 2**63


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file."""

    mode: int
    """The permission bits."""
    mtime_ns: int
    size: int
    """Bytes."""
    content: int
    """The leaf with its bytes."""


class Listing(msgspec.Struct, frozen=True):
    """A directory as it was saved. All paths are relative to it, and lead nowhere else."""

    mode: int
    files: dict[bytes, Entry]
    folders: dict[bytes, int]
    """Their permission bits; parents come before what is in them."""
    hard_links: dict[bytes, bytes]
    """Further names of files, and the first name of each."""
    symlinks: dict[bytes, bytes]
    finished: bool
    """The program had ended with exit status 0."""


class _Written(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    mode: int
    files: dict[str, Entry]
    folders: dict[str, int]
    hard_links: dict[str, str]
    symlinks: dict[str, str]


def listing_of(seen: Scan, *, finished: bool) -> Listing:
    """The listing of a directory; the leaves are its files in their order, hard links left out."""
    twins = seen.twins()
    first = [path for path in seen.files if path not in twins]
    files = {}
    for leaf, path in enumerate(first):
        mark = seen.files[path]
        files[path] = Entry(mark.mode, mark.mtime_ns, mark.size, leaf)
    folders = {path: mark.mode for path, mark in seen.folders.items()}
    return Listing(seen.root.mode, files, folders, twins, dict(seen.links), finished)


def to_tree(listing: Listing) -> Node:
    """The listing as the tree of a manifest's state."""
    files = {
        to_text(path): _dict(
            {"mode": one.mode, "mtime_ns": _int(one.mtime_ns), "size": _int(one.size), "content": {"leaf": one.content}}
        )
        for path, one in listing.files.items()
    }
    directory = {
        "mode": listing.mode,
        "files": _dict(files),
        "folders": _dict({to_text(path): mode for path, mode in listing.folders.items()}),
        "hard_links": _dict({to_text(path): to_text(first) for path, first in listing.hard_links.items()}),
        "symlinks": _dict({to_text(path): to_text(target) for path, target in listing.symlinks.items()}),
    }
    return _dict({"directory": _dict(directory), "finished": listing.finished})


def from_manifest(manifest: Manifest) -> Listing:
    """The listing that a manifest holds, fit to be followed.

    Raises:
        StateMismatch: it is a checkpoint of something else.
        Corrupt: it is none that ``to_tree`` writes, or a path in it leads out of the directory.
    """
    state = unflatten(manifest.state, range(len(manifest.leaves)))
    if not isinstance(state, dict) or state.keys() != {"directory", "finished"}:
        raise StateMismatch(
            "The run's checkpoint is not one of a directory",
            "the program saved itself then",
            "Remove directory from the job's checkpoint, or launch a new run.",
        )
    try:
        written = msgspec.convert(state["directory"], type=_Written)
        listing = Listing(
            written.mode & 0o777,
            {to_path(path): replace(one, mode=one.mode & 0o777) for path, one in written.files.items()},
            {to_path(path): mode & 0o777 for path, mode in written.folders.items()},
            {to_path(path): to_path(first) for path, first in written.hard_links.items()},
            {to_path(path): to_bytes(target) for path, target in written.symlinks.items()},
            bool(state["finished"]),
        )
        _check(listing, manifest)
    except (ValueError, msgspec.ValidationError) as error:
        raise Corrupt("The manifest's directory cannot be used", str(error)) from None
    return listing


def _check(listing: Listing, manifest: Manifest) -> None:
    kinds = (listing.files, listing.folders, listing.hard_links, listing.symlinks)
    paths = {path for kind in kinds for path in kind}
    _require(len(paths) == sum(len(kind) for kind in kinds) <= MOST, "a path stands twice, or there are too many")
    known = {b""}
    for path in listing.folders:
        _require(_parent(path) in known, "a folder inside of none")
        known.add(path)
    _require(all(_parent(path) in known for path in paths), "a path inside of no folder")
    _require(all(first in listing.files for first in listing.hard_links.values()), "a hard link to no file")
    _require(
        all(stays_inside(path, to) and b"\0" not in to for path, to in listing.symlinks.items()), "a link leads out"
    )
    leaves = [one.content for one in listing.files.values()]
    _require(sorted(leaves) == list(range(len(manifest.leaves))), "files and leaves differ")
    for one in listing.files.values():
        _require(-_LONGEST <= one.mtime_ns < _LONGEST, "a time that no file can have")
        leaf = manifest.leaves[one.content]
        _require(leaf.kind is Kind.BYTES and leaf.shape == (one.size,), "a file is not what its leaf holds")


def _parent(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]


def _require(fine: bool, wrong: str) -> None:
    if not fine:
        raise ValueError(wrong)


def _dict(content: Mapping[str, Any]) -> Node:
    return {"dict": [[key, value] for key, value in content.items()]}


def _int(value: int) -> Node:
    return value if abs(value) < _SHORT else {"int": hex(value)}
