"""Records in the project's store: small JSON texts with a format, written by create and compare-and-swap.

Two machines that write one at once lose nothing; one that a newer Spotweld wrote is left alone.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

import msgspec

from spotweld.errors import Conflict, ImageRecordUnreadable, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from spotweld.store.objects import Objects

FORMAT = 1
"""The newest that is known; every record says its own as ``format``."""
_TRIES = 20
"""Of a compare-and-swap. Each failure means that somebody else has just written."""
Record = TypeVar("Record", bound=msgspec.Struct)


def each_record(
    objects: Objects, keys: Iterable[str], kind: type[Record], warn: Callable[[str], None]
) -> Iterator[Record]:
    """The records that are there and can be read; ``warn`` gets a line about each of the others."""
    for key in keys:
        try:
            record = read_record(objects, key, kind)
        except ImageRecordUnreadable as error:
            warn(f"passed over: {error}")
            continue
        if record is not None:
            yield record


def read_record(objects: Objects, key: str, kind: type[Record]) -> Record | None:
    """A record; None: it is not there.

    Raises:
        ImageRecordUnreadable: it is damaged, or of a newer Spotweld.
        Unavailable: the store did not answer.
    """
    try:
        return _decoded(objects, key, objects.get(key), kind)
    except NotFound:
        return None


def _decoded(objects: Objects, key: str, data: bytes, kind: type[Record]) -> Record:
    what = f"{key} in {objects.url} cannot be read"
    try:
        _refuse_newer(what, data)
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        todo = "Delete that object; the image's next build writes it anew."
        raise ImageRecordUnreadable(what, f"it is damaged: {error}", todo) from error


def _refuse_newer(what: str, data: bytes) -> None:
    version = msgspec.json.decode(data, type=_Version).format
    if version > FORMAT:
        raise ImageRecordUnreadable(what, f"it has the format {version}, of a newer Spotweld", "Upgrade Spotweld.")


class _Version(msgspec.Struct):
    format: int


def _known(objects: Objects, key: str, data: bytes, kind: type[Record]) -> Record | None:
    """What stands there; None: it is damaged, and may be written over. What a newer Spotweld wrote may not."""
    try:
        return _decoded(objects, key, data, kind)
    except ImageRecordUnreadable as error:
        if isinstance(error.__cause__, (msgspec.MsgspecError, UnicodeDecodeError)):
            return None
        raise


def write_record(objects: Objects, key: str, change: Callable[[Record | None], Record], kind: type[Record]) -> Record:
    """Write what follows from what is there, and give it back; what is damaged counts as missing.

    Args:
        objects: the store.
        key: of the record.
        change: gives the new record from the old one; called again when somebody else was first.
        kind: of the record.

    Raises:
        ImageRecordUnreadable: it is of a newer Spotweld.
        Conflict: others wrote it all the time.
        Unavailable: the store did not take it.
    """
    for attempt in range(_TRIES):
        try:
            data, version = objects.read(key)
        except NotFound:
            record = change(None)
            try:
                objects.create(key, msgspec.json.encode(record))
            except Conflict:
                continue
            return record
        old = _known(objects, key, data, kind)
        record = change(old)
        if record == old:
            return record
        try:
            objects.replace(key, msgspec.json.encode(record), version)
        except Conflict:
            time.sleep(0.01 * attempt)
            continue
        return record
    raise Conflict(f"{key} in {objects.url} could not be written", f"others wrote it {_TRIES} times meanwhile")
