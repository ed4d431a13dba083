"""Blobs: immutable bytes that are checked whenever they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotweld.errors import Conflict, Corrupt
from spotweld.store.pieces import joined
from spotweld.values import digests

if TYPE_CHECKING:
    from spotweld.store.objects import Objects
    from spotweld.store.pieces import Pieces
    from spotweld.values.digests import Digest

_TODO = "Nothing was read from it. Its disk may be failing; a run falls back to its previous whole checkpoint."


def put_blob(objects: Objects, key: str, data: Pieces) -> None:
    """Store ``data`` under ``key`` for ever; to find the very same bytes there already is success, too.

    Raises:
        Corrupt: other bytes are under that key.
        Unavailable: the store did not take it; worth a retry.
    """
    try:
        objects.create(key, data)
    except Conflict:
        ours = joined(data)
        get_blob(objects, key, digests.digest(ours), memoryview(ours).nbytes)


def get_blob(objects: Objects, key: str, digest: Digest, size: int) -> bytes:
    """The ``size`` bytes under ``key``, once they are known to be the ones that ``digest`` names.

    Raises:
        NotFound: there is no such object.
        Corrupt: it has another size or another digest.
        Unavailable: the store did not answer; worth a retry.
    """
    # One byte more than expected tells a longer object without reading all of it.
    data = objects.get(key, length=size + 1)
    if len(data) != size:
        found = f"more than {size}" if len(data) > size else f"{len(data)}"
        raise Corrupt(f"{key} is damaged", f"it has {found} bytes instead of {size}", _TODO)
    if (other := digests.digest(data)) != digest:
        raise Corrupt(f"{key} is damaged", f"its digest is {other} instead of {digest}", _TODO)
    return data
