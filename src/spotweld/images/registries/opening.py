"""From a URL to a registry."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from spotweld.errors import UsageError
from spotweld.images.registries.layouts import Layout
from spotweld.images.registries.references import HUB, is_host, is_loopback, looks_like_host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from spotweld.images.registries.registry import Registry
    from spotweld.project.nouns import Project

_HUB_API = "registry-1.docker.io"


def open_registry(url: str, environment: Mapping[str, str] | None = None) -> Registry:
    """The registry that ``url`` names; nothing is asked of it yet.

    Args:
        url: ``oci:FOLDER``, ``https://HOST[:PORT]``, ``http://HOST[:PORT]`` or ``HOST[:PORT]`` (HTTPS but for this
            machine itself, as Docker does it).
        environment: says where credentials lie; by default the process's.

    Raises:
        UsageError: no registry can have that URL.
    """
    scheme, colon, rest = url.partition(":")
    if colon and scheme == "oci":
        if not rest:
            raise UsageError(f"{url} cannot be opened", "it names no folder", "Write oci:/absolute/folder.")
        return Layout(Path(rest))
    # A folder needs none of what talking over the network does.
    from spotweld.images.registries.credentials import find_credentials  # noqa: PLC0415
    from spotweld.images.registries.distribution import Distribution  # noqa: PLC0415
    from spotweld.images.registries.distribution_client import Client  # noqa: PLC0415

    scheme, colon, rest = url.partition("://")
    host = (rest if colon else url).rstrip("/").lower()
    if not colon:
        scheme = "http" if is_loopback(host) else "https"
    if scheme not in {"http", "https"} or not is_host(host) or not (colon or looks_like_host(host)):
        todo = "Write oci:FOLDER, https://HOST[:PORT] or http://HOST[:PORT]; a repository does not belong here."
        raise UsageError(f"{url!r} is not a registry's URL", "", todo)
    try:
        urlsplit(f"{scheme}://{host}")
    except ValueError as error:
        raise UsageError(
            f"{url!r} is not a registry's URL", str(error), "Write an IPv6 address into brackets."
        ) from error
    served = _HUB_API if host == HUB else host
    where = os.environ if environment is None else environment
    return Distribution(Client(f"{scheme}://{served}", lambda name: find_credentials(host, where, name)))


def in_full(host: str, known: Iterable[str]) -> str:
    """A registry's URL with ``http://`` before it, if one of the known URLs names its host so; else as it was."""
    plain = (url for url in known if url.startswith("http://"))
    return next((url for url in plain if urlsplit(url).netloc.lower() == host.lower()), host)


class Registries:
    """Registries that are opened once, by URL.

    Args:
        opening: opens one.
        plain: URLs of some; a host that one of them names with ``http://`` is spoken to so by its bare name, too.
    """

    def __init__(self, opening: Callable[[str], Registry] = open_registry, plain: Iterable[str] = ()) -> None:
        self._opening = opening
        self._plain = tuple(plain)
        self._open: dict[str, Registry] = {}

    def __getitem__(self, url: str) -> Registry:
        url = in_full(url, self._plain)
        found = self._open.get(url)
        if found is None:
            found = self._open.setdefault(url, self._opening(url))
        return found


def registries_of(project: Project) -> Registries:
    """For what a project's images and jobs name; as the project file says TLS or plain HTTP of a host, so it is."""
    return Registries(plain=(project.registries.persistent, project.registries.ephemeral))
