"""What a build would do, as a value: which images, which of their layers, why, and how long it will take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from spotweld.images.builds.comparing import Layer, layers
from spotweld.images.builds.freshness import cached_tags
from spotweld.images.builds.predicting import Estimate, total
from spotweld.images.builds.records import builds
from spotweld.images.registries.opening import Registries
from spotweld.values.digests import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from spotweld.images.builds.freshness import Standing
    from spotweld.images.builds.records import Build
    from spotweld.store.objects import Objects

REMEMBERED = 8
"""Builds of an image that are read to say what is there and how long it takes."""


class Planned(msgspec.Struct, frozen=True):
    """What a build would do with one image.

    Attributes:
        image: its name.
        lifetime: persistent or ephemeral.
        registry: the URL of its registry.
        repository: its repository there.
        does: ``nothing``; ``publish``: it is there, and only ``latest`` moves; ``build``.
        why: of a build, in words.
        tag: its key's; empty while it waits.
        digest: of the image that is there.
        waits: the images that are built first.
        layers: its instructions; none where nothing is built.
        expected: seconds that the build will take.
    """

    image: str
    lifetime: str
    registry: str
    repository: str
    does: Literal["nothing", "publish", "build"]
    why: str = ""
    tag: str = ""
    digest: Digest | None = None
    waits: tuple[str, ...] = ()
    layers: tuple[Layer, ...] = ()
    expected: Estimate = Estimate()

    @property
    def misses(self) -> tuple[Layer, ...]:
        """The instructions that would run."""
        return tuple(layer for layer in self.layers if not layer.hit and layer.number)


def planned(
    standing: Standing, known: Callable[[], Sequence[Build]], cached: Callable[[], Collection[str]], builder: str = ""
) -> Planned:
    """What a build would do with the image that stands so.

    Args:
        standing: how it stands.
        known: gives what is remembered of its builds; not called where nothing has to be built.
        cached: gives the tags of its cache; as ``known``.
        builder: which one would build; empty: any.
    """
    image = standing.image
    place = (image.name, image.lifetime.value, standing.registry, standing.repository)
    if standing.digest is not None:
        does: Literal["nothing", "publish"] = "nothing" if standing.is_published else "publish"
        return Planned(*place, does, "", standing.tag, standing.digest)
    found = layers(standing, known(), cached(), builder)
    first = next((layer.why for layer in found if not layer.hit), "")
    why = standing.damage or first or "its layers are in the cache, the image is not in its registry"
    expected = total(layer.expected for layer in found)
    return Planned(*place, "build", why, standing.tag, None, standing.waits, found, expected)


def plan_images(
    standings: Sequence[Standing], objects: Callable[[], Objects], builder: str = ""
) -> tuple[Planned, ...]:
    """What a build would do with these images.

    Args:
        standings: how they stand.
        objects: gives the project's store; not called where nothing has to be built.
        builder: which one would build; empty: any.

    Raises:
        RegistryUnavailable, RegistryRefused: it does not say what is cached.
    """
    registries = Registries()

    def plan(one: Standing) -> Planned:
        return planned(
            one,
            lambda: builds(objects(), one.image.name, most=REMEMBERED, unfinished=True),
            lambda: cached_tags(one, registries),
            builder,
        )

    return tuple(plan(one) for one in standings)
