"""A writer that is stopped in the middle of its second publish: ``python zombie.py FOLDER RUN WHERE``.

It stops itself by SIGSTOP where it was told to, and says by its exit status how it ended once it goes on.
"""

import os
import signal
import sys
from pathlib import Path

from spotweld.errors import Fenced
from spotweld.store import versions
from spotweld.store.heads import Kept, take_over
from spotweld.store.local import LocalObjects
from spotweld.values.digests import digest

FENCED = 75
STEPS = {
    "before the write": (versions, "write_new"),
    "before the rename": (Path, "rename"),
    "after it": (versions, "sync_folder"),
}


def kept(step: int) -> tuple[Kept, ...]:
    return (Kept(step, f"manifests/{step}", digest(b""), 0, 0.0),)


def stop_at(where: str) -> None:
    """Stop the process at its next call of the function."""
    owner, name = STEPS[where]
    real = getattr(owner, name)

    def stopping(*args: object) -> object:
        setattr(owner, name, real)
        os.kill(os.getpid(), signal.SIGSTOP)
        return real(*args)

    setattr(owner, name, stopping)


if __name__ == "__main__":
    writer = take_over(LocalObjects(Path(sys.argv[1])), sys.argv[2], 1)
    writer.publish(kept(1))
    stop_at(sys.argv[3])
    try:
        writer.publish(kept(2))
    except Fenced:
        sys.exit(FENCED)
