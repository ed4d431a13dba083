"""A damaged head, made anew from the manifests that it named."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from spotweld.errors import Corrupt, NotFound
from spotweld.store.heads import Head, Kept, head_key, new_write_id, read_head, seal
from spotweld.values.digests import Digest, digest

if TYPE_CHECKING:
    from spotweld.store.objects import Objects

_MARGIN = 1000
"""Epochs left out, so that the new one lies above any that was taken without a manifest."""
_NAME = re.compile(r"(?P<epoch>\d+)-(?P<step>\d+)-(?P<hex>[0-9a-f]{64})\.json")


def mend_head(objects: Objects, run: str) -> Head:
    """Replace the head of ``run``, if it is damaged, by one that names every manifest that is still whole.

    Each manifest's name (``EPOCH-STEP-DIGEST.json``) says what its bytes must be. Whoever wrote to the run before is
    fenced, because a writer goes on only from a head that it wrote itself.

    Returns:
        The head: the new one, or the one that is there if nothing is wrong with it.

    Raises:
        NotFound: the run has no head at all.
        Conflict: another writer was first.
        UnknownFormat: a newer Spotweld wrote it; that is no damage.
        Unavailable: the store did not answer.
    """
    _, version = objects.read(head_key(run))
    try:
        whole = read_head(objects, run)
    except Corrupt:
        whole = None
    if whole is not None:
        return whole
    found = _whole_manifests(objects, run)
    epoch = max((epoch for epoch, _ in found), default=0) + _MARGIN
    head = Head(epoch, 0, 1, new_write_id(), tuple(kept for _, kept in sorted(found, key=_age, reverse=True)))
    objects.replace(head_key(run), seal(head), version)
    return head


def _whole_manifests(objects: Objects, run: str) -> list[tuple[int, Kept]]:
    """Each manifest whose bytes are what its name says, after the epoch that wrote it."""
    found = []
    for meta in objects.list(f"runs/{run}/manifests/"):
        name = _NAME.fullmatch(meta.key.rpartition("/")[2])
        if name is None:
            continue
        wanted = Digest(f"blake3:{name['hex']}")
        try:
            data = objects.get(meta.key)
        except NotFound:
            continue
        if digest(data) == wanted:
            kept = Kept(int(name["step"]), meta.key, wanted, len(data), meta.modified)
            found.append((int(name["epoch"]), kept))
    return found


def _age(found: tuple[int, Kept]) -> tuple[int, int]:
    return found[0], found[1].step
