"""A death at a chosen statement of a log's database, for programs that tests run and kill."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spotweld.runs.journal import Journal


def die_after(log: Journal, statements: int) -> None:
    """Let this process be killed before the statement that comes after so many of the log's."""
    left = statements

    def traced(_: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    log._db.set_trace_callback(traced)
