"""How a checkpoint gets to where it is durable: straight to the store, or through fast tiers first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotweld.checkpoint.relaying import Load, Relay
from spotweld.checkpoint.voice import warn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotweld.checkpoint.publishing import Publisher, Publishing
    from spotweld.checkpoint.relaying import Carried
    from spotweld.store.heads import Kept
    from spotweld.store.objects import Objects
    from spotweld.values.clocks import Clock


class Leg:
    """One tier on the route, with what publishes there what is carried to it."""

    def __init__(self, url: str, objects: Objects, publisher: Publisher, every: float) -> None:
        self.url, self.objects, self.publisher, self.every = url, objects, publisher, every


class Route:
    """For the training thread alone.

    Args:
        legs: fastest first; the last one is the store.
        clock: time.
        published: the newest step that the store has; None: none.
        ways: what publishes snapshots in the first tier, and in the store; None: what the legs have.
    """

    def __init__(
        self,
        legs: Sequence[Leg],
        clock: Clock,
        published: int | None,
        ways: tuple[Publishing, Publishing] | None = None,
    ) -> None:
        self._legs = list(legs)
        self.first, self._straight = ways or (legs[0].publisher, legs[-1].publisher)
        """Where snapshots go."""
        self.published = published
        self.store = legs[-1].url
        first = legs[0]
        self._relays = [
            (leg.url, Relay(first.objects, leg.publisher, clock, every=leg.every)) for leg in self._legs[1:]
        ]

    @property
    def tier(self) -> str:
        """URL of the fast tier where snapshots go; empty: they go straight to the store."""
        return "" if self.direct else self._legs[0].url

    @property
    def direct(self) -> bool:
        """What is saved is durable."""
        return len(self._legs) == 1

    @property
    def busy(self) -> bool:
        """Something is on its way to a slower tier."""
        return any(relay.busy for _, relay in self._relays)

    @property
    def ready(self) -> bool:
        """A snapshot can be published: nobody else uses the publisher."""
        return not (self.direct and self.busy)

    @property
    def carries(self) -> tuple[float, Load] | None:
        """What is being carried to the store, and since when, by the monotonic clock; None: nothing is."""
        return self._relays[-1][1].carries if self._relays else None

    def saved(self, kept: Kept, began: float, *, alone: bool = False) -> None:
        """A checkpoint is in the first tier: carry it on. No save may run.

        Args:
            kept: what the first tier has published.
            began: when its capture began, by the monotonic clock.
            alone: let it depend on no other checkpoint where it gets to.
        """
        manifest = self.first.newest
        if self.direct or manifest is None:
            return
        for _, relay in self._relays:
            relay.offer(Load(kept, manifest, began, alone))
        self._pin()

    def stand_alone(self) -> None:
        """Let the next snapshot depend on no other where it is published. No save may run."""
        self.first.stand_alone()

    def collect(self) -> list[tuple[str, Carried]]:
        """What has come to slower tiers, or failed to, since the last call; with the tier's URL."""
        return [(url, carried) for url, relay in self._relays for carried in relay.collect()]

    def hurry(self) -> None:
        """Wait for nothing but the stores."""
        for _, relay in self._relays:
            relay.hurry()

    def calm(self) -> None:
        """Wait for their turns again."""
        for _, relay in self._relays:
            relay.calm()

    def wait(self, timeout: float) -> None:
        """Wait for what is on its way to the store, at most so many seconds of real time."""
        if self._relays:
            self._relays[-1][1].wait(timeout)

    def close(self) -> None:
        """Carry nothing more."""
        for _, relay in self._relays:
            relay.close()

    def give_up_tiers(self) -> bool:
        """From now on publish straight to the store; False if that is so already."""
        if self.direct:
            return False
        warn(f"the tier {self._legs[0].url} is given up: checkpoints go straight to {self.store}")
        self.close()
        self._legs, self.first = self._legs[-1:], self._straight
        return True

    def _pin(self) -> None:
        self.first.pinned = frozenset().union(*(relay.reads for _, relay in self._relays))
