"""How a machine comes to run the agent: its first command and the environment that command gets."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from spotweld.errors import ImageError
from spotweld.images.credentials import find_credentials
from spotweld.images.rooting import ALONE
from spotweld.providers.provider import Boot
from spotweld.values import environment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spotweld.images.pinning import Pinned
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
    env = {
        environment.RUN_ID: state.run,
        environment.ATTEMPT: str(attempt.number),
        environment.STORE: state.store,
    }
    if not state.store.startswith("file:"):
        env |= {name: value for name, value in environ.items() if name.startswith(_CREDENTIALS)}
    agent = (sys.executable, "-m", "spotweld.runs.agent")
    if state.image is None:
        return Boot(agent, env)
    return Boot((*ALONE, *agent), env | _credentials(state.image, environ))


def _credentials(image: Pinned, environ: Mapping[str, str]) -> dict[str, str]:
    """What the registry of the job's image asks for, as it is now: some hold for a few hours only."""
    try:
        found = find_credentials(image.host, environ) if image.host else None
    except ImageError:
        # The registry's own answer to nobody says more.
        return {}
    if found is None:
        return {}
    entry = {"identitytoken": found.token} if found.token else {"auth": found.basic.removeprefix("Basic ")}
    return {environment.REGISTRY_AUTH: json.dumps({"auths": {image.host: entry}})}
