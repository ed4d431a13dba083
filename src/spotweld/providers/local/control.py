"""How a supervisor is asked for something: one line of JSON on a FIFO in the machine's folder.

A FIFO that nobody reads refuses to be opened, so whoever asks knows at once whether anybody heard.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

NAME = "control"


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """End the machine; its owner wants it."""


class Interrupt(msgspec.Struct, frozen=True, tag="interrupt"):
    """Take the machine away, as a loss of capacity would."""

    notice: float | None
    """Seconds of warning; None: no warning at all."""


Ask = Stop | Interrupt


def send(folder: Path, ask: Ask) -> bool:
    """Ask the supervisor of the machine in ``folder``.

    Returns:
        Whether there is a supervisor that will read it.
    """
    try:
        descriptor = os.open(folder / NAME, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in {errno.ENXIO, errno.ENOENT}:
            return False
        raise
    try:
        # Shorter than PIPE_BUF, so it arrives in one piece (pipe(7)). A full FIFO holds many requests already.
        with contextlib.suppress(BlockingIOError):
            os.write(descriptor, msgspec.json.encode(ask) + b"\n")
    finally:
        os.close(descriptor)
    return True


class Inbox:
    """The supervisor's end."""

    def __init__(self, folder: Path) -> None:
        path = folder / NAME
        with contextlib.suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        # For writing too: then it never reads as ended when a writer hangs up.
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._rest = b""

    def fileno(self) -> int:
        return self._descriptor

    def read(self) -> list[Ask]:
        """All that was asked since the last call. What is no request is dropped."""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._descriptor, 65536):
                self._rest += chunk
        *lines, self._rest = self._rest.split(b"\n")
        asked: list[Ask] = []
        for line in lines:
            with contextlib.suppress(msgspec.MsgspecError):
                asked.append(msgspec.json.decode(line, type=Ask))
        return asked
