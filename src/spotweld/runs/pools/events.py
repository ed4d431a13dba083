"""What can happen to a pool, as its log keeps it."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from spotweld.project.nouns import LocalProvider, PlacementRules, Pool
from spotweld.providers.provider import MachineEnd
from spotweld.runs.events import decoding, encoding
from spotweld.runs.pools.members import Recipe
from spotweld.values.money import Money
from spotweld.values.offers import Offer

if TYPE_CHECKING:
    from typing import Any


class MemberEnd(StrEnum):
    """Why a member left, other than with a run."""

    REFUSED = "refused"
    """The machine could not be had at all."""
    INTERRUPTED = "interrupted"
    """The provider took it, or said that it would."""
    FAILED = "failed"
    """It could not be prepared."""
    RETURNED = "returned"
    """It was not needed any more."""


class Wanted(msgspec.Struct, frozen=True, tag="wanted"):
    """The pool is to be kept so, from here on."""

    project: str
    pool: Pool
    recipe: Recipe
    local: LocalProvider
    placement: PlacementRules
    labels: dict[str, str] = {}


class DownWanted(msgspec.Struct, frozen=True, tag="down-wanted"):
    """Somebody wants it emptied."""


class MemberOpened(msgspec.Struct, frozen=True, tag="member-opened"):
    """The intention to rent. Logged before the provider is called; the token makes the call repeatable."""

    token: str
    offer: Offer
    on_demand_hourly: Money
    why: str
    recipe: Recipe


class MemberStarted(msgspec.Struct, frozen=True, tag="member-started"):
    """The provider gave a machine."""

    token: str
    machine: str
    started: float


class MemberReady(msgspec.Struct, frozen=True, tag="member-ready"):
    """It is prepared and waits."""

    token: str


class MemberClosed(msgspec.Struct, frozen=True, tag="member-closed"):
    """No run will get it: its claim says so."""

    token: str
    end: MemberEnd
    why: str


class MemberTaken(msgspec.Struct, frozen=True, tag="member-taken"):
    """A run has it, and pays from then on."""

    token: str
    run: str
    attempt: int
    at: float


class MemberEnded(msgspec.Struct, frozen=True, tag="member-ended"):
    """Its machine does not cost any more."""

    token: str
    ended: float
    end: MachineEnd | None = None
    """Why, by the provider's own record; None: it has not told."""


class Down(msgspec.Struct, frozen=True, tag="down"):
    """It is empty and nobody keeps it, until it is wanted again."""


PoolEvent = (
    Wanted | DownWanted | MemberOpened | MemberStarted | MemberReady | MemberClosed | MemberTaken | MemberEnded | Down
)


class PoolEntry(msgspec.Struct, frozen=True):
    """An event in its place in the log."""

    pool: str
    seq: int
    time: float
    event: PoolEvent


def encode(event: PoolEvent) -> bytes:
    """An event as JSON."""
    return msgspec.json.encode(event, enc_hook=encoding)


def decode(data: bytes) -> PoolEvent:
    """What ``encode`` made.

    Raises:
        msgspec.DecodeError: it is no event.
    """
    event: Any = msgspec.json.decode(data, type=PoolEvent, dec_hook=decoding)
    return event  # type: ignore[no-any-return]
