"""What happens to a program, and what is seen of it from outside, kept outside of the store."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def ranks() -> int:
    """Processes that train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def step_done(step: int) -> None:
    """A step has ended: pause, or die if it is time and there is something to resume from. Of several, one dies."""
    told, at = Path(os.environ["SPOTWELD_EVENTS_FILE"]).read_text(), int(os.environ.get("KILL_AT", "1000000"))
    if step >= at and ('"saved"' in told or '"restored"' in told) and at % ranks() == rank():
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(float(os.environ.get("PAUSE", "0")))


def tell(*what: Any) -> None:  # noqa: ANN401
    """Note what a user would see in a log. The last item is a value, those before say of what."""
    with open("told.jsonl", "a") as file:  # noqa: PTH123
        file.write(json.dumps([[rank(), *what[:-1]], what[-1]], sort_keys=True) + "\n")
