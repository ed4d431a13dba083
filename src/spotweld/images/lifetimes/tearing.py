"""Taking images away: what a plan says, in an order that whoever is killed can be followed by another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from spotweld.errors import ImageError, UsageError
from spotweld.images.builds.naming import cache_of
from spotweld.images.builds.records import change_kept, read_kept
from spotweld.images.lifetimes.deciding import Unseen
from spotweld.images.registries.opening import open_registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from spotweld.images.builds.records import Kept
    from spotweld.images.lifetimes.deciding import Going, Plan
    from spotweld.images.lifetimes.forgetting import Open
    from spotweld.store.objects import Objects

_LASTING = 86_400.0
"""Seconds for which blobs of a registry with protected images stay, so that no build of one loses any."""
_UNASKED = 3600.0
"""The same where nothing was to go: space that a killed teardown left, but not that of a build in progress."""


class Removed(msgspec.Struct, frozen=True):
    """What came of a plan."""

    images: tuple[str, ...]
    """What is gone whole: names."""
    freed: int
    """Bytes on this machine; a server gives its own space back by itself."""
    failed: tuple[Unseen, ...]
    """What could not be removed, or not whole."""
    unfreed: tuple[Unseen, ...]
    """Registries whose space could not be given back."""


def remove(
    plan: Plan, objects: Objects, tell: Callable[[Going], None] = lambda _: None, opening: Open = open_registry
) -> Removed:
    """Remove what the plan says, and nothing else; one that fails keeps no other from going.

    Args:
        plan: what goes.
        objects: the project's store. The protection of what is gone is taken away last.
        tell: hears of each image that is about to go.
        opening: opens a registry.
    """
    gone: list[str] = []
    failed: list[Unseen] = []
    unfreed: list[Unseen] = []
    freed = 0
    for going in plan.going:
        tell(going)
        try:
            _check(going, objects, opening)
            _remove(going, opening)
            if going.persistent:
                _release(going, objects, opening)
        except (ImageError, UsageError) as error:
            failed.append(Unseen(f"{going.registry} ({going.repository})", str(error), error.todo))
            continue
        gone.append(going.image)
    for url, lasting in plan.registries.items():
        asked = any(going.registry == url for going in plan.going)
        try:
            freed += opening(url).collect(_LASTING if lasting else 0.0 if asked else _UNASKED)
        except (ImageError, UsageError) as error:
            unfreed.append(Unseen(url, f"its space was not given back: {error}", error.todo))
    return Removed(tuple(dict.fromkeys(gone)), freed, tuple(failed), tuple(unfreed))


def _check(going: Going, objects: Objects, opening: Open) -> None:
    """See that nobody has protected the image since it was looked at.

    Raises:
        UsageError: somebody has.
    """
    kept = None if going.persistent else read_kept(objects, going.image)
    if kept is not None and kept.protected and _place(kept, opening) == (going.registry, going.repository):
        raise UsageError(f"{going.image} was not removed", "it has been protected meanwhile", "tear down again")


def _place(kept: Kept, opening: Open) -> tuple[str, str]:
    return opening(kept.registry).url, kept.repository


def _remove(going: Going, opening: Open) -> None:
    registry = opening(going.registry)
    # The image says whose the cache is, so it goes after it.
    registry.delete(cache_of(going.repository), *going.cache)
    registry.delete(going.repository, *going.tags)


def _release(going: Going, objects: Objects, opening: Open) -> None:
    """Take the protection of an image that is gone off the record, unless that is about another place."""
    known = read_kept(objects, going.image)
    if known is None:
        return

    def released(old: Kept | None) -> Kept:
        now = old or known
        here = _place(now, opening) == (going.registry, going.repository)
        return replace(now, protected=now.protected and not here)

    change_kept(objects, going.image, released)
