"""What the agent on a machine writes into the store, and the keys under which it does.

The store is the only channel between a machine and whoever watches it: it needs no open port, and it outlives both.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from spotweld.checkpoint.hazard import Hazard
from spotweld.images.containers.pinning import Pinned
from spotweld.project.nouns import CheckpointPolicy

EX_TEMPFAIL = 75
"""Exit status of a program that was interrupted and can be resumed (sysexits.h)."""


class Stage(StrEnum):
    """How far the agent is."""

    PREPARING = "preparing"
    ENTERING = "entering the image"
    SETTING_UP = "setting up"
    RUNNING = "running"


class Spec(msgspec.Struct, frozen=True):
    """What the agent is to do. Written by the controller before the machine exists."""

    run: str
    attempt: int
    source: str
    command: str
    setup: str
    env: dict[str, str]
    checkpoint: CheckpointPolicy
    hazard: Hazard
    """Interruptions per machine-hour, by the machine's age."""
    image: Pinned | None = None
    """What set-up and command run in; None: on the machine itself."""
    hosts: tuple[str, ...] = ()
    """Registries for which the program gets credentials."""


class Heard(msgspec.Struct, frozen=True):
    """The standing notice, as the agent heard it."""

    source: str
    deadline: float | None
    received: float


class Status(msgspec.Struct, frozen=True):
    """A sign of life, overwritten every second."""

    beat: int
    """Counts up. Whoever watches measures silence by its own clock, never by the machine's."""
    stage: Stage
    notice: Heard | None = None


class Result(msgspec.Struct, frozen=True):
    """How the process ended. Written once."""

    stage: Stage
    exit_code: int
    """As a shell tells it: 128 + the signal's number for a process that a signal ended."""
    notice: Heard | None
    """The standing notice; for a program that left as resumable the last one, even if it stands no more."""
    ended: float
    detail: str = ""


def attempt_prefix(run: str, attempt: int) -> str:
    """``runs/RUN/attempts/0001``."""
    return f"runs/{run}/attempts/{attempt:04d}"


def spec_key(run: str, attempt: int) -> str:
    """Where the controller leaves the agent its spec."""
    return f"{attempt_prefix(run, attempt)}/spec.json"


def status_key(run: str, attempt: int) -> str:
    """Where the agent leaves its signs of life."""
    return f"{attempt_prefix(run, attempt)}/status.json"


def result_key(run: str, attempt: int) -> str:
    """Where the agent leaves the result."""
    return f"{attempt_prefix(run, attempt)}/result.json"


def over_key(run: str, attempt: int) -> str:
    """Where the controller leaves word that the attempt is over, for a machine that comes up too late."""
    return f"{attempt_prefix(run, attempt)}/over"


def segment_key(run: str, attempt: int, stream: str, number: int) -> str:
    """The ``number``-th piece (from 1) of ``stream``: ``log`` (output) or ``events`` (what the process tells)."""
    return f"{attempt_prefix(run, attempt)}/{stream}/{number:06d}"
