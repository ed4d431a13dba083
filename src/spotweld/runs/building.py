"""A build of images as a run: its program builds on whichever machine it is given, and any machine can go on.

Finished instructions are in the registries the moment they end, so an interruption costs the one in progress. Errors of
the build itself are not tried again: the same files would fail in the same way.
"""

from __future__ import annotations

import secrets
import shlex
import sys
from typing import TYPE_CHECKING

from spotweld.errors import UsageError
from spotweld.images.builds.travelling import pack
from spotweld.project.nouns import Job, Retry, RetryOn, SpotUse
from spotweld.providers.local.zones import PROVIDER
from spotweld.runs.opening import LETTERS, Plan, first_placement
from spotweld.runs.source import scan

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from spotweld.placement.placer import Placer
    from spotweld.project.nouns import Project
    from spotweld.providers.provider import Provider

PROGRAM = "spotweld.cli.errand"
"""What the machine runs, in the folder that ``pack`` has filled."""
_RETRY = Retry((RetryOn.NO_CAPACITY, RetryOn.INTERRUPTION))
_TURNS = 3
"""A build may take so many times its predicted length: two interruptions, each in the last moment."""
_STARTING = 600.0
"""Seconds that are allowed for machines to come up and to fetch what is there."""


def plan_build(
    project: Project,
    names: Sequence[str],
    builder: str,
    at_once: int,
    folder: Path,
    *,
    provider: Provider,
    placer: Placer,
    timeout: float | None = None,
) -> Plan:
    """What would be done to build images on machines of a provider.

    Args:
        project: the project.
        names: of the images to build; what they need is built too.
        builder: which one, as ``images.builders.choose_builder`` takes it.
        at_once: how many images may be built side by side; 0: as many as the machine has cores.
        folder: an empty one, in which the files are gathered; needed until the run is open.
        provider: asked for its offers.
        placer: asked what it would rent.
        timeout: seconds after which the run is stopped; None: never.

    Raises:
        UsageError: the files cannot travel, or a registry is a folder that machines would not have.
        DockerfileError: an ignore file cannot be used.
    """
    urls = {project.registries.of(image.lifetime) for image in project.images.values()}
    folders = sorted(url for url in urls if url.startswith("oci:"))
    if folders and provider.name != PROVIDER:
        raise UsageError(
            f"no machine of {provider.name} has the registry {folders[0]}",
            "it is a folder of this machine",
            "name a server under registries: in spotweld.yaml",
        )
    pack(project, names, builder, at_once, folder)
    job = Job(
        "build",
        f"exec {shlex.quote(sys.executable)} -m {PROGRAM}",
        workdir=project.file.parent,
        retry=_RETRY,
        max_duration=timeout,
        labels={"images": "-".join(names)[:63]},
    )
    first = first_placement(SpotUse.AUTO, project.placement, provider, placer)
    name = f"build-{''.join(secrets.choice(LETTERS) for _ in range(6))}"
    hosts = tuple(sorted(url.rpartition("://")[2].rstrip("/") for url in urls if not url.startswith("oci:")))
    return Plan(
        project.name, name, job, project.store, str(folder), scan(folder), project.local, project.placement, first,
        hosts=hosts,
    )  # fmt: skip


def patience(high: float, unknown: int) -> float | None:
    """How long a build may take that should take ``high`` seconds at most; None: for ever, nobody knows.

    Args:
        high: what its instructions hardly take more than, from history.
        unknown: how many of them nobody has timed.
    """
    return None if unknown else _TURNS * high + _STARTING
