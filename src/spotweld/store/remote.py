"""Objects in an object store, through obstore: ``memory:``, ``s3:``, ``gs:``, ``az:``."""

from __future__ import annotations

import os
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import obstore
from obstore import exceptions as refused
from obstore.store import AzureStore, GCSStore, MemoryStore, S3Store

from spotweld.errors import Conflict, NotFound, StoreRefused, Unavailable, UsageError
from spotweld.store.keys import check_key, check_prefix
from spotweld.store.objects import Meta, Objects, Version
from spotweld.store.pieces import joined

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obstore import GetOptions, ObjectMeta
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

    from spotweld.store.pieces import Pieces
    from spotweld.values.digests import Data

_RETRY: RetryConfig = {
    "max_retries": 8,
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2},
    "retry_timeout": timedelta(seconds=60),
}
"""About half a minute of tries with jitter, which a saver in the background can wait."""
_CLIENT: ClientConfig = {"connect_timeout": timedelta(seconds=5), "timeout": timedelta(seconds=120)}
"""Two minutes let 64 MiB, the largest pack, through a link of 5 Mbit/s."""
_AGAIN = 4
"""Times that a refusal is asked again whose reason is not there (HTTP 409: two requests met)."""


class RemoteObjects(Objects):
    """What one of obstore's stores holds.

    Args:
        url: what the store is called in messages and opened by.
        store: the bucket or container, with its prefix applied.
    """

    def __init__(self, url: str, store: ObjectStore) -> None:
        self.url = url
        self._store = store
        # The memory store keeps what it is given, not a copy of it; a caller's buffer may be filled anew.
        self._own = bytes if isinstance(store, MemoryStore) else _as_it_is

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        check_key(key)
        span: GetOptions = {}
        if length is not None:
            span = {"range": (start, start + length)}
        elif start:
            span = {"range": {"offset": start}}
        try:
            with self._speaking("read", key):
                if length == 0:
                    obstore.head(self._store, key)
                    return b""
                return obstore.get(self._store, key, options=span).bytes().to_bytes()
        except Unavailable:
            # A range that starts behind the end is an error to the stores, and to us an empty answer.
            if not span:
                raise
            with self._speaking("read", key):
                if start < obstore.head(self._store, key)["size"]:
                    raise
            return b""

    def read(self, key: str) -> tuple[bytes, Version]:
        check_key(key)
        with self._speaking("read", key):
            found = obstore.get(self._store, key)
            return found.bytes().to_bytes(), self._version(found.meta)

    def put(self, key: str, data: Data) -> None:
        check_key(key)
        with self._speaking("write", key):
            obstore.put(self._store, key, self._own(data), mode="overwrite", use_multipart=False)

    def create(self, key: str, data: Pieces) -> None:
        check_key(key)
        data = joined(data)
        for _ in range(_AGAIN):
            try:
                with self._speaking("write", key):
                    obstore.put(self._store, key, self._own(data), mode="create")
            except Conflict:
                if self._current(key) is None:
                    continue
                raise
            return
        raise self._undecided(key)

    def replace(self, key: str, data: Data, version: Version) -> None:
        check_key(key)
        for _ in range(_AGAIN):
            try:
                with self._speaking("replace", key):
                    obstore.put(self._store, key, self._own(data), mode=msgspec.json.decode(version))
            except Conflict:
                if self._current(key) == version:
                    continue
                raise
            return
        raise self._undecided(key)

    def list(self, prefix: str) -> Iterator[Meta]:
        check_prefix(prefix)
        # Their prefixes are whole parts of a key; ours are any beginning.
        folder = prefix.rpartition("/")[0]
        found: list[Meta] = []
        with self._speaking("list", prefix):
            for chunk in obstore.list(self._store, folder or None):
                found += [Meta(one["path"], one["size"], one["last_modified"].timestamp()) for one in chunk]
        yield from sorted((meta for meta in found if meta.key.startswith(prefix)), key=lambda meta: meta.key)

    def delete(self, key: str) -> None:
        check_key(key)
        try:
            with self._speaking("delete", key):
                obstore.delete(self._store, key)
        except NotFound:
            return

    def _current(self, key: str) -> Version | None:
        try:
            with self._speaking("read", key):
                return self._version(obstore.head(self._store, key))
        except NotFound:
            return None

    def _version(self, meta: ObjectMeta) -> Version:
        """What the store's condition compares, as the JSON object that obstore takes it in."""
        marks = {name: meta[name] for name in ("e_tag", "version") if meta[name] is not None}
        if not marks:
            raise StoreRefused(f"{self.url} gives its objects no version", "it sends neither an ETag nor a generation")
        return Version(msgspec.json.encode(marks).decode())

    def _undecided(self, key: str) -> Unavailable:
        what = f"{self.url} refused to write {key} {_AGAIN} times"
        return Unavailable(what, "each time for a condition that holds", "Is another client writing the same key?")

    @contextmanager
    def _speaking(self, doing: str, key: str) -> Iterator[None]:
        """Turn what obstore raises inside the block into our errors."""
        where = f"{key} in {self.url}"
        try:
            yield
        except (refused.NotFoundError, FileNotFoundError) as error:
            if doing == "write":
                todo = "Create the bucket or container first."
                raise Unavailable(f"Cannot write {where}", _short(error), todo) from error
            if doing == "replace":
                raise Conflict(f"{where} is gone") from error
            raise NotFound(f"There is no object {where}") from error
        except (refused.AlreadyExistsError, refused.PreconditionError) as error:
            raise Conflict(
                f"{where} was written by somebody else first", "", "Read it again and decide anew."
            ) from error
        except (refused.PermissionDeniedError, refused.UnauthenticatedError) as error:
            todo = "Look at the credentials in the environment and at what they may do."
            raise Unavailable(f"Not allowed to {doing} {where}", _short(error), todo) from error
        except (refused.BaseError, OSError) as error:
            todo = "Look at the network, the URL and the credentials."
            raise Unavailable(f"Cannot {doing} {where}", _short(error), todo) from error


_MEMORIES: dict[str, ObjectStore] = {}
_KINDS: dict[str, tuple[Any, str]] = {
    "s3": (S3Store, "AWS"),
    "gs": (GCSStore, "GOOGLE"),
    "az": (AzureStore, "AZURE"),
}


def memory(url: str, name: str) -> RemoteObjects:
    """A store in this process: a fresh one without a name, else the one of that name."""
    store = MemoryStore()
    return RemoteObjects(url, _MEMORIES.setdefault(name, store) if name else store)


def bucket(url: str, scheme: str, name: str, prefix: str) -> RemoteObjects:
    """A bucket or container; credentials and endpoint come from the environment variables of its cloud's own tools.

    Raises:
        UsageError: the environment lacks something, or holds something that cannot be.
    """
    kind, cloud = _KINDS[scheme]
    # Options given here replace all that the environment says of the client, so this one is carried over by hand.
    plain = os.environ.get(f"{cloud}_ALLOW_HTTP", "").lower() in {"1", "true", "yes", "on"}
    try:
        store = kind(name, prefix=prefix or None, client_options={**_CLIENT, "allow_http": plain}, retry_config=_RETRY)
    except (refused.BaseError, ValueError, OSError) as error:
        todo = "Look at the variables AWS_*, GOOGLE_* or AZURE_* in the environment."
        raise UsageError(f"{url} cannot be opened", _short(error), todo) from error
    return RemoteObjects(url, store)


def _short(error: Exception) -> str:
    """The first line of what obstore says; below it comes its debug output."""
    return str(error).partition("\n")[0]


def _as_it_is(data: Data) -> Data:
    return data
