"""What is known of the spot market at a moment, and what of that is worth to be kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotweld.placement.placer import Ending, Sighting
from spotweld.values.offers import CapacityType

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from spotweld.placement.placer import Observation
    from spotweld.values.offers import Offer

_WORTH = 0.02
"""The share by which a price has to have changed for it to be kept."""


def facts(seen: Observation) -> dict[str, bool]:
    """Whether spot could be had, for each zone of which it is known.

    Providers that tell are believed. Of others, a zone counts as having capacity while a machine of the run is there,
    and as having none since the run was refused or interrupted there, until it gets one again.
    """
    last = {one.zone: one for one in seen.past if one.capacity_type is CapacityType.SPOT}
    known = {zone: False for zone, one in last.items() if one.ending is not Ending.OTHER}
    known |= {zone: room > 0 for zone, room in seen.rooms.items()}
    if seen.held is not None and seen.held.offer.capacity_type is CapacityType.SPOT:
        known[seen.held.offer.zone] = True
    return known


def fresh(now: float, offers: Sequence[Offer], up: Mapping[str, bool], seen: Sequence[Sighting]) -> Sighting | None:
    """What is new as against earlier sightings; None: nothing that is worth to be kept.

    Args:
        now: seconds since 1970 UTC.
        offers: spot's, with the prices of now.
        up: whether one could be had, by zone.
        seen: what was seen before, oldest first.
    """
    known_up: dict[str, bool] = {}
    known_prices: dict[str, float] = {}
    for sighting in seen:
        known_up |= sighting.up
        known_prices |= sighting.prices
    turned = {zone: is_up for zone, is_up in up.items() if known_up.get(zone) is not is_up}
    prices = {offer.zone: float(offer.hourly.amount) for offer in offers}
    moved = {zone: price for zone, price in prices.items() if _differs(price, known_prices.get(zone))}
    return Sighting(now, turned, moved) if turned or moved else None


def _differs(price: float, known: float | None) -> bool:
    return known is None or abs(price - known) > _WORTH * known
