"""The keys of the project file that are about images."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from spotweld.project.nouns import Image, Lifetime, Registries
from spotweld.project.shapes import Choice, Key, Named, Path, Table, Text, Whole
from spotweld.project.texts import PRINTABLE, VALUE, money, some

if TYPE_CHECKING:
    from pathlib import Path as FilePath

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
# What stands before the first slash is a host where it could not be part of a repository's name.
_HOST_COMES = r"(?:[^/@]*[.:A-Z][^/@]*|localhost)/"
_DIGEST = "sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}"
REFERENCE = (
    rf"(?:(?={_HOST_COMES}){_HOST}/|(?!{_HOST_COMES})){_PART}(?:/{_PART})*"
    rf"(?::[a-zA-Z0-9_][a-zA-Z0-9_.-]{{0,127}})?(?:@(?:{_DIGEST}))?"
)
"""The form of an image's name, ``[HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]``: what ``references`` reads.

The images' room is above this one, and the JSON Schema needs a pattern. A test holds the two together.
"""
BARE = r"[^/:@]+"
"""What names an image of the file, and never one of a registry."""

_FOLDER = r"oci:(?!//(?:[^/]|$))[^?#\u0000-\u001f\u007f]+"
REGISTRY = rf"{_FOLDER}|https?://{_HOST}/?|(?=[^/]*[.:]){_HOST}/?|localhost/?"
"""The form of a registry's URL. There is no place for a user and a password in it."""

_LONGEST = 255
"""Characters of host and repository together are fewer."""

_LINUX = "386|amd64(?:/v[1-4])?|arm(?:/v[5-8])?|arm64(?:/v8)?|loong64|mips64|mips64le|ppc64le|riscv64|s390x"
_SAME = {"linux/amd64/v1": "linux/amd64", "linux/arm": "linux/arm/v7", "linux/arm64/v8": "linux/arm64"}
"""Two ways to write one platform; containerd's choice, which is the builders'."""


def _image(text: str) -> str:
    place = text.partition("@")[0]
    host = re.match(_HOST_COMES, text)
    tag = place.find(":", host.end() if host else 0)
    if len(place if tag < 0 else place[:tag]) - bool(host) >= _LONGEST:
        raise ValueError(f"host and repository have {_LONGEST} characters or more")
    return text


def _platform(text: str) -> str:
    return _SAME.get(text, text)


NAME = Text(
    "an image's name",
    "names are lower-case letters and digits in words that -, _ or __ join, at most 63 characters, and scratch is "
    "Docker's",
    "trainer",
    r"(?!scratch$)[a-z0-9]+(?:(?:__?|-+)[a-z0-9]+)*",
    longest=63,
)
JOB_IMAGE = Text(
    "an image",
    "it takes the name of an image of this file, or [HOST/]REPOSITORY[:TAG][@DIGEST]",
    "trainer",
    REFERENCE,
    _image,
    600,
)
_FROM = Text(
    "a name that can stand in FROM",
    "it takes [HOST/]REPOSITORY[:TAG][@DIGEST] as FROM has it, and scratch is nothing that could be replaced",
    "debian:bookworm",
    rf"(?!scratch$){REFERENCE}",
    longest=600,
)
_ARGUMENT = Text(
    "the name of a build argument",
    "it takes letters, digits and _, and does not begin with a digit",
    "CUDA",
    "[A-Za-z_][A-Za-z0-9_]{0,199}",
)
_URL = Text(
    "a registry's URL",
    "it takes oci:FOLDER, https://HOST[:PORT], http://HOST[:PORT] or HOST[:PORT], without a repository",
    "oci:.spotweld/images/persistent",
    REGISTRY,
    longest=2000,
)

IMAGE = Table(
    "an image",
    {
        "context": Key(
            Path(folder=True, inside=True),
            "The folder that COPY and ADD take files from, inside the project's folder; by default that one.",
        ),
        "dockerfile": Key(
            Text(
                "the path of a Dockerfile",
                "it takes a path relative to the context",
                "docker/train.Dockerfile",
                rf"{PRINTABLE}*[^\s\u0000-\u001f]{PRINTABLE}*",
                longest=1000,
            ),
            "The Dockerfile, relative to the context.",
        ),
        "args": Key(Named(_ARGUMENT, VALUE), "Build arguments, for the Dockerfile's ARG."),
        "bases": Key(
            Named(_FROM, NAME),
            "Names that the Dockerfile takes images by (FROM, COPY --from), each with the image of this file that it "
            "means.",
        ),
        "platform": Key(
            Text(
                "a platform",
                "it takes linux/ and an architecture as Docker calls it: amd64, arm64, arm/v7, ...",
                "linux/amd64",
                rf"linux/(?:{_LINUX})",
                _platform,
            ),
            "What the image is for; by default the machine that builds it.",
        ),
        "target": Key(
            Text(
                "a stage's name",
                "it takes a stage's name as FROM ... AS has it, or its number in quotes",
                "runtime",
                "[a-zA-Z][a-zA-Z0-9_.-]{0,199}|[0-9]{1,4}",
            ),
            "The stage that is built; by default the last one.",
        ),
        "lifetime": Key(Choice(Lifetime), "Whether the image survives a teardown."),
        "keep": Key(Whole(1, 10_000), "The newest this many builds are kept; what runs use is kept besides."),
    },
    Image,
)

IMAGES = Named(NAME, IMAGE)

REGISTRIES = Table(
    "registries",
    {
        "persistent": Key(_URL, "Where images live that survive a teardown."),
        "ephemeral": Key(_URL, "Where the others live."),
        "price": Key(money(some, "0.10 USD"), "Of a GiB and month in them, for the ledger."),
    },
    Registries,
)


def absolute_registry(url: str, folder: FilePath) -> str:
    """A URL with the path of an ``oci:`` URL made absolute, starting from ``folder`` (itself absolute)."""
    return f"oci:{folder / url.removeprefix('oci:')}" if url.startswith("oci:") else url
