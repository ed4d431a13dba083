"""What happens while images are built, for whoever watches."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from spotweld.images.builders.builder import Outcome
from spotweld.images.builds.comparing import Layer
from spotweld.images.builds.predicting import Estimate
from spotweld.values.digests import Digest

if TYPE_CHECKING:
    from spotweld.images.builds.freshness import Standing


class Built(msgspec.Struct, frozen=True):
    """An image that is in its registry under its key and as ``latest``."""

    image: str
    key: Digest
    digest: Digest
    registry: str
    repository: str
    tag: str
    built: bool
    """Whether a builder was started for it; False: it was there."""
    seconds: float = 0.0
    """What the build took."""
    hits: int = 0
    """Instructions whose result was there."""
    ran: int = 0
    saved: float = 0.0
    """Seconds that the hits took when they were last run, less what it took to find them."""


class Begun(msgspec.Struct, frozen=True, tag="begun"):
    """A builder begins with an image."""

    image: str
    tag: str
    layers: tuple[Layer, ...]
    expected: Estimate
    why: str = ""
    """If the image is there: why it is built all the same."""


class Ran(msgspec.Struct, frozen=True, tag="instruction"):
    """An instruction ended."""

    image: str
    stage: int
    number: int
    line: int
    text: str
    outcome: Outcome
    seconds: float


class Printed(msgspec.Struct, frozen=True, tag="printed"):
    """The builder, or an instruction, printed a line."""

    image: str
    line: str


class Published(msgspec.Struct, frozen=True, tag="published"):
    """The image is where it belongs."""

    built: Built


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The image could not be built."""

    image: str
    code: str
    what: str


class Warned(msgspec.Struct, frozen=True, tag="warned"):
    """Something that does not stop the build."""

    image: str
    what: str


Happening: TypeAlias = Begun | Ran | Printed | Published | Failed | Warned
Watch: TypeAlias = Callable[[Happening], None]


def built_of(standing: Standing) -> Built:
    """The result for an image that needed no build."""
    assert standing.key is not None  # noqa: S101 - the caller has looked
    assert standing.digest is not None  # noqa: S101 - as above
    image = standing.image.name
    return Built(
        image, standing.key, standing.digest, standing.registry, standing.repository, standing.tag, built=False
    )
