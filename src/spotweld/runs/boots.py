"""How a machine comes to run the agent: its first command and the environment that command gets."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from spotweld.providers.provider import Boot
from spotweld.values import environment

if TYPE_CHECKING:
    from spotweld.runs.states import Attempt, RunState


def boot(state: RunState, attempt: Attempt) -> Boot:
    """The boot command of an attempt: this Python, running the agent."""
    env = {
        environment.RUN_ID: state.run,
        environment.ATTEMPT: str(attempt.number),
        environment.STORE: state.store,
    }
    # The store's credentials come from the machine's own identity on a cloud and from the environment on this machine.
    return Boot((sys.executable, "-m", "spotweld.runs.agent"), env)
