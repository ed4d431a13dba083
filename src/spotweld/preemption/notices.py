"""One notice object for every cloud, scheduler and signal."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import StrEnum

import msgspec


class Kind(StrEnum):
    """What a notice says."""

    TERMINATE = "terminate"
    """The machine will be taken: save, and be gone by the deadline."""
    REBALANCE = "rebalance"
    """The machine is at a higher risk: save soon, and go on."""


class Notice(msgspec.Struct, frozen=True):
    """A warning that a machine will be taken."""

    id: str
    """The same for every repetition of the same warning. Sources without an id of their own hash what they said."""
    kind: Kind
    source: str
    """``aws``, ``gcp``, ``azure``, ``signal``, ``slurm``, ``kubernetes``, ``file``."""
    deadline: float | None
    """When the machine goes, seconds since 1970 UTC by the machine's clock; None: unknown."""
    received: float
    """When it was heard, by the same clock."""


class Withdrawal(msgspec.Struct, frozen=True):
    """The notice with this id does not hold any more (Azure cancels events)."""

    id: str
    source: str


class Source(ABC):
    """Where notices come from. One small class per place; each runs in a thread of its own."""

    name: str

    @abstractmethod
    def wait(self, timeout: float) -> Notice | Withdrawal | None:
        """Block for at most about ``timeout`` seconds until there is something new; None if there is nothing.

        Never raises for what the network or the metadata service does: a source that cannot hear says nothing.
        May say the same notice again; the watcher drops repetitions.
        """

    @abstractmethod
    def close(self) -> None:
        """Give back what the source holds. May be called from another thread, and twice."""
