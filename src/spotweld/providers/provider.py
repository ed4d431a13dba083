"""The seam to whoever rents machines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from spotweld.values.offers import CapacityType, Offer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class MachineState(StrEnum):
    """What the provider says of a machine."""

    STARTING = "starting"
    RUNNING = "running"
    ENDED = "ended"


class MachineEnd(StrEnum):
    """Why a machine ended, in the provider's own record."""

    INTERRUPTED = "interrupted"
    """The provider took it."""
    STOPPED = "stopped"
    """Its owner ended it."""
    EXITED = "exited"
    """It shut itself down."""
    LOST = "lost"
    """It is gone and the provider does not know why."""


class Boot(msgspec.Struct, frozen=True):
    """What a machine does once it is up (a cloud calls it user data)."""

    argv: tuple[str, ...]
    env: dict[str, str]


class Machine(msgspec.Struct, frozen=True):
    """Something rented."""

    id: str
    token: str
    """The client token of the call that started it: starting twice with one token starts one machine."""
    offer: Offer
    labels: dict[str, str]
    state: MachineState
    started: float
    """When it began to cost, seconds since 1970 UTC."""
    ended: float | None = None
    end: MachineEnd | None = None
    noticed: float | None = None
    """When the provider announced that it would take it; None: it did not."""


class Finding(msgspec.Struct, frozen=True):
    """One line of ``spotweld doctor``."""

    ok: bool
    what: str
    todo: str = ""


class Provider(ABC):
    """Rents machines out. Knows nothing about jobs. May raise ``ProviderError`` from every method."""

    name: str

    @abstractmethod
    def offers(self) -> Sequence[Offer]:
        """Everything that is sold, at the prices of now. That it is offered does not mean that it can be had."""

    def room(self, offer: Offer) -> int | None:  # noqa: ARG002
        """How many more machines of a spot offer could be had now; None: this provider does not tell without a try."""
        return None

    @abstractmethod
    def start(self, offer: Offer, boot: Boot, *, token: str, labels: Mapping[str, str]) -> Machine:
        """Rent a machine. Idempotent: a second call with the same token gives the same machine.

        Raises:
            NoCapacity: it cannot be had now.
        """

    @abstractmethod
    def stop(self, machine: str) -> None:
        """End the machine with this id. Idempotent; nothing happens if it is unknown or has ended."""

    @abstractmethod
    def machines(self, labels: Mapping[str, str]) -> Sequence[Machine]:
        """All machines that carry these labels, those that have ended among them (for at least an hour)."""

    @abstractmethod
    def interrupt(self, machine: str, *, notice: float | None) -> None:
        """Take the machine away, as the provider itself would: a drill.

        Args:
            machine: its id.
            notice: seconds between the warning and the end; None: no warning at all.

        Raises:
            ProviderError: this provider offers no such drill.
        """

    @abstractmethod
    def health(self) -> Sequence[Finding]:
        """What is there, what is missing, how to get it."""


def rooms(provider: Provider, offers: Iterable[Offer]) -> dict[str, int]:
    """How many more spot machines could be had, by zone, as far as the provider tells."""
    spot = (offer for offer in offers if offer.capacity_type is CapacityType.SPOT)
    told = ((offer.zone, provider.room(offer)) for offer in spot)
    return {zone: room for zone, room in told if room is not None}
