"""What tests of fast tiers share: a machine with a disk, and what is seen of it from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spotweld.checkpoint.events import parse_event
from spotweld.checkpoint.restoring import read_manifest
from spotweld.errors import Unavailable
from spotweld.store.heads import read_head
from spotweld.store.opening import open_store

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from tests.checkpoint.conftest import Watched

RUN = "r"


class Disk:
    """A folder that stands for a machine's disk, and holds the first tier of a run."""

    def __init__(self, disk: Path, store: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
        self.disk, self.store = disk, store
        self.told = disk.parent / "events.jsonl"
        monkeypatch.setenv("SPOTWELD_EVENTS_FILE", str(self.told))

    @property
    def url(self) -> str:
        return f"file:{self.disk}"

    def of(self, kind: type) -> list[Any]:
        found = [parse_event(line) for line in self.told.read_bytes().splitlines()]
        return [event for event in found if isinstance(event, kind)]

    def kept(self) -> list[int]:
        """Steps in the fast tier, whose manifests are whole."""
        objects = open_store(self.url, verify=False)
        (inside,) = {meta.key.split("/")[1] for meta in objects.list("runs/")}
        head = read_head(objects, inside)
        assert head is not None
        for kept in head.kept:
            read_manifest(objects, inside, kept)
        return [kept.step for kept in head.kept]

    def published(self) -> list[int]:
        head = read_head(self.store, RUN)
        return [kept.step for kept in head.kept] if head else []


def down(verb: str, key: str) -> None:
    """A store that takes no checkpoint."""
    if verb in {"create", "replace"} and ("/packs/" in key or "/manifests/" in key):
        raise Unavailable("down")


def up(_verb: str, _key: str) -> None:
    """One that does again."""
