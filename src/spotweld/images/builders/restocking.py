"""What buildah cannot find in a registry by itself: everything that follows an ARG of its stage.

Buildah (1.28 at least) sends the step of an ``ARG`` under a key that holds the argument, and looks for it under a key
from before the argument was there. So on a fresh machine it misses that step, and then looks for no later one of the
stage. In its own storage it finds all of them, since it compares histories there. So each of these steps gets a tag of
the ladder as well, and a fresh machine fetches what has one before it builds. Buildah decides as ever what fits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from spotweld.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from spotweld.images.builders.ladder import Stage
    from spotweld.images.dockerfiles.dockerfile import Dockerfile
    from spotweld.images.registries.registry import Registry

MEMORY = "restocked.json"
"""In buildah's folder: which tagged steps its storage has, by their tags, as digests."""
Place = tuple[int, int]
"""Of an instruction: its stage, and its number there."""


def unfindable(document: Dockerfile, plan: Sequence[Stage]) -> dict[Place, str]:
    """The instructions that buildah would miss on a fresh machine, in order, with their tags."""
    found: dict[Place, str] = {}
    for index, (parsed, stage) in enumerate(zip(document.stages, plan, strict=True)):
        args = [number for number, one in enumerate(parsed.instructions) if one.word == "ARG"]
        if args:
            found.update({(index, number): f"step-{stage.tags[number]}" for number in range(args[0], len(stage.tags))})
    return found


class Stock:
    """The tagged steps of one solve.

    Args:
        registry: where the cache is.
        cache: the repository, ``HOST[:PORT]/NAME``.
        tags: of the instructions that need one.
        memory: a file that remembers which of them are in the machine's storage; see ``MEMORY``.
    """

    def __init__(self, registry: Registry, cache: str, tags: dict[Place, str], memory: Path) -> None:
        self._registry = registry
        self._repository = cache.partition("/")[2]
        self._cache = cache
        self._tags = tags
        self._memory = memory
        self._here = _read(memory) if tags else {}
        self._there: dict[str, str] = {}
        self.troubles: list[str] = []
        """What could not be tagged, and why."""

    def fetch(self, pull: Callable[[str], bool]) -> None:
        """Have ``pull`` fetch the references that are in the registry and not here. What fails is left to buildah."""
        try:
            there = set(self._registry.tags(self._repository)) if self._tags else set()
            for tag in self._tags.values():
                digest = self._registry.resolve(self._repository, tag) if tag in there else None
                if digest:
                    self._there[tag] = digest
                    if self._here.get(tag) != digest and pull(f"{self._cache}:{tag}"):
                        self._note(tag, digest)
        except ImageError:
            return

    def keep(self, place: Place, key: str) -> None:
        """Tag the step that buildah has just sent under ``key``."""
        tag = self._tags.get(place)
        if not tag or not key:
            return
        try:
            digest = self._registry.resolve(self._repository, key)
            # What this machine has says nothing of the registry: its cache may have been emptied meanwhile.
            if digest and self._there.get(tag) != digest:
                self._registry.tag(self._repository, key, tag)
                self._note(tag, digest)
        except ImageError as error:
            self.troubles.append(str(error))

    def _note(self, tag: str, digest: str) -> None:
        self._here[tag] = digest
        # What a kill or another writer spoils here costs fetches, nothing else.
        self._memory.write_bytes(msgspec.json.encode(self._here))


def _read(memory: Path) -> dict[str, str]:
    """What a file remembers; nothing where it is missing or damaged."""
    try:
        return msgspec.json.decode(memory.read_bytes(), type=dict[str, str])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return {}
