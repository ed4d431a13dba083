"""Which image is built upon which."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from spotweld.project.nouns import Image


def build_order(images: Mapping[str, Image], names: Iterable[str]) -> tuple[Image, ...]:
    """The named images and all that they need, each once, every base before what is built upon it.

    The order depends on the order of ``images`` alone, not on that of ``names``.

    Args:
        images: the images of a checked project file, by name.
        names: some of them.

    Raises:
        KeyError: an image is not there.
    """
    needed: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += images[name].bases.values()
    sorter = TopologicalSorter({name: image.bases.values() for name, image in images.items() if name in needed})
    return tuple(images[name] for name in sorter.static_order())


def find_cycle(images: Mapping[str, Image]) -> tuple[str, ...]:
    """Images each of which is built upon the next, the last being the first again; empty where there are none.

    The one among them that comes first in ``images`` stands first. Bases that are not in ``images`` do not count.
    """
    order = list(images)
    sorter = TopologicalSorter({name: [b for b in images[name].bases.values() if b in images] for name in order})
    try:
        sorter.prepare()
    except CycleError as error:
        # The list of the error goes from what is needed to what needs it.
        ring = error.args[1][:0:-1]
        first = ring.index(min(ring, key=order.index))
        return (*ring[first:], *ring[:first], ring[first])
    return ()
