"""The small text files that an image was built from, kept so that a change can be told in lines."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

import msgspec

from spotweld.errors import Conflict, NotFound
from spotweld.images.builds.commits import content_at
from spotweld.values.digests import digest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from spotweld.images.builds.records import Build
    from spotweld.images.steps.preimages import Preimage
    from spotweld.store.objects import Objects

_LARGEST = 32_768
"""Bytes of one file."""
_MOST = 524_288
"""Bytes of all files of a build."""
_KINDS = frozenset({"file", "executable"})


def texts_key(image: str, tag: str) -> str:
    """Where those of a build are in the store."""
    return f"images/{image}/texts/{tag}.json"


def gather_texts(context: Path, preimages: Iterable[Preimage]) -> dict[str, str]:
    """The text files among the inputs, by their digests, as far as they are small and still what they were."""
    found: dict[str, str] = {}
    left = _MOST
    for one in (one for preimage in preimages for one in preimage.inputs if one.kind in _KINDS):
        text = "" if one.value in found else _text(context, one.name, one.value)
        size = len(text.encode())
        if 0 < size <= left:
            found[one.value] = text
            left -= size
    return found


def keep_texts(objects: Objects, image: str, tag: str, texts: dict[str, str]) -> None:
    """Keep them for the build; if some are kept already, those stay.

    Raises:
        Unavailable: the store did not take them.
    """
    if texts:
        try:
            objects.create(texts_key(image, tag), msgspec.json.encode(texts))
        except Conflict:
            return


def lines_changed(context: Path, file: str, now: str, before: str, build: Build, objects: Objects) -> str:
    """``+3 -1``: how many lines of a file came and went since a build; empty where not both contents can be had.

    Args:
        context: the image's.
        file: relative to it.
        now: the digest that it has now.
        before: the digest that it had in the build.
        build: that build.
        objects: the project's store.
    """
    new = _text(context, file, now)
    old = _kept(objects, build).get(before)
    if old is None and build.commit:
        data = content_at(context, build.commit, file)
        old = _decoded(data) if data is not None and digest(data) == before else None
    if not new or old is None:
        return ""
    diff = [*difflib.unified_diff(old.splitlines(), new.splitlines(), n=0, lineterm="")][2:]
    return f"+{sum(line[0] == '+' for line in diff)} -{sum(line[0] == '-' for line in diff)}"


def _kept(objects: Objects, build: Build) -> dict[str, str]:
    try:
        return msgspec.json.decode(objects.get(texts_key(build.image, build.tag)), type=dict[str, str])
    except (NotFound, msgspec.MsgspecError, UnicodeDecodeError):
        return {}


def _text(context: Path, file: str, wanted: str) -> str:
    try:
        path = context / file
        if path.stat().st_size > _LARGEST:
            return ""
        data = path.read_bytes()
    except (OSError, ValueError):
        return ""
    return (_decoded(data) or "") if digest(data) == wanted else ""


def _decoded(data: bytes) -> str | None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text
