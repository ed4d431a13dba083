"""Names of images: ``[HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]``.

The grammar is that of the distribution project's reference package
(https://github.com/distribution/reference/blob/main/reference.go): the first part is a host only if it could not be
part of a repository's name, that is, it holds a dot, a colon or a capital letter, or is ``localhost``.
"""

from __future__ import annotations

import ipaddress
import re

import msgspec

from spotweld.errors import UsageError
from spotweld.values.digests import Digest

HUB = "docker.io"
"""Where an image without a host is looked for."""
LATEST = "latest"
"""The tag that is meant where neither a tag nor a digest stands."""

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_LONGEST = 255
"""Characters of host and repository together."""


class Reference(msgspec.Struct, frozen=True):
    """The name of an image; ``str()`` writes it as it was read."""

    repository: str
    host: str = ""
    """With its port; empty where none was written."""
    tag: str = ""
    digest: Digest | None = None

    def __str__(self) -> str:
        host = f"{self.host}/" if self.host else ""
        tag = f":{self.tag}" if self.tag else ""
        return f"{host}{self.repository}{tag}{f'@{self.digest}' if self.digest else ''}"

    @property
    def name(self) -> str:
        """What to ask a registry for: the digest, else the tag, else ``latest``."""
        return self.digest or self.tag or LATEST

    def full(self) -> Reference:
        """The same image with host and tag written out: ``debian`` is ``docker.io/library/debian:latest``."""
        host, repository = self.host or HUB, self.repository
        if host in {"index.docker.io", "registry-1.docker.io"}:
            host = HUB
        if host == HUB and "/" not in repository:
            repository = f"library/{repository}"
        return Reference(repository, host, self.tag or ("" if self.digest else LATEST), self.digest)


def parse_reference(text: str) -> Reference:
    """The image that ``text`` names.

    Raises:
        UsageError: it names none.
    """
    rest, at, digest = text.partition("@")
    if at:
        check_digest(digest, text)
    first, slash, after = rest.partition("/")
    host = first if slash and looks_like_host(first) else ""
    path = after if host else rest
    repository, colon, tag = path.partition(":")
    if host and not is_host(host):
        raise _refusal(text, f"{host!r} is not a host")
    check_repository(repository, text)
    if colon:
        check_tag(tag, text)
    if len(host) + len(repository) >= _LONGEST:
        raise _refusal(text, f"host and repository have more than {_LONGEST} characters")
    return Reference(repository, host, tag, Digest(digest) if at else None)


def check_repository(repository: str, text: str = "") -> None:
    """Refuse what cannot be a repository's name.

    Raises:
        UsageError: it cannot.
    """
    if not _REPOSITORY.fullmatch(repository):
        capitals = repository.lower() if _REPOSITORY.fullmatch(repository.lower()) else ""
        why = f"{repository!r} cannot be a repository" + (": it has capital letters" if capitals else "")
        raise _refusal(text or repository, why, "Write it in small letters." if capitals else "")


def check_tag(tag: str, text: str = "") -> None:
    """Refuse what cannot be a tag.

    Raises:
        UsageError: it cannot.
    """
    if not _TAG.fullmatch(tag):
        raise _refusal(text or tag, f"{tag!r} cannot be a tag: letters, digits, '_', '.' and '-', at most 128")


def check_digest(digest: str, text: str = "") -> None:
    """Refuse what cannot be the digest of a blob.

    Raises:
        UsageError: it cannot.
    """
    if not _DIGEST.fullmatch(digest):
        raise _refusal(text or digest, f"{digest!r} is no digest: sha256 and 64 digits, or sha512 and 128")


def is_digest(name: str) -> bool:
    """Whether ``name`` is a digest rather than a tag."""
    return _DIGEST.fullmatch(name) is not None


def looks_like_host(part: str) -> bool:
    """Whether the first part of a name is taken for a host."""
    return part == "localhost" or any(letter in ".:" or letter.isupper() for letter in part)


def is_host(text: str) -> bool:
    """Whether ``text`` is a host's name or address, perhaps with a port."""
    return _HOST.fullmatch(text) is not None


def is_loopback(host: str) -> bool:
    """Whether a host, perhaps with a port, is this machine itself by its very name; nothing is looked up."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _refusal(text: str, why: str, todo: str = "") -> UsageError:
    return UsageError(f"{text[:300]!r} does not name an image", why, todo or "Write [HOST/]REPOSITORY[:TAG][@DIGEST].")
