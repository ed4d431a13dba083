"""The seam to every object store: six verbs, two of them conditional."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NewType

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spotweld.store.pieces import Pieces
    from spotweld.values.digests import Data

Version = NewType("Version", str)
"""An opaque token that changes whenever an object is written (an ETag, a GCS generation)."""


class Meta(msgspec.Struct, frozen=True):
    """What a listing tells of an object."""

    key: str
    size: int
    """Bytes."""
    modified: float
    """By the store's own clock, seconds since 1970."""


class Objects(ABC):
    """A flat space of keys (``a/b/c``, no leading slash, no ``..``) that hold bytes.

    Every method may raise ``Unavailable``; whoever can wait tries again. All methods may be called from any thread.
    """

    url: str
    streams: int = 4
    """Transfers at once that make full use of it."""
    portion: int = 32 * 2**20
    """Bytes of an object that transfers well: large enough for the speed, small enough for the memory it takes."""

    @abstractmethod
    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """The object's bytes, or the ``length`` bytes from ``start`` on.

        Raises:
            NotFound: there is no such object.
        """

    def read_into(self, key: str, start: int, into: memoryview) -> int:
        """Fill ``into`` with the object's bytes from ``start`` on; how many there were.

        Raises:
            NotFound: there is no such object.
        """
        data = self.get(key, start=start, length=into.nbytes)
        into[: len(data)] = data
        return len(data)

    @abstractmethod
    def read(self, key: str) -> tuple[bytes, Version]:
        """The whole object together with the version that ``replace`` compares.

        Raises:
            NotFound: there is no such object.
        """

    @abstractmethod
    def put(self, key: str, data: Data) -> None:
        """Write without a condition. Only for keys with one writer, whose readers bear any version (reports, logs)."""

    @abstractmethod
    def create(self, key: str, data: Pieces) -> None:
        """Write only if the key is free. Durable when it returns.

        Args:
            key: of the new object.
            data: its bytes, or the pieces that make them up.

        Raises:
            Conflict: the key is taken. After a retry inside the client it may be our own earlier try: compare.
        """

    @abstractmethod
    def replace(self, key: str, data: Data, version: Version) -> None:
        """Write only if the object still has ``version``. Durable when it returns.

        Raises:
            Conflict: it has another version, or is gone. May be our own earlier try: compare.
        """

    @abstractmethod
    def list(self, prefix: str) -> Iterator[Meta]:
        """All objects whose key starts with ``prefix``, by key."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove the object; nothing happens if it is not there."""
