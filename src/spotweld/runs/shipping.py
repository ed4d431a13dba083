"""A growing file on a machine, shipped to the store piece by piece, and put together again by whoever reads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from spotweld.errors import Conflict, NotFound
from spotweld.runs.reports import segment_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from spotweld.store.objects import Objects

_LARGEST_SEGMENT = 4 * 1024 * 1024
_AT_ONCE = 16
"""Segments that are asked for at once where each costs a round trip; a day of a run leaves some twenty thousand."""


class Shipper:
    """Sends what is new in a file as segments numbered from 1.

    Args:
        path: the file; it may not exist yet.
        objects: where to.
        run: whose.
        attempt: which.
        stream: ``log`` or ``events``.
        whole_lines: never cut a line in two (a line without its end waits).
    """

    def __init__(
        self, path: Path, objects: Objects, run: str, attempt: int, stream: str, *, whole_lines: bool = False
    ) -> None:
        self._path = path
        self._objects = objects
        self._run = run
        self._attempt = attempt
        self._stream = stream
        self._whole_lines = whole_lines
        self._offset = 0
        self._number = 1

    def ship(self) -> bool:
        """Send one segment if there is something new; whether it did.

        Raises:
            StoreError: the store failed; the same bytes go with the next call.
        """
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read(_LARGEST_SEGMENT)
        except FileNotFoundError:
            return False
        if self._whole_lines and not data.endswith(b"\n"):
            whole = data[: data.rfind(b"\n") + 1]
            # A line that fills a segment by itself is no event; it must not stop what comes after it.
            data = whole if whole or len(data) < _LARGEST_SEGMENT else data
        if not data:
            return False
        key = segment_key(self._run, self._attempt, self._stream, self._number)
        try:
            self._objects.create(key, data)
        except Conflict:
            # An earlier try of ours whose answer was lost; the file may have grown since.
            data = self._objects.get(key)
        self._offset += len(data)
        self._number += 1
        return True

    def ship_all(self) -> None:
        """Send until nothing is new."""
        while self.ship():
            pass


class Reader:
    """Reads a stream's segments as they come.

    Args:
        objects: where from.
        run: whose.
        attempt: which.
        stream: ``log`` or ``events``.
    """

    def __init__(self, objects: Objects, run: str, attempt: int, stream: str) -> None:
        self._objects = objects
        self._run = run
        self._attempt = attempt
        self._stream = stream
        self._number = 1
        self._most = 1 if objects.url.startswith(("file:", "memory:")) else _AT_ONCE

    def pieces(self) -> Iterator[bytes]:
        """All that has come since the last call, piece by piece.

        Raises:
            StoreError: the store failed; the next call continues at the same place.
        """
        count = 1
        while True:
            for data in self._get(range(self._number, self._number + count)):
                if data is None:
                    return
                self._number += 1
                yield data
            # Whoever waits for the next one asks for no more than that one.
            count = min(2 * count, self._most)

    def _get(self, numbers: range) -> Iterator[bytes | None]:
        """These segments, in order; None: it is not there."""
        if len(numbers) == 1:
            yield self._segment(numbers[0])
            return
        with ThreadPoolExecutor(len(numbers), "spotweld-reader") as pool:
            try:
                found = pool.map(self._segment, numbers)
            except RuntimeError:  # the machine gives no more threads
                self._most = 1
                found = map(self._segment, numbers[:1])
            yield from found

    def _segment(self, number: int) -> bytes | None:
        try:
            return self._objects.get(segment_key(self._run, self._attempt, self._stream, number))
        except NotFound:
            return None
