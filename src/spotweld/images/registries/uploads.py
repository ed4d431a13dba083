"""Uploads to a layout that is served: from the first byte to the digest, which comes last."""

from __future__ import annotations

import hashlib
import threading
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from spotweld.images.registries.layouts import Layout
    from spotweld.values.digests import Digest

_IDLE = 3600.0
"""Seconds after which nobody comes back to an upload."""


class Upload:
    """One blob on its way. For one thread at a time: see `Uploads.taken`."""

    def __init__(self, layout: Layout, repository: str, now: float) -> None:
        self.name = str(uuid.uuid4())
        self.repository = repository
        self.size = 0
        self.used = now
        self.lock = threading.Lock()
        self._incoming = layout.receive()
        self._hash = hashlib.sha256()

    def add(self, pieces: Iterable[bytes]) -> None:
        """Take some more bytes."""
        for piece in pieces:
            self._incoming.write(piece)
            self._hash.update(piece)
            self.size += len(piece)

    def keep(self, digest: Digest) -> bool:
        """Make it the blob ``digest``, durably; False if it is not that."""
        algorithm = digest.partition(":")[0]
        ours = algorithm == "sha256"
        found = f"sha256:{self._hash.hexdigest()}" if ours else self._incoming.digest(algorithm)
        if found != digest:
            return False
        self._incoming.keep(digest)
        return True

    def drop(self) -> None:
        """Remove what has arrived, unless it was kept."""
        self._incoming.drop()


class Uploads:
    """Those in progress.

    Args:
        layout: where to.
        now: seconds, of a clock that never goes back.
    """

    def __init__(self, layout: Layout, now: Callable[[], float] = time.monotonic) -> None:
        self._layout, self._now = layout, now
        self._lock = threading.Lock()
        self._known: dict[str, Upload] = {}

    def begin(self, repository: str) -> Upload:
        """A new one; those that everybody forgot end."""
        upload = Upload(self._layout, repository, self._now())
        with self._lock:
            old = [one for one in self._known.values() if upload.used - one.used > _IDLE and not one.lock.locked()]
            for one in old:
                del self._known[one.name]
            self._known[upload.name] = upload
        for one in old:
            one.drop()
        return upload

    @contextmanager
    def taken(self, repository: str, name: str) -> Iterator[Upload | None]:
        """The upload ``name``, for this thread alone; None: there is none. An error in the block ends it."""
        with self._lock:
            upload = self._known.get(name)
        if upload is None or upload.repository != repository:
            yield None
            return
        with upload.lock:
            with self._lock:
                there = self._known.get(name) is upload
            try:
                yield upload if there else None
            except BaseException:
                self.end(upload)
                raise
            upload.used = self._now()

    def end(self, upload: Upload) -> None:
        """Forget it, and what has arrived unless it was kept."""
        with self._lock:
            self._known.pop(upload.name, None)
        upload.drop()

    def drop_all(self) -> None:
        """Forget all of them; nobody uses them any more."""
        for upload in list(self._known.values()):
            self.end(upload)
