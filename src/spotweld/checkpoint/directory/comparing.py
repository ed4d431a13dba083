"""What a run's directory holds, as digests that two runs can be compared by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blake3 import blake3

from spotweld.checkpoint.directory.engine import pieces
from spotweld.checkpoint.directory.listing import from_manifest
from spotweld.checkpoint.directory.names import to_text
from spotweld.checkpoint.restoring import read_manifest
from spotweld.errors import Corrupt, NotFound, StateMismatch
from spotweld.values.digests import Digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotweld.checkpoint.format import Manifest
    from spotweld.store.heads import Kept
    from spotweld.store.objects import Objects


def directory_state(objects: Objects, run: str, kept: Sequence[Kept]) -> dict[str, Digest] | None:
    """A digest of everything in the directory of a run's newest whole checkpoint, by path.

    Kinds, permissions, bytes and where links lead are in it. Times are not: no two runs have the same.

    Returns:
        None: the run is not one of a directory, or has no whole checkpoint.

    Raises:
        Unavailable: the store did not answer.
        UnknownFormat: a newer Spotweld wrote the checkpoint.
    """
    for one in kept:
        try:
            return _digests(objects, read_manifest(objects, run, one))
        except StateMismatch:
            return None
        except (Corrupt, NotFound):
            continue
    return None


def _digests(objects: Objects, manifest: Manifest) -> dict[str, Digest]:
    listing = from_manifest(manifest)
    bytes_of = [blake3() for _ in manifest.leaves]
    for leaf, _, data in pieces(objects, manifest):
        bytes_of[leaf].update(data)
    found = {path: b"file %o " % one.mode + bytes_of[one.content].digest() for path, one in listing.files.items()}
    found |= {path: found[first] for path, first in listing.hard_links.items()}
    found |= {path: b"link " + target for path, target in listing.symlinks.items()}
    found |= {path: b"folder %o" % mode for path, mode in listing.folders.items()}
    return {to_text(path): Digest(f"blake3:{blake3(what).hexdigest()}") for path, what in found.items()}
