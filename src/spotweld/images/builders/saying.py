"""What a builder's last words mean: which registry said no, and why."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from spotweld.errors import (
    BuildFailed,
    CacheUnsaved,
    ImageDamaged,
    ImageError,
    RegistryFull,
    RegistryRefused,
    RegistryUnavailable,
)
from spotweld.images.builds.naming import cache_of
from spotweld.images.registries.manifests import digest_of
from spotweld.images.steps.mounts import unmounted

if TYPE_CHECKING:
    from spotweld.images.builds.freshness import Standing
    from spotweld.images.registries.registry import Registry

_KEPT = "What is finished is kept; then build again: nothing that is finished runs twice."
_PROBE = 32_768
"""Eighths of the bytes that are sent to see what a registry says."""
_WIDEST = 100
"""Characters of a failed instruction that are shown."""
_STEP = re.compile(r'^building at STEP ".*": ', re.DOTALL)
_ECHO = re.compile(r'(?:\[\d+/\d+\] )?STEP \d+/\d+: |Error: building at STEP "')
_NO_TLS = r"server gave HTTP response to HTTPS client"
_TELL = (
    'Tell the daemon of BuildKit (daemon.json: "insecure-registries": ["HOST"]; buildkitd.toml: [registry."HOST"] '
    "http = true), or build with buildah, which Spotweld can tell: spotweld build --builder buildah."
)
_MEANINGS: tuple[tuple[str, type[ImageError], str, str], ...] = (
    (
        _NO_TLS,
        RegistryRefused,
        "it speaks plain HTTP, and the builder wants TLS of it",
        _TELL,
    ),
    (
        r"no space left|disk quota exceeded|insufficient storage|\b507\b",
        RegistryFull,
        "it is full",
        "Free some space there (spotweld cache clear --older-than 30d).",
    ),
    (
        r"unauthorized|authentication required|\b401\b|incorrect username or password",
        RegistryRefused,
        "the credentials are missing or wrong",
        "Log in first: docker login HOST  (or: buildah login HOST).",
    ),
    (
        r"\b405\b|method not allowed|read-?only|UNSUPPORTED",
        RegistryRefused,
        "it is read-only",
        "Use another registry, or have writing allowed in this one.",
    ),
    (
        r"\b403\b|forbidden|denied: |insufficient_scope",
        RegistryRefused,
        "this account may not write there",
        "Ask for the right, or log in as somebody else.",
    ),
    (
        r"connection refused|no such host|i/o timeout|network is unreachable|connection reset|EOF$|\b50[0234]\b",
        RegistryUnavailable,
        "it does not answer",
        "Look whether it runs, and at the network.",
    ),
    (
        r"blob unknown|manifest unknown|could not fetch content descriptor|blob .*not found",
        ImageDamaged,
        "a blob that a manifest names is gone there",
        "See what is missing: spotweld cache verify; then: spotweld cache bust IMAGE.",
    ),
)


def explained(error: ImageError, standing: Standing, line: int, registry: Registry) -> ImageError:
    """The error of a build, with the image and the line, and of a known kind if it is the registry's.

    Args:
        error: what the builder said.
        standing: of the image.
        line: of the instruction that failed; 0: none did.
        registry: the image's.
    """
    image = standing.image
    where = f"{image.name}: {image.dockerfile.name}:{line}" if line else image.name
    if isinstance(error, BuildFailed) and line and not re.search(_NO_TLS, error.why):
        return BuildFailed(f"{where}: {_named_once(error.what)}", _STEP.sub("", error.why), _printed(error.todo))
    found = _tried(registry, standing) if isinstance(error, CacheUnsaved) else None
    if found is not None:
        return type(found)(f"{where}: {found.what}", found.why, found.todo)
    for pattern, kind, why, todo in _MEANINGS:
        if re.search(pattern, error.why, re.IGNORECASE | re.MULTILINE):
            url = _blamed(error.why, standing)
            fit = todo.replace("HOST", _host(url)).replace("IMAGE", image.name)
            return kind(f"{where}: the registry {url} said no", f"{why} ({error.why})", f"{fit} {_KEPT}")
    return type(error)(f"{where}: {error.what}", error.why, error.todo)


def _named_once(what: str) -> str:
    """``INSTRUCTION: failed``, with as much of the instruction as one can take in."""
    text, colon, rest = what.rpartition(": ")
    text = unmounted(text)
    return (text if len(text) <= _WIDEST else f"{text[: _WIDEST - 3]}...") + colon + rest


def _printed(last: str) -> str:
    """The last lines, less those in which the builder repeats the instruction; empty if nothing else is there."""
    head, *lines = last.split("\n")
    told = [line for line in lines if not _ECHO.match(line)]
    return "\n".join([head, *told]) if told else ""


def _tried(registry: Registry, standing: Standing) -> ImageError | None:
    """What the registry says to us when we write there: builders often tell no more than a status."""
    data = _PROBE * b"spotweld"
    try:
        registry.write_blob(cache_of(standing.repository), digest_of(data), len(data), [data])
    except ImageError as error:
        return error
    return None


def _blamed(words: str, standing: Standing) -> str:
    """The registry that the words name: a base's, or the image's own."""
    others = (base.registry for base in standing.bases.values())
    return next((url for url in others if _host(url) in words), standing.registry)


def _host(url: str) -> str:
    return url.removeprefix("https://").removeprefix("http://")
