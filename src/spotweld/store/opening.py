"""From a URL to a store that is known to honour conditions."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

from spotweld.errors import Conflict, StoreRefused, UsageError
from spotweld.store.local import LocalObjects

if TYPE_CHECKING:
    from spotweld.store.objects import Objects

_FORMS = {
    "file": "file:/absolute/folder or file:relative/folder",
    "memory": "memory: or memory:NAME",
    "s3": "s3://bucket/prefix",
    "gs": "gs://bucket/prefix",
    "az": "az://container/prefix",
}
_ALIASES = {"gcs": "gs", "azure": "az", "abfs": "az", "abfss": "az", "s3a": "s3", "s3n": "s3", "mem": "memory"}


def open_store(url: str, *, verify: bool = True) -> Objects:
    """The store that ``url`` names.

    Args:
        url: ``file:/folder`` (or relative to the working directory), ``memory:`` (a new one; ``memory:NAME`` is
            shared in the process), ``s3://bucket/prefix``, ``gs://bucket/prefix`` or ``az://container/prefix``,
            configured by the clouds' usual environment variables. ``?single-writer=true`` skips the test.
        verify: write a little under a fresh key to see that the store honours conditions (see `self_test`).

    Raises:
        UsageError: no store can have that URL.
        StoreRefused: the store ignores conditions.
        Unavailable: the store does not answer.
    """
    bare, _, query = url.partition("?")
    scheme, colon, rest = bare.partition(":")
    if not colon or scheme not in _FORMS:
        raise _unknown_scheme(url, scheme if colon else "")
    single = _single_writer(url, query)
    objects = _file(url, rest) if scheme == "file" else _distant(url, scheme, rest)
    if verify and not single:
        self_test(objects)
    return objects


def self_test(objects: Objects) -> None:
    """See that a second create and a stale replace conflict; uses a key of its own and removes it.

    Raises:
        StoreRefused: the store accepts what it must not, or refuses what it must accept.
        Unavailable: the store does not answer.
    """
    key = f"selftest/{os.urandom(16).hex()}"
    try:
        _probe(objects, key)
    except StoreRefused:
        objects.delete(key)
        raise
    objects.delete(key)


def _probe(objects: Objects, key: str) -> None:
    _wins(objects, key, "create", b"first")
    try:
        objects.create(key, b"second")
    except Conflict:
        pass
    else:
        raise _liar(objects, "it created the same object twice (If-None-Match is ignored)")
    stale = objects.read(key)[1]
    _wins(objects, key, "replace", b"third")
    try:
        objects.replace(key, b"fourth", stale)
    except Conflict:
        pass
    else:
        raise _liar(objects, "it replaced an object that had changed since it was read (If-Match is ignored)")


def _wins(objects: Objects, key: str, verb: str, data: bytes) -> None:
    """Do a write that must succeed; a conflict may be the client's own second try of one that did."""
    try:
        if verb == "create":
            objects.create(key, data)
        else:
            objects.replace(key, data, objects.read(key)[1])
    except Conflict:
        if objects.get(key) != data:
            raise _liar(objects, f"it refused a {verb} whose condition held") from None


def _liar(objects: Objects, why: str) -> StoreRefused:
    todo = "Use a store that honours conditions, or append ?single-writer=true if only one machine ever writes."
    return StoreRefused(f"{objects.url} does not honour conditional writes", why, todo)


def _single_writer(url: str, query: str) -> bool:
    asked = dict(parse_qsl(query, keep_blank_values=True))
    value = asked.pop("single-writer", "false")
    if asked or value not in {"true", "false"}:
        why = f"the part after the question mark, {query!r}, is not known"
        raise UsageError(f"{url} cannot be opened", why, "Only ?single-writer=true may stand there.")
    return value == "true"


def _file(url: str, rest: str) -> Objects:
    path = rest
    if rest.startswith("//"):
        host, slash, tail = rest[2:].partition("/")
        if host not in {"", "localhost"} or not slash:
            why = f"a file URL has no host, and {host!r} stands in its place"
            raise UsageError(f"{url} cannot be opened", why, f"Write {_FORMS['file']}.")
        path = f"/{tail}"
    path = unquote(path)
    if not path or "\0" in path:
        raise UsageError(f"{url} cannot be opened", "it names no folder", f"Write {_FORMS['file']}.")
    return LocalObjects(Path(path))


def _distant(url: str, scheme: str, rest: str) -> Objects:
    # obstore takes 50 ms to load, which a store in a folder need not pay.
    from spotweld.store import remote  # noqa: PLC0415

    if scheme == "memory":
        return remote.memory(url, rest.strip("/"))
    name, _, prefix = rest.removeprefix("//").partition("/")
    prefix = prefix.strip("/")
    bad = any(part in {"", ".", ".."} for part in prefix.split("/")) if prefix else False
    if not rest.startswith("//") or not name or bad:
        raise UsageError(f"{url} cannot be opened", "it names no bucket or no plain prefix", f"Write {_FORMS[scheme]}.")
    return remote.bucket(url, scheme, name, prefix)


def _unknown_scheme(url: str, scheme: str) -> UsageError:
    if not scheme:
        return UsageError(f"{url!r} is not a store's URL", "it has no scheme", f"For a folder write file:{url}.")
    near = _ALIASES.get(scheme.lower()) or next(iter(get_close_matches(scheme.lower(), _FORMS, n=1)), None)
    forms = _FORMS[near] if near else "; ".join(_FORMS.values())
    return UsageError(f"{url!r} is not a store's URL", f"the scheme {scheme!r} is not known", f"Write {forms}.")
