"""What can happen to a run, as the event log keeps it.

The log is append-only; everything else that is known of a run is folded from it (``runs.states``). Times are seconds
since 1970 UTC by the controller's clock and are for people and prices only: order comes from the log's sequence.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import msgspec

from spotweld.images.containers.pinning import Pinned
from spotweld.project.nouns import Job, LocalProvider, PlacementRules
from spotweld.providers.provider import MachineEnd
from spotweld.values.money import Money
from spotweld.values.offers import Offer


class Cause(StrEnum):
    """Why an attempt ended."""

    DONE = "done"
    FAILED = "failed"
    PREEMPTED = "preempted-with-notice"
    PREEMPTED_UNNOTICED = "preempted-without-notice"
    NO_CAPACITY = "no-capacity"
    SETUP_FAILED = "setup-failed"
    CANCELLED = "cancelled"
    BUDGET = "budget"
    TIMED_OUT = "timed-out"
    MOVED = "moved"
    """Ended by us, with time for a checkpoint, to go on where it is cheaper."""
    PASSED = "pool-machine-gone"
    """The machine of a pool that it was to have went to somebody else, or was about to end; none was had."""

    @property
    def interruption(self) -> bool:
        """The machine was taken: nothing that the job did."""
        return self in {Cause.PREEMPTED, Cause.PREEMPTED_UNNOTICED}

    @property
    def failure(self) -> bool:
        """The job's own doing: uses up the retries meant for failures."""
        return self in {Cause.FAILED, Cause.SETUP_FAILED}


class Outcome(StrEnum):
    """How a run ended."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    BUDGET = "stopped by budget"
    TIMED_OUT = "timed out"
    LATE = "done late"
    """Done, and after its deadline."""
    NO_CAPACITY = "no capacity"
    INTERRUPTED = "interrupted"
    """Its machine was taken and the job asks not to be retried for that; it can be resumed by hand."""

    @property
    def exit_status(self) -> int:
        """What ``launch`` and ``watch`` exit with (architecture: exit codes)."""
        return {
            Outcome.DONE: 0,
            Outcome.BUDGET: 3,
            Outcome.LATE: 4,
            Outcome.NO_CAPACITY: 5,
            Outcome.INTERRUPTED: 75,
            Outcome.CANCELLED: 130,
        }.get(self, 1)


class Opened(msgspec.Struct, frozen=True, tag="opened"):
    """The run exists from here on."""

    project: str
    job: Job
    store: str
    source: str
    """Key of the frozen source tree in the store."""
    local: LocalProvider
    """Frozen as well: a project file that is being edited must not stop a controller from starting again."""
    placement: PlacementRules
    image: Pinned | None = None
    """What the job's image was then: all attempts run in the same bits."""
    hosts: tuple[str, ...] = ()
    """Registries for which its program gets the credentials that the controller finds; a user's program gets none."""


class Drawn(msgspec.Struct, frozen=True):
    """A machine that is not rented anew but comes from a pool."""

    pool: str
    machine: str


class AttemptOpened(msgspec.Struct, frozen=True, tag="attempt-opened"):
    """The intention to rent. Logged before the provider is called; the token makes the call repeatable."""

    attempt: int
    offer: Offer
    on_demand_hourly: Money
    token: str
    why: str
    drawn: Drawn | None = None
    """The machine to be taken from a pool; the token is that machine's."""


class MachineStarted(msgspec.Struct, frozen=True, tag="machine-started"):
    """The provider gave a machine."""

    attempt: int
    machine: str
    started: float


class Running(msgspec.Struct, frozen=True, tag="running"):
    """The agent on the machine reported for the first time."""

    attempt: int


class Noticed(msgspec.Struct, frozen=True, tag="noticed"):
    """The machine was told that it will be taken."""

    attempt: int
    source: str
    deadline: float | None


class AttemptEnded(msgspec.Struct, frozen=True, tag="attempt-ended"):
    """The attempt is over and its machine does not cost any more."""

    attempt: int
    cause: Cause
    detail: str
    ended: float
    exit_code: int | None = None
    end: MachineEnd | None = None
    """Why the machine ended, by the provider's own record; None: it has not told."""


class Priced(msgspec.Struct, frozen=True, tag="priced"):
    """The machine costs something else from now on."""

    attempt: int
    hourly: Money
    on_demand_hourly: Money
    price_source: str


class Recorded(msgspec.Struct, frozen=True, tag="recorded"):
    """The provider's own record of a machine that has ended, where it is not what was logged before."""

    attempt: int
    started: float
    ended: float
    end: MachineEnd | None


class Waiting(msgspec.Struct, frozen=True, tag="waiting"):
    """Nothing is rented now."""

    until: float
    why: str


class Sighted(msgspec.Struct, frozen=True, tag="sighted"):
    """What was new in the market, of a run with a deadline: the next controller has to know it as well."""

    up: dict[str, bool]
    """Whether a spot machine could be had, by zone."""
    prices: dict[str, float]
    """Of spot per machine and hour."""


class CancelRequested(msgspec.Struct, frozen=True, tag="cancel-requested"):
    """Somebody wants the run to stop."""


class StopAsked(msgspec.Struct, frozen=True, tag="stop-asked"):
    """A budget of the project wants the run to stop, with a checkpoint."""

    budget: str
    round: int
    why: str


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """The run is over. Nothing follows, unless a budget has stopped it."""

    outcome: Outcome
    why: str


class Reopened(msgspec.Struct, frozen=True, tag="reopened"):
    """A run that a budget had stopped goes on."""

    budget: Money | None
    """Its job's budget from now on, what was spent before included; None: it stays as it was."""


Event = (
    Opened
    | AttemptOpened
    | MachineStarted
    | Running
    | Noticed
    | Priced
    | AttemptEnded
    | Recorded
    | Waiting
    | Sighted
    | CancelRequested
    | StopAsked
    | Ended
    | Reopened
)


class Entry(msgspec.Struct, frozen=True):
    """An event in its place in the log."""

    run: str
    seq: int
    time: float
    event: Event


def encode(event: Event) -> bytes:
    """An event as JSON."""
    return msgspec.json.encode(event, enc_hook=encoding)


def decode(data: bytes) -> Event:
    """What ``encode`` made.

    Raises:
        msgspec.DecodeError: it is no event.
    """
    event: Event = msgspec.json.decode(data, type=Event, dec_hook=decoding)
    return event


def encoding(path: object) -> str:
    """How msgspec is to write a path."""
    return str(path)


def decoding(kind: type, text: str) -> Path:
    """How msgspec is to read one."""
    if kind is not Path:
        raise NotImplementedError(kind)
    return Path(text)
