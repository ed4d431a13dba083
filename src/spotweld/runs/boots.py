"""How a machine comes to run the agent: its first command and the environment that command gets."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from spotweld.providers.provider import Boot
from spotweld.values import environment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spotweld.runs.states import Attempt, RunState

_CREDENTIALS = ("AWS_", "GOOGLE_", "AZURE_")
"""How the variables begin from which an object store takes its address and credentials."""


def boot(state: RunState, attempt: Attempt, environ: Mapping[str, str] = os.environ) -> Boot:
    """The boot command of an attempt: this Python, running the agent.

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
    return Boot((sys.executable, "-m", "spotweld.runs.agent"), env)
