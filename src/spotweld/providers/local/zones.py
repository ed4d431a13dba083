"""What a zone has, loses and asks at a moment. Pure: everything follows from the project file and the trace."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import msgspec

from spotweld.errors import ProviderError
from spotweld.providers.local.traces import Seeded, read_trace
from spotweld.values.money import Money
from spotweld.values.offers import CapacityType, Offer

if TYPE_CHECKING:
    from spotweld.project.nouns import LocalProvider, LocalZone
    from spotweld.providers.local.traces import Timeline

PROVIDER = "local"


class Loss(msgspec.Struct, frozen=True):
    """A zone loses capacity. Times are seconds since the cloud began, on the user's clock and not the trace's."""

    at: float
    capacity: int
    """Spot machines that may stay."""
    lead: float | None
    """Seconds of warning; None: no warning at all."""

    @property
    def decided(self) -> float:
        """When it is settled who has to go, in the same time as ``at``: with the warning."""
        return self.at - (self.lead or 0.0)


class Zone:
    """One zone of the local cloud. ``elapsed`` is always seconds since the cloud began.

    Args:
        config: the provider's section of the project file.
        zone: one of ``config.zones``.

    Raises:
        ProjectError: the zone's recorded trace cannot be used.
    """

    def __init__(self, config: LocalProvider, zone: LocalZone) -> None:
        self.name = zone.name
        self._config = config
        self._zone = zone
        self._timeline = _timeline(config, zone)

    def capacity(self, elapsed: float) -> int:
        """How many spot machines may run."""
        return self._timeline.level(self._trace_time(elapsed)) * self._zone.machines

    def loss(self, elapsed: float, older: int) -> Loss | None:
        """When a machine that runs beside ``older`` older ones is taken: the oldest stay longest.

        Returns:
            The first loss later than ``elapsed`` after which at most ``older`` machines may run; None: never.
        """
        drop = self._timeline.drop(self._trace_time(elapsed), older // self._zone.machines)
        if drop is None:
            return None
        draw = random.Random(f"{self._config.seed}/{self.name}/lead/{drop.ordinal}")  # noqa: S311
        lead = draw.choice(self._config.notices or (None,))
        return Loss(at=drop.at / 1000 / self._config.speed, capacity=drop.level * self._zone.machines, lead=lead)

    def offers(self, elapsed: float) -> list[Offer]:
        """The spot and the on-demand offer, at the prices of then."""
        recorded = self._timeline.price(self._trace_time(elapsed))
        spot, source = self._zone.spot, "spotweld.yaml"
        if recorded is not None and self._zone.trace is not None:
            spot, source = Money(recorded, self._zone.spot.currency), f"trace {self._zone.trace.stem}"
        return [
            self._offer(CapacityType.SPOT, spot, source),
            self._offer(CapacityType.ON_DEMAND, self._zone.on_demand, "spotweld.yaml"),
        ]

    def _offer(self, capacity_type: CapacityType, hourly: Money, source: str) -> Offer:
        return Offer(
            provider=PROVIDER,
            region=self._zone.region,
            zone=f"{PROVIDER}/{self.name}",
            machine_type=PROVIDER,
            capacity_type=capacity_type,
            hourly=hourly,
            price_source=source,
            disk=self._config.disk,
        )

    def _trace_time(self, elapsed: float) -> int:
        return max(0, round(elapsed * self._config.speed * 1000))


def find_zone(config: LocalProvider, offer: Offer) -> LocalZone:
    """The zone of the project file that ``offer`` is in.

    Raises:
        ProviderError: there is none.
    """
    for zone in config.zones:
        if offer.zone == f"{PROVIDER}/{zone.name}":
            return zone
    known = ", ".join(f"{PROVIDER}/{zone.name}" for zone in config.zones)
    raise ProviderError(f"no zone {offer.zone}", f"the project file has {known or 'none'}", "choose one of its offers")


def _timeline(config: LocalProvider, zone: LocalZone) -> Timeline:
    if zone.trace is not None:
        return read_trace(zone.trace, currency=zone.spot.currency)
    return Seeded(f"{config.seed}/{zone.name}", up=config.up * 1000, down=config.down * 1000)
