"""How a machine comes to run the agent: its first command and the environment that command gets."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from spotweld.errors import ImageError
from spotweld.images.containers.rooting import ALONE
from spotweld.images.registries.credentials import all_credentials
from spotweld.providers.provider import Boot
from spotweld.values import environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from spotweld.images.containers.pinning import Pinned
    from spotweld.runs.states import Attempt, RunState

_CREDENTIALS = ("AWS_", "GOOGLE_", "AZURE_")
"""How the variables begin from which an object store takes its address and credentials."""


def boot(state: RunState, attempt: Attempt, environ: Mapping[str, str] = os.environ) -> Boot:
    """The boot command of an attempt: this Python, running the agent; for a job with an image in its own namespaces.

    Args:
        state: the run.
        attempt: the attempt.
        environ: the controller's environment. Of it a machine gets what the run's store needs, unless the store is a
            folder.
    """
    ours = {environment.RUN_ID: state.run, environment.ATTEMPT: str(attempt.number)}
    return _boot("spotweld.runs.agent", ours, state.store, state.image, state.hosts, environ)


def standby(member: str, store: str, image: Pinned | None, environ: Mapping[str, str] = os.environ) -> Boot:
    """The boot command of a machine that waits in a pool until it becomes an attempt's.

    Args:
        member: its prefix in the store (``pools.members``).
        store: the URL of the pool's store.
        image: what the job runs in.
        environ: the keeper's environment.
    """
    return _boot("spotweld.runs.pools.standby", {environment.POOL_MEMBER: member}, store, image, (), environ)


def _boot(
    module: str,
    ours: dict[str, str],
    store: str,
    image: Pinned | None,
    hosts: Sequence[str],
    environ: Mapping[str, str],
) -> Boot:
    env = ours | {environment.STORE: store}
    if not store.startswith("file:"):
        env |= {name: value for name, value in environ.items() if name.startswith(_CREDENTIALS)}
    needed = {*hosts, *([image.host] if image is not None and image.host else [])}
    env |= _credentials(sorted(needed), environ)
    agent = (sys.executable, "-m", module)
    return Boot(agent if image is None else (*ALONE, *agent), env)


def _credentials(hosts: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """What registries ask for, as it is now: some of it holds for a few hours only."""
    entries = {}
    for host in hosts:
        # Where they cannot be read, the registry's own answer to nobody says more.
        with suppress(ImageError):
            for key, found in all_credentials(host, environ).items():
                auth = {"auth": found.basic.removeprefix("Basic ")}
                entries[key] = {"identitytoken": found.token} if found.token else auth
    return {environment.REGISTRY_AUTH: json.dumps({"auths": entries})} if entries else {}
