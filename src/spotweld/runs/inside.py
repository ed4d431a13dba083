"""A job in its image: fetching that for the agent, telling of it, and what of the machine the program sees there."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from spotweld.checkpoint import events
from spotweld.checkpoint.events import EventFile
from spotweld.errors import RegistryUnavailable
from spotweld.images.containers.preparing import check_here, prepare
from spotweld.images.registries.copying import Phase
from spotweld.project.urls import store_folder
from spotweld.runs.courier import say
from spotweld.values import environment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spotweld.images.containers.pinning import Pinned
    from spotweld.images.containers.rooting import Container
    from spotweld.images.registries.copying import Progress
    from spotweld.runs.reports import Spec

_PATIENCE = 300.0
"""Seconds that a registry is waited for."""
_AGAIN = 2.0
_TELL = 1.0
"""Seconds between two words about a fetch."""
_CACHE = Path("/var/cache/spotweld")
"""What machines of one host share, where the provider does not say."""
_SEEN = (
    *("SPOTWELD_", "AWS_", "GOOGLE_", "AZURE_", "TZ", "CUDA_VISIBLE_DEVICES"),
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
)
"""How the machine's variables begin that mean something in an image, too: not where its files are."""


def enter(image: Pinned, spec: Spec, folder: Path, environ: Mapping[str, str], told: Path) -> Container:
    """Have the image here, whatever it takes, with the machine's and the store's folders in it.

    Args:
        image: the job's.
        spec: the attempt's.
        folder: the machine's disk; the program runs in ``folder/work``.
        environ: the machine's environment.
        told: the file that events are appended to.

    Raises:
        ImageError: whatever waiting does not help with.
    """
    check_here()
    tell, began = EventFile(str(told)), time.time()
    host = Path(environ.get(environment.HOST_CACHE, _CACHE)) / environment.IMAGES
    stores = (environ[environment.STORE], *(tier.store for tier in spec.checkpoint.tiers))
    shared = [folder, *(path for url in stores if (path := store_folder(url)) is not None)]
    credentials = folder / "registry-auth.json"
    here = dict(environ)
    if environment.REGISTRY_AUTH in here:
        credentials.touch(0o600)
        credentials.write_text(here[environment.REGISTRY_AUTH])
        here["REGISTRY_AUTH_FILE"] = str(credentials)
    hear, until = _Telling(image, tell), time.monotonic() + _PATIENCE
    try:
        while True:
            try:
                found = prepare(image, host, folder / "image", folder / "work", shared, here, hear)
                break
            except RegistryUnavailable as error:
                if time.monotonic() > until:
                    raise
                say(f"{error}; trying again")
                time.sleep(_AGAIN)
    finally:
        credentials.unlink(missing_ok=True)
    now = time.time()
    tell.write(events.ImageReady(now, image.name, image.digest, now - began, found.moved, found.here))
    tell.close()
    return found.container


def seen_inside(container: Container, environ: Mapping[str, str]) -> dict[str, str]:
    """The image's variables, and those of the machine that mean something there."""
    return container.env | {name: value for name, value in environ.items() if name.startswith(_SEEN)}


class _Telling:
    def __init__(self, image: Pinned, tell: EventFile) -> None:
        self._image, self._tell = image, tell
        self._done: dict[str, int] = {}
        self._next = time.monotonic() + _TELL

    def __call__(self, progress: Progress) -> None:
        if progress.phase not in {Phase.MOVING, Phase.MOVED}:
            return
        self._done[progress.digest] = progress.done
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _TELL
            self._tell.write(events.ImageFetching(time.time(), self._image.name, sum(self._done.values())))
