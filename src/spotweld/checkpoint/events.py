"""What the engine tells about itself: one JSON object a line, appended to a file that the machine's agent follows."""

from __future__ import annotations

import contextlib
import os
from typing import TypeAlias

import msgspec

from spotweld.checkpoint.cadence import Plan
from spotweld.checkpoint.voice import warn
from spotweld.preemption.notices import Notice


def _snake(name: str) -> str:
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in name).lstrip("_")


class _Event(msgspec.Struct, frozen=True, tag_field="kind", tag=_snake):
    t: float
    """Seconds since 1970 UTC."""


class Start(_Event, frozen=True):
    """``steps`` was entered."""

    total: int
    pid: int


class Damage(msgspec.Struct, frozen=True):
    """A checkpoint that could not be used."""

    step: int
    why: str


class Restored(_Event, frozen=True):
    """The state of a checkpoint is loaded."""

    step: int
    manifest: str
    seconds: float
    damaged: tuple[Damage, ...] = ()
    """Newer ones that were passed over."""
    tier: str = ""
    """The URL of the fast tier that it was read from; empty: the run's store."""
    published: int | None = None
    """The newest step that the store had; None: none, or nobody looked."""
    why: str = ""
    """Why it was read from there; empty: there was no other place."""


class Fresh(_Event, frozen=True):
    """The run has no checkpoint: it starts from step 0."""


class Remark(_Event, frozen=True):
    """Something that is worth a line to whoever watches."""

    text: str


class ImageFetching(_Event, frozen=True):
    """The job's image comes over the network. Told once a second."""

    image: str
    done: int
    """Bytes so far."""


class ImageReady(_Event, frozen=True):
    """What follows runs in the job's image."""

    image: str
    digest: str
    seconds: float
    moved: int
    """Bytes that came over the network."""
    here: bool
    """An earlier machine of the same host had fetched it."""


class Step(_Event, frozen=True):
    """So many steps are finished. Not every step is told."""

    step: int


class Metrics(_Event, frozen=True):
    """What the program logged in a step."""

    step: int
    """The step that ``steps`` gave, counted from 0."""
    values: dict[str, float | None]
    """None: not a finite number."""


class Saving(_Event, frozen=True):
    """The state after ``step`` steps is captured, and is now being written."""

    step: int
    reason: str


class Saved(_Event, frozen=True):
    """It is durable and published, in the run's store or in a fast tier of this machine."""

    step: int
    reason: str
    stall: float
    """Seconds that the training thread was held up."""
    seconds: float
    """From the start of the capture until it was published."""
    size: int
    """Bytes of the state."""
    manifest: str
    tier: str = ""
    """The URL of the fast tier that it is in, where it shares the machine's fate until it is carried on; empty: it is
    in the run's store."""


class Carried(_Event, frozen=True):
    """A checkpoint has come from a fast tier to a slower one."""

    step: int
    store: str
    """The URL of the slower tier."""
    seconds: float
    """From the start of the capture."""
    manifest: str
    published: bool = False
    """That is the run's store: from now on it outlives the machine."""
    size: int = 0
    """Bytes that had to be written; 0: none, or not known."""
    delta: bool = False
    """Some of it is stored as differences from another checkpoint."""


class SaveFailed(_Event, frozen=True):
    """A save came to nothing; training goes on and it is tried again."""

    step: int
    why: str
    attempts: int
    """Failures in a row."""


class Cadence(_Event, frozen=True):
    """How often the state is saved, and why. Told when that has changed noticeably, and once a minute."""

    plan: Plan


class Risk(_Event, frozen=True):
    """The machine is at another risk now."""

    level: str
    """``low``, ``elevated``, ``high`` or ``leaving``."""
    why: str
    hazard: float
    """Interruptions per machine-hour that are reckoned with."""
    left: float | None
    """Seconds until the machine goes; None: not known."""


class Noticed(_Event, frozen=True, tag="notice"):
    """A notice came."""

    notice: Notice


class Withdrawn(_Event, frozen=True):
    """It does not hold any more."""

    id: str


class Emergency(_Event, frozen=True):
    """What is done about a machine that will be taken."""

    decision: str
    """``full``: a last save that stands alone; ``delta``: of the differences from a checkpoint that is in the store;
    ``none``: too little time, the last published checkpoint stands."""
    predicted: float | None
    """Seconds that it is expected to take (``none``: that the quickest way would have taken); None: not known."""
    remaining: float | None
    """Seconds to the deadline; None: not known."""


class Fenced(_Event, frozen=True):
    """A later attempt owns the run."""

    epoch: int
    """The one that this process held; 0: none."""


class Finished(_Event, frozen=True):
    """All steps are done, and the last state is durable."""

    step: int


class Leaving(_Event, frozen=True):
    """The process stops with exit status 75."""

    step: int
    why: str


Event: TypeAlias = (
    Start
    | Restored
    | Fresh
    | Remark
    | ImageFetching
    | ImageReady
    | Step
    | Metrics
    | Saving
    | Saved
    | Carried
    | SaveFailed
    | Cadence
    | Risk
    | Noticed
    | Withdrawn
    | Emergency
    | Fenced
    | Finished
    | Leaving
)

_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def parse_event(line: bytes | str) -> Event:
    """One line of an events file.

    Raises:
        ValueError: it is none (a line that was cut short by a kill, for instance).
    """
    return _decoder.decode(line)


class EventFile:
    """Appends events. A failure is told once, and costs what is told until it has passed: no training stops for a log.

    Opened with the first event, and again with the first one after ``close``: figures may be logged after the loop.

    Args:
        path: the file; None: events go nowhere.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._file: int | None = None
        self._failed = self._cut = False

    def write(self, event: Event) -> None:
        """Append one line, in one write."""
        if not self._path:
            return
        try:
            if self._file is None:
                self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            # What a full disk cut short must not take the next line with it.
            line = b"\n" * self._cut + msgspec.json.encode(event) + b"\n"
            self._cut = os.write(self._file, line) < len(line)
        except OSError as error:
            if not self._failed:
                warn(f"events are not recorded for now: {error}")
            self._failed = True
            self.close()

    def close(self) -> None:
        """Give the file back."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                os.close(file)
